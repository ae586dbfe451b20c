"""The k most probable boxes of what a document asks for, exactly.

A box is two tokens, so its log-probability is that of the first cell and that of the second cell
behind the first. All first ones come with the prompt; the second ones take a look ahead at each
first cell. No box is likelier than its first cell, so the search looks behind the likeliest first
cells, a few in one pass, until what it has found beats every first cell it has not looked behind::

    first cell    -0.4  -1.1 | -2.3  -3.0  ...        looked behind | not yet
    best boxes    -0.9  -1.6  -2.4                    the first two are final, -2.3 bounds the rest

Log-probabilities are the model's own among all tokens, as those of replies are: they tell a model
that would rather say something else from one that is sure, which a distribution among cells alone
would not. One thing has many boxes, a cell to the left or right; non-maximum suppression leaves out
those that overlap a likelier one.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from kosmos.boxes import Box
from kosmos.document.encode import Encoded
from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from kosmos.generate.reading import SEVERAL_ROWS, Reader
from kosmos.generate.reply import Failure, Located
from kosmos.generate.request import BAD_REQUEST, Locate, Named
from kosmos.generate.rollout import Rollout
from kosmos.generate.schedule import read_together
from kosmos.generate.tree import Prompt
from kosmos.text.locations import guaranteed_iou, locations_to_box
from kosmos.text.prompts import phrase as phrase_prompt
from kosmos.text.vocabulary import PHRASE, PHRASE_END, Vocabulary

_MOST_LOOKS = 256
"""First cells looked behind in one pass, all prompts together; 64 MiB of float32 logits."""
_MOST_LOOKS_EACH = 64
"""The same of one prompt, whose bound may turn out to need fewer."""


@torch.inference_mode()
def locate(
    reader: Reader, asked: Sequence[Named[Locate]], *, batch_size: int
) -> Iterator[tuple[str, list[Located] | Failure]]:
    """Find boxes.

    Args:
        reader: Reads the documents.
        asked: Requests; all for as many boxes and with the same suppression.
        batch_size: Most documents read at once.

    Yields:
        The id of a request with its boxes, likeliest first, or with why it has none; each once,
        in any order.

    Raises:
        CheckpointError: If the model's logits are not finite.
    """
    vocabulary, k = reader.tokenizer.vocabulary, asked[0].request.k
    prompts: dict[str, Prompt] = {}
    for one in asked:
        try:
            row = reader.encode(_asking(one.doc, one.request.phrase))
            row = _open_object(row, vocabulary, name=one.name)
            reader.room(len(row), one.name)
            prompts[one.id] = Prompt(encoded=row, name=one.name)
        except BAD_REQUEST as error:
            yield one.failure(error)
    for batch in read_together(prompts, most=batch_size):
        reader.expect(SEVERAL_ROWS * (1 + sum(map(len, batch)) + k))
        groups, failed = reader.show(batch)
        yield from failed.items()
        if not groups:
            continue
        keys = [key for group in groups for key in group]
        rollout = Rollout(reader.model, [list(group.values()) for group in groups], room=k)
        pairs = best_pairs(rollout, len(keys), vocabulary, k=k, nms=asked[0].request.nms)
        for key, found in zip(keys, pairs, strict=True):
            yield key, [_located(reader, pair, prompts[key].encoded) for pair in found]


def _asking(doc: Document, phrase: str | None) -> Document:
    """A prompt for the place of a phrase; of None the document asks already."""
    if phrase is None:
        return doc
    has_words = bool(doc.parts) and not isinstance(doc.parts[-1], Image)
    words = f"{PHRASE}{phrase}{PHRASE_END}" if has_words else phrase_prompt(phrase)
    return Document([*doc.parts, Text(words)], id=doc.id, meta=doc.meta)


def _open_object(prompt: Encoded, vocabulary: Vocabulary, *, name: str) -> Encoded:
    """A prompt behind which a box stands next: ``<object>`` is added to one that ends in a phrase.

    Raises:
        ConfigError: If the vocabulary has no grid.
        DataError: If the prompt has no image, or ends in anything else.
    """
    object_id = vocabulary.object_id
    if not prompt.images:
        raise DataError(f"{name}: expected an image to find a box in, found none")
    last = int(prompt.token_ids[-1])
    if last in (object_id, vocabulary.delimiter_id):
        return prompt
    if last != vocabulary.phrase_end_id:
        raise DataError(
            f"{name}: expected a prompt that ends in </phrase> or <object>, found another end",
            hint="locate(picture, 'the dog on the left')",
        )
    return replace(
        prompt,
        token_ids=np.append(prompt.token_ids, object_id),
        image_slots=np.append(prompt.image_slots, False),
        loss_mask=np.append(prompt.loss_mask, False),
    )


def _located(reader: Reader, pair: "FoundPair", prompt: Encoded) -> Located:
    """A pair of locations in the last image of a prompt, the preprocessing undone."""
    num_cells = reader.tokenizer.vocabulary.num_cells
    width, height = prompt.image_sizes[-1]
    inside = locations_to_box(*pair.locations, num_cells)
    box = reader.transform.box_out(inside, width=width, height=height).clipped()
    return Located(
        box=box,
        box_px=box.to_pixels(width=width, height=height),
        logprob=pair.logprob,
        confidence=math.exp(pair.logprob / 2),
        locations=pair.locations,
        guaranteed_iou=guaranteed_iou(*pair.locations, num_cells),
        image_index=len(prompt.images) - 1,
    )


class FoundPair(NamedTuple):
    """A box as the model says it."""

    logprob: float
    """Of the two location tokens together."""
    locations: tuple[int, int]
    """Top left and bottom right."""


@runtime_checkable  # so that shape checks in tests can look at it
class LookAhead(Protocol):
    """What the search needs of a :class:`~kosmos.generate.rollout.Rollout`."""

    log_probs: Float[Tensor, "rows vocab"]
    """Of the token after each prompt, float32."""

    def look_ahead(
        self, rows: Sequence[int], token_ids: Sequence[int]
    ) -> Float[Tensor, "looks vocab"]:
        """Log-probabilities behind row ``rows[i]`` and ``token_ids[i]``; rows stay as they are."""
        ...


def best_pairs(
    rows: LookAhead, num_rows: int, vocabulary: Vocabulary, *, k: int, nms: float | None = None
) -> list[list[FoundPair]]:
    """The most probable pairs of locations behind each prompt whose corners are in order.

    Args:
        rows: Prompts behind which a location token stands next.
        num_rows: How many.
        vocabulary: Which tokens are locations.
        k: Most pairs of each prompt.
        nms: Of pairs in this order, leave out each whose box has a larger intersection over union
            with one that is kept; None keeps all.

    Returns:
        For each prompt ``k`` pairs, fewer only if there are no more, the likeliest first; of
        equally likely ones the one with the lower locations.
    """
    first = vocabulary.first_location_id
    cells = slice(first, first + vocabulary.num_locations)
    start = rows.log_probs[:, cells].double().cpu().numpy()
    searches = [_Search(start[row], vocabulary.num_cells, k, nms) for row in range(num_rows)]
    while True:
        looks = [(row, cell) for row, search in enumerate(searches) for cell in search.wanted()]
        if not looks:
            return [search.kept for search in searches]
        for begin in range(0, len(looks), _MOST_LOOKS):
            part = looks[begin : begin + _MOST_LOOKS]
            behind = rows.look_ahead([row for row, _ in part], [first + cell for _, cell in part])
            values = behind[:, cells].double().cpu().numpy()
            for (row, cell), seconds in zip(part, values, strict=True):
                searches[row].expand(cell, seconds)
        for search in searches:
            search.settle()


class _Search:
    """The search behind one prompt."""

    def __init__(
        self, firsts: Float64[np.ndarray, " cells"], num_cells: int, k: int, nms: float | None
    ) -> None:
        # rounding may put the logarithm of a certainty above zero, and the bound needs it below
        self._firsts = np.minimum(firsts, 0.0)
        self._order: list[int] = np.argsort(-self._firsts, kind="stable").tolist()
        self._num_cells = num_cells
        self._k = k
        self._nms = nms
        self._num_expanded = 0
        self._open: list[tuple[float, tuple[int, int]]] = []  # negated log-probability: a heap
        self._boxes: list[Box] = []
        self.kept: list[FoundPair] = []
        """Pairs that are final."""

    def wanted(self) -> list[int]:
        """First cells to look behind next, the likeliest first; none once the search is over."""
        if len(self.kept) == self._k:
            return []
        number = min(max(self._k, self._num_expanded), _MOST_LOOKS_EACH)
        cells = self._order[self._num_expanded : self._num_expanded + number]
        # without suppression, what is found already is a bound on what is worth a look
        missing = self._k - len(self.kept)
        if self._nms is None and len(self._open) >= missing:
            least = -heapq.nsmallest(missing, self._open)[-1][0]
            cells = [cell for cell in cells if self._firsts[cell] >= least]
        return cells

    def expand(self, cell: int, seconds: Float64[np.ndarray, " cells"]) -> None:
        """Take the second cells behind the first cell that is next in order."""
        assert cell == self._order[self._num_expanded]
        self._num_expanded += 1
        top, left = divmod(cell, self._num_cells)
        ends = np.arange(self._num_cells**2).reshape(self._num_cells, self._num_cells)
        allowed = ends[top:, left:].ravel()  # neither above nor left of the first
        totals = self._firsts[cell] + np.minimum(seconds[allowed], 0.0)
        for total, end in zip(totals.tolist(), allowed.tolist(), strict=True):
            heapq.heappush(self._open, (-total, (cell, end)))

    def settle(self) -> None:
        """Keep the pairs that nothing yet to be found can beat."""
        is_over = self._num_expanded == len(self._order)
        bound = -np.inf if is_over else self._firsts[self._order[self._num_expanded]]
        while self._open and len(self.kept) < self._k:
            if not is_over and -self._open[0][0] <= bound:
                return  # an equal one with lower locations may come
            negated, pair = heapq.heappop(self._open)
            if self._nms is not None:
                box = locations_to_box(*pair, self._num_cells)
                if any(box.iou(other) > self._nms for other in self._boxes):
                    continue
                self._boxes.append(box)
            self.kept.append(FoundPair(-negated, pair))
