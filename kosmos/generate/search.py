"""Choose replies: one token at a time for each row, or the best of several beams.

All see a model only as :class:`Rows`, and a row only by itself: what a row answers
does not depend on its batch, and a row that is done leaves it.

A stop string ends a reply as ``</s>`` does, but before ``min_new_tokens`` too; the tokens that
complete it count. So it is in Hugging Face (pinned by a parity test) but for this: there a string
may begin in the prompt, and control tokens have a text, so that ``"e>"`` ends a reply at
``<image>``; and where so many candidates end that fewer than ``num_beams`` can run on, ended ones
are kept running there at a score of -1e9, and fewer run on here.

Source: transformers 5.23 ``generation/utils.py`` for beam semantics (pinned by a parity test);
fairseq's sequence generator, as the KOSMOS-2 release runs it, for ``score_prompt``.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kosmos.errors import ConfigError
from kosmos.generate.config import Decoding
from kosmos.generate.constraints import Ahead, Constraint, Constraints, Place, StopStrings
from kosmos.generate.sampling import choose

_BLOCK_TOKENS = 64
"""Tokens whose maximum stands for them while the best of many are sought."""


@runtime_checkable  # so that shape checks in tests can look at it
class Rows(Protocol):
    """Rows that grow by one token at a time, and the log-probabilities of the next one."""

    log_probs: Float[Tensor, "rows vocab"]
    """Of the token after each prompt, float32."""

    def step(
        self,
        rows: Sequence[int],
        token_ids: Sequence[int],
        *,
        ahead: Sequence[Sequence[Ahead]] = (),
    ) -> Float[Tensor, "rows vocab"]:
        """Make row ``i`` the old row ``rows[i]`` continued with ``token_ids[i]``.

        Rows not named leave; a row named twice is continued twice.

        Args:
            rows: Old rows.
            token_ids: A token for each.
            ahead: For each new row tokens that it may go on with, none or some, so that they may
                be read at once; what is returned does not depend on it.

        Returns:
            Log-probabilities of the next token of each new row.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A reply as ids."""

    token_ids: list[int]
    """Chosen ids, ``</s>`` included when it came."""
    token_logprobs: list[float]
    """Log-probability of each under the model: at temperature 1, whatever rules allowed."""
    finish: Literal["stop", "length"]
    """Why it ends."""
    error: ConfigError | None = None
    """Why it cannot go on, though it has to; the other rows do."""

    @property
    def logprob(self) -> float:
        """Log-probability of them all."""
        return sum(self.token_logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a search knows of one row before its first token."""

    prompt: list[int]
    """Token ids before the reply."""
    limit: int
    """Most tokens of the reply."""
    rng: np.random.Generator
    """The row's stream of random numbers."""
    stop: StopStrings | None = None
    """Watches for strings that end the reply; None if there are none."""
    prompt_log_prob: float = 0.0
    """Beams with ``score_prompt``: sum over the prompt."""
    constraint: Constraint | None = None
    """What the reply may say; None for anything."""
    name: str = "document"
    """What to call the document in messages."""

    def place(self, reply: Sequence[int]) -> Place:
        """Where a reply stands that is to go on."""
        return Place(self.prompt, reply, self.limit - len(reply), self.constraint, self.name)


def choose_replies(
    rows: Rows, starts: Sequence[Start], decoding: Decoding, constraints: Constraints
) -> list[Draft]:
    """Continue each row with one token after another, the likeliest or a drawn one.

    Args:
        rows: One per start, in order. There may be several starts to a row, as many to each and
            side by side; they share what the row has read.
        starts: The prompts and their limits.
        decoding: Temperature, top-k and top-p.
        constraints: What may not be chosen, and what stops.

    Returns:
        Replies; one that may choose nothing, or whose constraint cannot be kept, with its error.
    """
    return deque(grow_replies(rows, starts, decoding, constraints), maxlen=1)[0]


