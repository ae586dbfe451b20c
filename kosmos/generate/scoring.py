"""How likely a model finds given continuations of a prompt.

Prompt and continuations are read as one tree (:mod:`kosmos.generate.tree`), so what several of them
share is read once: the prompt, but also the first words of names that begin alike. The last word of
a continuation is never read, only looked up. The result is that of reading each continuation behind
its prompt as a row of its own, to rounding.

- :func:`scores`: documents and their candidates to scores
- :class:`Candidate`, :func:`make_candidate`: a continuation behind its prompt
- :func:`score_candidates`: log-probabilities of many, in few passes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kosmos.document.encode import Encoded
from kosmos.document.types import Document
from kosmos.errors import CheckpointError, ConfigError
from kosmos.generate.continuation import encode_continuation
from kosmos.generate.reading import SEVERAL_ROWS, Reader
from kosmos.generate.reply import CandidateScore
from kosmos.generate.request import prompt_name
from kosmos.generate.rollout import token_log_probs
from kosmos.generate.tree import Prompt, Reading, common_length, grow, read_trees, symbols
from kosmos.model.kosmos import Kosmos

_WINDOW_ASKS = 64
"""Prompts with candidates that are laid out, and whose pictures are kept, at once."""

_PASS_TOKENS = 100
"""Tokens that gain as much by packed weights as a step of several rows."""

Asked: TypeAlias = tuple[Document, Sequence[Document]]
"""A prompt and its candidates."""


def scores(
    reader: Reader,
    asks: Sequence[Asked],
    *,
    end: bool,
    neutral: Document | None,
    batch_tokens: int,
) -> list[list[CandidateScore]]:
    """Score candidates behind their prompts.

    Args:
        reader: Reads them.
        asks: Prompts, each with its candidates.
        end: Whether ``</s>`` behind a candidate counts as well.
        neutral: A prompt to score all candidates behind as well.
        batch_tokens: Most tokens in one pass.

    Raises:
        ConfigError: If a prompt has no candidate, or a candidate no words.
        DataError: If prompt and candidate do not fit the model's context.
    """
    found = []
    for first in range(0, len(asks), _WINDOW_ASKS):
        window = asks[first : first + _WINDOW_ASKS]
        indices = range(first, first + len(window)) if len(asks) > 1 else [None]
        names = [prompt_name(doc, index) for (doc, _), index in zip(window, indices, strict=True)]
        sums = _score_window(reader, window, names, end=end, batch_tokens=batch_tokens)
        priors: list[list[tuple[float, int]]] | None = None
        if neutral is not None:
            behind = [(neutral, given) for _, given in window]
            priors = _score_window(reader, behind, names, end=end, batch_tokens=batch_tokens)
        for row, scored in enumerate(sums):
            found.append(
                [
                    CandidateScore(
                        logprob=total,
                        num_tokens=count,
                        neutral_logprob=None if priors is None else priors[row][place][0],
                    )
                    for place, (total, count) in enumerate(scored)
                ]
            )
    return found


def _score_window(
    reader: Reader, window: Sequence[Asked], names: Sequence[str], *, end: bool, batch_tokens: int
) -> list[list[tuple[float, int]]]:
    """Sum and number of tokens of each candidate; all pictures are encoded together."""
    images = reader.image_cache.batch()
    laid_out: list[list[tuple[Encoded, Encoded, str]]] = []
    for (doc, given), name in zip(window, names, strict=True):
        if not given:
            raise ConfigError(
                f"{name}: expected at least one candidate, found none",
                hint="score(doc, ['Yes', 'No'])",
            )
        prompt = reader.encode(doc)
        laid_out.append([])
        for number, candidate in enumerate(given):
            called = f"{name}, candidate {number}"
            continuation = encode_continuation(
                doc,
                prompt,
                candidate,
                encode=reader.encode,
                eos_id=reader.tokenizer.vocabulary.eos_id if end else None,
                name=called,
            )
            reader.room(len(prompt) + len(continuation) - 1, f"{called} and its prompt")
            images.add([*prompt.images, *continuation.images], name=called)
            laid_out[-1].append((prompt, continuation, called))
    num_tokens = sum(len(group[0][0]) + sum(len(m) for _, m, _ in group) for group in laid_out)
    reader.expect(SEVERAL_ROWS * (1 + num_tokens // _PASS_TOKENS))
    soft = iter(images.encode())
    groups = [
        [
            make_candidate(prompt, continuation, soft_tokens=next(soft), name=called)
            for prompt, continuation, called in group
        ]
        for group in laid_out
    ]
    sums = score_candidates(reader.model, groups, batch_tokens=batch_tokens)
    return [
        [(total, len(item.token_ids)) for item, total in zip(*pair, strict=True)]
        for pair in zip(groups, sums, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A continuation of a prompt, as what must be read and what must be looked up."""

    read: Prompt
    """The prompt and the continuation up to its last word, without it."""
    before: Int64[np.ndarray, " counted"]
    """Places in ``read`` behind which the counted tokens stand."""
    token_ids: Int64[np.ndarray, " counted"]
    """Tokens whose log-probability counts: words of the continuation, not its images."""


def make_candidate(
    prompt: Encoded,
    continuation: Encoded,
    *,
    soft_tokens: Float[Tensor, "images queries width"] | None,
    name: str,
) -> Candidate:
    """Put a continuation behind its prompt.

    Args:
        prompt: At least one token.
        continuation: Its ``loss_mask`` says which tokens count.
        soft_tokens: Images of both, encoded.
        name: What to call it in messages.

    Raises:
        ConfigError: If no token counts.
    """
    counted = np.flatnonzero(continuation.loss_mask)
    if not len(counted):
        raise ConfigError(
            f"{name}: expected at least one token to score, found none",
            hint="a candidate needs words",
        )
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
        reading = read_trees(model, [trees[place] for place in batch])
        members = [member for place in batch for member in parts[place]]
        found = _sums(model, reading, [groups[number][index] for number, index in members])
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
    model: Kosmos, reading: Reading, candidates: Sequence[Candidate]
) -> Float64[np.ndarray, " candidates"]:
    length = reading.hidden.shape[1]
    places = [
        row * length + path[item.before]
        for row, path, item in zip(reading.rows, reading.paths, candidates, strict=True)
    ]
    # candidates that part behind a token share the state there, and so its logits
    slots, which = np.unique(np.concatenate(places), return_inverse=True)
    device = reading.hidden.device
    values = token_log_probs(
        model,
        reading.hidden.flatten(0, 1)[torch.from_numpy(slots).to(device)],
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
