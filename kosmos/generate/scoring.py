"""How likely a model finds given continuations of a prompt.

Prompt and continuations are read as one tree (:mod:`kosmos.generate.tree`), so what several of them
share is read once: the prompt, but also the first words of names that begin alike. The last word of
a continuation is never read, only looked up. The result is that of reading each continuation behind
its prompt as a row of its own, to rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kosmos.document.encode import Encoded
from kosmos.document.types import Document, Image
from kosmos.errors import CheckpointError, ConfigError
from kosmos.generate.continuation import encode_continuation
from kosmos.generate.reading import SEVERAL_ROWS, Reader
from kosmos.generate.reply import CandidateScore, Failure
from kosmos.generate.request import BAD_REQUEST, Named, Score, as_document
from kosmos.generate.rollout import read_trees, token_log_probs
from kosmos.generate.tree import Prompt, TreeBatch, common_length, grow, symbols
from kosmos.model.kosmos import Kosmos

_WINDOW_REQUESTS = 64
"""Requests that are laid out, and whose pictures are kept, at once."""

_PASS_TOKENS = 100
"""Tokens that gain as much by packed weights as a step of several rows."""


@torch.inference_mode()
def scores(
    reader: Reader, asked: Sequence[Named[Score]], *, batch_tokens: int
) -> Iterator[tuple[str, list[CandidateScore] | Failure]]:
    """Score candidates behind their prompts.

    Args:
        reader: Reads them.
        asked: Requests, whatever their options.
        batch_tokens: Most tokens in one pass.

    Yields:
        The id of a request with the score of each candidate, or with why it has none.

    Raises:
        CheckpointError: If a sum is not finite.
    """
    for first in range(0, len(asked), _WINDOW_REQUESTS):
        images = reader.image_cache.batch()
        laid_out: dict[str, list[_Case]] = {}
        for one in asked[first : first + _WINDOW_REQUESTS]:
            try:
                cases = [_lay_out(reader, one, one.doc)]
                if one.request.neutral is not None:
                    cases.append(_lay_out(reader, one, as_document(one.request.neutral)))
                images.add([image for case in cases for image in case.images], name=one.name)
                laid_out[one.id] = cases
            except BAD_REQUEST as error:
                yield one.failure(error)
        num_tokens = sum(case.num_tokens for cases in laid_out.values() for case in cases)
        reader.expect(SEVERAL_ROWS * (1 + num_tokens // _PASS_TOKENS))
        groups = [
            group
            for cases, soft in zip(laid_out.values(), images.encode(), strict=True)
            for group in _candidates(cases, soft)
        ]
        sums = score_candidates(reader.model, groups, batch_tokens=batch_tokens)
        scored = zip(groups, sums, strict=True)
        for key, cases in laid_out.items():
            (group, totals), *neutral = islice(scored, len(cases))
            priors = neutral[0][1] if neutral else [None] * len(totals)
            yield (
                key,
                [
                    CandidateScore(
                        logprob=total, num_tokens=len(item.token_ids), neutral_logprob=prior
                    )
                    for item, total, prior in zip(group, totals, priors, strict=True)
                ],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A prompt and what may stand behind it."""

    prompt: Encoded
    continuations: list[Encoded]
    names: list[str]
    """What to call each candidate in messages."""

    @property
    def images(self) -> list[Image]:
        """All pictures, those of the prompt first."""
        return [*self.prompt.images, *(i for rest in self.continuations for i in rest.images)]

    @property
    def num_tokens(self) -> int:
        """Tokens to read, but for what candidates share."""
        return len(self.prompt) + sum(map(len, self.continuations))


def _lay_out(reader: Reader, one: Named[Score], doc: Document) -> _Case:
    """The candidates of a request behind a prompt, its own or the neutral one.

    Raises:
        ConfigError: If there is no candidate, or one has no words.
        DataError: If prompt and candidate do not fit the model's context.
        MarkupError: If markup names a cell that there is not.
    """
    request, prompt = one.request, reader.encode(doc)
    if not request.candidates:
        raise ConfigError(
            f"{one.name}: expected at least one candidate, found none",
            hint="score(doc, ['Yes', 'No'])",
        )
    case = _Case(prompt=prompt, continuations=[], names=[])
    for number, candidate in enumerate(request.candidates):
        called = f"{one.name}, candidate {number}"
        continuation = encode_continuation(
            doc,
            prompt,
            as_document(candidate),
            encode=reader.encode,
            eos_id=reader.tokenizer.vocabulary.eos_id if request.end else None,
            name=called,
        )
        if not continuation.loss_mask.any():
            raise ConfigError(
                f"{called}: expected at least one token to score, found none",
                hint="a candidate needs words",
            )
        reader.room(len(prompt) + len(continuation) - 1, f"{called} and its prompt")
        case.continuations.append(continuation)
        case.names.append(called)
    return case


