"""The one place where a document becomes token ids, in training and in inference alike.

::

    text          <s> words </s>
    caption       <s> <image> slots </image> words </s>
    interleaved   <s> words <image> slots </image> words <image> slots </image> words </s>
    grounded      <s> <image> slots </image> <grounding> words
                  <phrase> words </phrase> <object> location location </object> words </s>
    talk          <s> asked answered </s> asked answered </s>
    prompt        any of these without the last </s>

In a talk every answer ends, and learns to, as the last one does: an ``assistant`` is done where
somebody else goes on. ``<grounding>`` stands directly after ``</image>`` wherever the words up to
the next image link to a box. What is told from what: roles and loss flags end a run of words, and
each run is tokenized by itself, so that a prompt has the same ids whether its answer follows or
not.

Source: KOSMOS-1 (arXiv:2302.14045) section 2.1, KOSMOS-2 (arXiv:2306.14824) section 2; rounding,
splicing and loss follow unilm's kosmos-2/unilm/data/vl, whose checkpoints depend on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Bool, Int64

from kosmos.document.layout import Layout
from kosmos.document.marked_text import MarkedText, join_runs, mark_phrase, mark_text, tokenize_run
from kosmos.document.serialize import checked_text
from kosmos.document.types import Document, Grounded, Image, Part, Text
from kosmos.errors import DataError, MarkupError
from kosmos.image.codec import image_size
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform
from kosmos.text.locations import box_to_locations
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import GROUNDING

FIRST_COUNTING_ID = 4
"""The id in the first slot where slots count up (released inference, HF)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One row of token ids and what belongs to it."""

    token_ids: Int64[np.ndarray, " tokens"]
    """Ids from ``<s>`` on."""
    image_slots: Bool[np.ndarray, " tokens"]
    """True where a soft image token stands."""
    loss_mask: Bool[np.ndarray, " tokens"]
    """True where predicting the token counts; never at ``<s>``, ``<image>``, slots and
    ``</image>``."""
    images: tuple[Image, ...]
    """The pictures, in the order of their slots."""
    image_sizes: tuple[tuple[int, int], ...]
    """Width and height of each picture in pixels, before any crop or resize."""
    num_dropped_boxes: int = 0
    """Boxes that the crop left out of the picture."""
    num_dropped_phrases: int = 0
    """Phrases that lost all their boxes, or whose ends fall inside a piece; their words stay."""

    def __len__(self) -> int:
        return len(self.token_ids)


def encode(
    doc: Document, tokenizer: Tokenizer, *, layout: Layout, image: ImageConfig, complete: bool
) -> Encoded:
    """Lay a document out as token ids.

    ``Document([Image("snowman.png"), Text("<grounding>An image of")])`` as a prompt with the
    :data:`~kosmos.document.layout.INFERENCE` layout::

        <s>  <image>  64 slots  </image>  <grounding>  ▁An  ▁image  ▁of
         0    64003    4 .. 67    64004       64012     712   1648    9

    Args:
        doc: What to lay out. Boxes are fractions of the last image before them.
        tokenizer: Words to ids.
        layout: The options in which the paper, the release and the HF port differ.
        image: What preprocessing does to boxes.
        complete: End with ``</s>``, for training; False lays out a prompt.

    Raises:
        DataError: If a box is not inside its image or has no image before it, if a text holds what
            UTF-8 cannot, or if a complete document has no words; the message names the document
            and the part.
        MarkupError: If a text holds a location token the vocabulary does not have.
        ImageError: If a picture has no readable size.
    """
    return _Encoder(doc, tokenizer, layout, image).encode(complete=complete)


class _Encoder:
    """The row of one document while it grows."""

    def __init__(
        self, doc: Document, tokenizer: Tokenizer, layout: Layout, image: ImageConfig
    ) -> None:
        self.doc = doc
        self.tokenizer = tokenizer
        self.vocabulary = tokenizer.vocabulary
        self.layout = layout
        self.image = image
        self.token_ids: list[int] = []
        self.image_slots: list[bool] = []
        self.loss_mask: list[bool] = []
        self.image_sizes: list[tuple[int, int]] = []
        self.num_dropped_boxes = 0
        self.num_dropped_phrases = 0
        self.has_words = False
        self.last: Part | None = None

    def encode(self, *, complete: bool) -> Encoded:
        self._append([self.vocabulary.bos_id], loss=False)
        words: list[tuple[int, Text | Grounded]] = []
        for index, part in enumerate(self.doc.parts):
            if isinstance(part, Image):
                self._words(words)
                words = []
                self._take_turn(part)
                self._image(index, part)
            else:
                words.append((index, part))
        self._words(words)
        if complete:
            if not self.has_words:
                raise DataError(
                    f"document {self.doc.id!r}: expected words to learn from, found none"
                )
            self._end(self.doc.parts[-1])
        return Encoded(
            token_ids=np.array(self.token_ids, dtype=np.int64),
            image_slots=np.array(self.image_slots, dtype=np.bool_),
            loss_mask=np.array(self.loss_mask, dtype=np.bool_),
            images=self.doc.images,
            image_sizes=tuple(self.image_sizes),
            num_dropped_boxes=self.num_dropped_boxes,
            num_dropped_phrases=self.num_dropped_phrases,
        )

    def _append(self, ids: Sequence[int], *, loss: bool, slots: bool = False) -> None:
        self.token_ids += ids
        self.image_slots += [slots] * len(ids)
        self.loss_mask += [loss] * len(ids)

    def _take_turn(self, part: Part) -> None:
        """End the answer before a part that somebody else says."""
        last, self.last = self.last, part
        if last is not None and last.role == "assistant" != part.role:
            self._end(last)

    def _end(self, last: Part) -> None:
        self._append([self.vocabulary.eos_id], loss=isinstance(last, Image) or last.loss)

    def _where(self, index: int) -> str:
        return f"document {self.doc.id!r}, part {index}"

    def _image(self, index: int, part: Image) -> None:
        self.image_sizes.append(image_size(part.source, where=self._where(index)))
        count = self.layout.num_image_tokens
        if self.layout.slot_ids == "image":
            slots = [self.vocabulary.image_id] * count
        else:
            slots = list(range(FIRST_COUNTING_ID, FIRST_COUNTING_ID + count))
        self._append([self.vocabulary.image_id], loss=False)
        self._append(slots, loss=False, slots=True)
        self._append([self.vocabulary.image_end_id], loss=False)

    def _words(self, parts: list[tuple[int, Text | Grounded]]) -> None:
        """The words between two images, ``<grounding>`` before them if they link to a box."""
        if not parts:
            return
        for index, part in parts:
            checked_text(part.text, self._where(index))
        first = parts[0][1]
        self._take_turn(first)
        num_found = 0
        marked: list[tuple[Text | Grounded, MarkedText]] = []
        for index, part in parts:
            locations = self._locations(index, part)
            num_found += len(locations)
            marked.append((part, self._mark(index, part, locations)))
        if num_found and not first.text.lstrip().startswith(GROUNDING):
            self._append([self.vocabulary.grounding_id], loss=first.loss)
        for _, group in groupby(marked, key=lambda item: (item[0].role, item[0].loss)):
            said, runs = zip(*group, strict=True)
            self._take_turn(said[-1])
            run = join_runs(runs)
            self.has_words = self.has_words or bool(run.words.strip())
            try:
                ids, num_unaligned = tokenize_run(run, self.tokenizer, self.layout)
            except MarkupError as error:
                raise _at(self._where(parts[0][0]), error) from error
            self.num_dropped_phrases += num_unaligned
            self._append(ids, loss=said[-1].loss)

    def _locations(self, index: int, part: Text | Grounded) -> list[tuple[int, int]]:
        """Where the boxes of a part lie on the grid over the preprocessed image before it."""
        if isinstance(part, Text) or not part.boxes:
            return []
        where = self._where(index)
        if not self.image_sizes:
            raise DataError(f"{where}: expected an image before the boxes, found none")
        boxes = [box.checked(where) for box in part.boxes]
        if not self.layout.ground:
            return []
        num_cells = self.vocabulary.num_cells
        if num_cells == 0:
            raise DataError(
                f"{where}: expected a vocabulary with location tokens, found boxes without one",
                hint="layout.ground=False reads grounded captions as plain ones; "
                "a tokenizer loaded with num_cells=32 has the tokens",
            )
        width, height = self.image_sizes[-1]
        transform = ImageTransform(self.image)
        moved = [transform.box_in(box, width=width, height=height) for box in boxes]
        kept = [box for box in moved if box is not None]
        self.num_dropped_boxes += len(boxes) - len(kept)
        self.num_dropped_phrases += not kept
        return [box_to_locations(box, num_cells, self.layout.rounding) for box in kept]

    def _mark(
        self, index: int, part: Text | Grounded, locations: Sequence[tuple[int, int]]
    ) -> MarkedText:
        where = self._where(index)
        if locations:
            return mark_phrase(part.text, locations, self.tokenizer, where=where)
        if isinstance(part, Grounded):
            return MarkedText(part.text)
        try:
            return mark_text(part.text, self.tokenizer, ground=self.layout.ground)
        except MarkupError as error:
            raise _at(where, error) from error


def _at(where: str, error: MarkupError) -> MarkupError:
    """The same error, naming the document and the part."""
    reason = error.message.removeprefix(f"character {error.position}: ")
    return MarkupError(f"{where}: {reason}", position=error.position, hint=error.hint)