def grow_replies(
    rows: Rows, starts: Sequence[Start], decoding: Decoding, constraints: Constraints
) -> Iterator[list[Draft]]:
    """Do what :func:`choose_replies` does and tell of each token.

    Yields:
        After each step the replies so far; the last time, the replies.
    """
    drafts = [Draft(token_ids=[], token_logprobs=[], finish="length") for _ in starts]
    watches = [start.stop for start in starts]
    active = list(range(len(starts)))
    sources = [index * len(rows.log_probs) // len(starts) for index in active]
    log_probs = rows.log_probs if len(sources) == len(rows.log_probs) else rows.log_probs[sources]
    while True:
        places = [starts[index].place(drafts[index].token_ids) for index in active]
        errors = constraints.mask(log_probs, places)
        for row, error in errors.items():
            drafts[active[row]] = replace(drafts[active[row]], error=error)
            log_probs[row] = 0.0  # something must be drawn of it as well, and is forgotten
        chosen = choose(log_probs, decoding, [starts[i].rng for i in active])
        values = log_probs[range(len(active)), chosen].tolist()
        kept = []
        for row, (index, token_id, value) in enumerate(zip(active, chosen, values, strict=True)):
            if row in errors:
                continue
            ids = [*drafts[index].token_ids, token_id]
            watch = watches[index] = _after(watches[index], token_id)
            stops = constraints.stops(token_id, len(ids)) or (watch and watch.is_complete)
            drafts[index] = Draft(
                token_ids=ids,
                token_logprobs=[*drafts[index].token_logprobs, value],
                finish="stop" if stops else "length",
            )
            if not stops and len(ids) < starts[index].limit:
                kept.append(row)
        yield list(drafts)
        active = [active[row] for row in kept]
        if not active:
            return
        log_probs = rows.step(
            [sources[row] for row in kept],
            [drafts[index].token_ids[-1] for index in active],
            ahead=[constraints.foreseen(starts[i].place(drafts[i].token_ids)) for i in active],
        )
        sources = list(range(len(active)))


def _after(watch: StopStrings | None, token_id: int) -> StopStrings | None:
    return watch.after(token_id) if watch else None


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    token_ids: list[int]
    token_logprobs: list[float]
    total: float
    """Their sum in float32, as the reference adds: near-ties then fall the same way."""
    row: int = 0
    """Row of the batch it continues; of a running hypothesis."""
    watch: StopStrings | None = None
    score: float = 0.0
    """What it is worth; of a finished one."""
    finish: Literal["stop", "length"] = "length"


class _Candidate(NamedTuple):
    total: float
    """Log-probability of the hypothesis it makes."""
    logprob: float
    """Of the token alone."""
    parent: int
    """Which running hypothesis it continues."""
    token_id: int


@dataclass(slots=True)
class _Beams:
    """The search of one row: hypotheses that run and hypotheses that are finished, best first."""

    start: Start
    decoding: Decoding
    constraints: Constraints
    running: list[_Hypothesis]
    finished: list[_Hypothesis] = field(default_factory=list)
    is_done: bool = False
    error: ConfigError | None = None
    """Why a hypothesis could not go on, where none is finished."""

    def extend(self, candidates: Sequence[_Candidate]) -> None:
        """Take one step.

        A candidate that ends is finished if it is among the first ``num_beams``, and otherwise
        gone; the first ``num_beams`` that do not end run on. With none the search is over.

        Args:
            candidates: Possible ones, best first.
        """
        width = self.decoding.num_beams
        running, ended = [], []
        for rank, (total, logprob, parent, token_id) in enumerate(candidates):
            before = self.running[parent]
            ids = [*before.token_ids, token_id]
            watch = _after(before.watch, token_id)
            stops = self.constraints.stops(token_id, len(ids)) or (watch and watch.is_complete)
            item = _Hypothesis(
                ids, [*before.token_logprobs, logprob], total, before.row, watch=watch
            )
            if not stops and len(ids) < self.start.limit:
                running.append(item)
            elif rank < width:
                score = self._score(total, len(ids))
                ended.append(replace(item, score=score, finish="stop" if stops else "length"))
        num_new = len(self.running[0].token_ids) + 1
        # sorting is stable: of two equal scores the earlier stays in front
        self.finished = sorted(self.finished + ended, key=lambda item: -item.score)[:width]
        self.running = running[:width]
        self.is_done = not running or not self._may_improve(num_new)

    def ranked(self) -> list[Draft]:
        """The finished hypotheses, or one that says why there is none."""
        if not self.finished:
            return [Draft(token_ids=[], token_logprobs=[], finish="length", error=self.error)]
        return [
            Draft(token_ids=item.token_ids, token_logprobs=item.token_logprobs, finish=item.finish)
            for item in self.finished
        ]

    def _may_improve(self, num_new: int) -> bool:
        """Whether a running hypothesis may still enter the finished ones."""
        if len(self.finished) < self.decoding.num_beams:
            return True
        if self.decoding.early_stopping is True:
            return False
        at_full_length = (
            self.decoding.early_stopping == "never" and self.decoding.length_penalty > 0
        )
        length = self.start.limit if at_full_length else num_new
        return self._score(self.running[0].total, length) > self.finished[-1].score

    def _score(self, logprob: float, num_new: int) -> float:
        length = num_new
        if self.decoding.score_prompt:
            logprob += self.start.prompt_log_prob
            length += len(self.start.prompt) - 1  # <s> is given, not predicted
        return float(logprob / length**self.decoding.length_penalty)


def rank_beams(
    rows: Rows, starts: Sequence[Start], decoding: Decoding, constraints: Constraints
) -> list[list[Draft]]:
    """Find each row's best replies among ``num_beams`` hypotheses kept at every step.

    Args:
        rows: One per start, in order; becomes up to ``num_beams`` per start.
        starts: The prompts and their limits.
        decoding: Beams, length penalty, early stopping.
        constraints: What may not be chosen, and what stops.

    Returns:
        For each start its finished hypotheses, best first: ``num_beams`` of them, unless rules
        let fewer finish; a single one with its error where they let none.

    Raises:
        ConfigError: If there are fewer tokens to choose from than candidates to keep.
    """
    num_candidates = 2 * decoding.num_beams
    log_probs = rows.log_probs
    vocab = log_probs.shape[1]
    if vocab < num_candidates:
        raise ConfigError(
            f"decoding.num_beams: expected at most half the vocabulary of {vocab}, "
            f"found {decoding.num_beams}"
        )
    searches = [
        _Beams(start, decoding, constraints, [_Hypothesis([], [], 0.0, row, watch=start.stop)])
        for row, start in enumerate(starts)
    ]
    active = searches
    while True:
        running = [search.running for search in active]
        hypotheses = [(search, item) for search in active for item in search.running]
        errors = constraints.mask(
            log_probs, [search.start.place(item.token_ids) for search, item in hypotheses]
        )
        for row, error in errors.items():
            hypotheses[row][0].error = error
        for search, candidates in zip(
            active, _candidates(log_probs, running, num_candidates), strict=True
        ):
            search.extend(candidates)
        active = [search for search in active if not search.is_done]
        if not active:
            return [search.ranked() for search in searches]
        going = [item for search in active for item in search.running]
        log_probs = rows.step(
            [item.row for item in going],
            [item.token_ids[-1] for item in going],
            ahead=[
                constraints.foreseen(search.start.place(item.token_ids))
                for search in active
                for item in search.running
            ],
        )
        _renumber(active)


def _candidates(
    log_probs: Float[Tensor, "rows vocab"],
    running: Sequence[Sequence[_Hypothesis]],
    num_candidates: int,
) -> list[list[_Candidate]]:
    """The best possible continuations of each search, best first."""
    # what is among the best of a search is among the best of its row
    values, token_ids = _top(log_probs, num_candidates)
    so_far = torch.tensor([item.total for row in running for item in row], device=values.device)
    totals = (values + so_far.unsqueeze(1)).tolist()
    rows = list(zip(totals, values.tolist(), token_ids.tolist(), strict=True))
    bounds = pairwise(accumulate(map(len, running), initial=0))
    return [
        sorted(
            (
                _Candidate(total, logprob, parent, token_id)
                for parent, row in enumerate(rows[first:end])
                for total, logprob, token_id in zip(*row, strict=True)
                if total > float("-inf")
            ),
            key=lambda candidate: -candidate.total,
        )[:num_candidates]
        for first, end in bounds
    ]


def _top(
    log_probs: Float[Tensor, "rows vocab"], count: int
) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """Largest values of each row, in order, and where they are.

    The best tokens lie in the blocks with the best maxima, and maxima are quick to take: 40 rows
    of 65,037 take 0.6 ms on one core, and 3.1 ms with ``topk`` of whole rows.
    """
    vocab = log_probs.shape[1]
    if vocab < 16 * _BLOCK_TOKENS * count:
        values, ids = log_probs.topk(count, dim=1)
        return values, ids
    in_blocks = vocab - vocab % _BLOCK_TOKENS
    maxima = log_probs.unfold(1, _BLOCK_TOKENS, _BLOCK_TOKENS).amax(dim=2)
    first = maxima.topk(count, dim=1).indices * _BLOCK_TOKENS
    ids = torch.cat(
        [
            (first.unsqueeze(2) + torch.arange(_BLOCK_TOKENS, device=first.device)).flatten(1),
            torch.arange(in_blocks, vocab, device=first.device).expand(len(first), -1),
        ],
        dim=1,
    )
    values, places = log_probs.gather(1, ids).topk(count, dim=1)
    return values, ids.gather(1, places)


def _renumber(searches: Sequence[_Beams]) -> None:
    """Rows of the batch now stand in the order of the hypotheses."""
    row = 0
    for search in searches:
        for index, item in enumerate(search.running):
            search.running[index] = replace(item, row=row)
            row += 1