def _candidates(
    cases: Sequence[_Case], soft: Float[Tensor, "images queries width"] | None
) -> Iterator[list["Candidate"]]:
    """The candidates of each case, with their pictures encoded."""
    first = 0
    for case in cases:
        last = first + len(case.prompt.images)
        shown = None if soft is None else soft[first:last]
        group = []
        for continuation, name in zip(case.continuations, case.names, strict=True):
            first, last = last, last + len(continuation.images)
            own = shown
            if shown is not None and soft is not None and first < last:
                own = torch.cat([shown, soft[first:last]])
            group.append(_candidate(case.prompt, continuation, own, name=name))
        first = last
        yield group


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A continuation of a prompt, as what must be read and what must be looked up."""

    read: Prompt
    """The prompt and the continuation up to its last word, without it."""
    before: Int64[np.ndarray, " counted"]
    """Places in ``read`` behind which the counted tokens stand."""
    token_ids: Int64[np.ndarray, " counted"]
    """Tokens whose log-probability counts: words of the continuation, not its images."""


def _candidate(
    prompt: Encoded,
    continuation: Encoded,
    soft_tokens: Float[Tensor, "images queries width"] | None,
    *,
    name: str,
) -> Candidate:
    """Put a continuation behind its prompt; its ``loss_mask`` says which tokens count."""
    counted = np.flatnonzero(continuation.loss_mask)
    last = int(counted[-1])
    image_slots = np.concatenate([prompt.image_slots, continuation.image_slots[:last]])
    if soft_tokens is not None:
        num_images = int(image_slots.sum()) // soft_tokens.shape[1]
        soft_tokens = soft_tokens[:num_images] if num_images else None
    return Candidate(
        read=Prompt(
            encoded=Encoded(
                token_ids=np.concatenate([prompt.token_ids, continuation.token_ids[:last]]),
                image_slots=image_slots,
                loss_mask=np.concatenate([prompt.loss_mask, continuation.loss_mask[:last]]),
                images=(*prompt.images, *continuation.images),
                image_sizes=(*prompt.image_sizes, *continuation.image_sizes),
            ),
            soft_tokens=soft_tokens,
            name=name,
        ),
        before=len(prompt) + counted - 1,
        token_ids=continuation.token_ids[counted],
    )


def score_candidates(
    model: Kosmos, groups: Sequence[Sequence[Candidate]], *, batch_tokens: int
) -> list[list[float]]:
    """Log-probability of each candidate.

    Args:
        model: In evaluation mode.
        groups: Candidates behind one prompt together.
        batch_tokens: Most tokens in one pass; a candidate by itself may be longer.

    Returns:
        For each group, the sum over the counted tokens of each candidate.

    Raises:
        CheckpointError: If a sum is not finite, naming the candidate.
    """
    parts = [
        [(number, index) for index in part]
        for number, group in enumerate(groups)
        for part in _divided(group, batch_tokens)
    ]
    trees = [grow([groups[number][index].read for number, index in part]) for part in parts]
    sums = [[0.0] * len(group) for group in groups]
    for batch in _batches([len(tree) for tree in trees], batch_tokens):
        hidden, read = read_trees(model, [trees[place] for place in batch])
        members = [member for place in batch for member in parts[place]]
        found = _sums(model, hidden, read, [groups[number][index] for number, index in members])
        for (number, index), value in zip(members, found.tolist(), strict=True):
            sums[number][index] = value
    return sums


def _divided(group: Sequence[Candidate], batch_tokens: int) -> list[list[int]]:
    """Candidates of a group, by index, in parts whose trees are small enough."""
    rows = symbols([candidate.read for candidate in group])
    # next to each other what begins alike, so that parts cut as little of the tree as possible
    order = sorted(range(len(group)), key=lambda index: rows[index].tolist())
    parts: list[list[int]] = []
    size = 0
    for place, index in enumerate(order):
        alike = common_length([rows[order[place - 1]], rows[index]]) if place else 0
        size += len(rows[index]) - alike
        if not parts or size > batch_tokens:
            parts.append([])
            size = len(rows[index])
        parts[-1].append(index)
    return parts


def _batches(sizes: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Trees, by index, whose rows together hold few enough tokens.

    Trees of like size come together, so little of a batch is padding.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        if not batches or (len(batches[-1]) + 1) * sizes[index] > batch_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def _sums(
    model: Kosmos,
    hidden: Float[Tensor, "rows slots width"],
    read: TreeBatch,
    candidates: Sequence[Candidate],
) -> Float64[np.ndarray, " candidates"]:
    length = hidden.shape[1]
    places = [
        row * length + path[item.before]
        for row, path, item in zip(read.rows, read.paths, candidates, strict=True)
    ]
    # candidates that part behind a token share the state there, and so its logits
    slots, which = np.unique(np.concatenate(places), return_inverse=True)
    device = hidden.device
    values = token_log_probs(
        model,
        hidden.flatten(0, 1)[torch.from_numpy(slots).to(device)],
        torch.from_numpy(np.concatenate([item.token_ids for item in candidates])).to(device),
        which=torch.from_numpy(which).to(device),
    )
    ends = np.cumsum([len(item.token_ids) for item in candidates])[:-1]
    sums = np.array([part.sum() for part in np.split(values.double().cpu().numpy(), ends)])
    if not np.isfinite(sums).all():
        name = candidates[int(np.flatnonzero(~np.isfinite(sums))[0])].read.name
        raise CheckpointError(
            f"{name}: expected a finite log-probability, found {sums[~np.isfinite(sums)][0]}",
            hint="the weights hold numbers that are not finite, or overflow in a 16-bit dtype: "
            "try float32",
        )
    return sums
