"""Choose replies: one token at a time for each row, or the best of several beams.

- :func:`choose_replies`: greedy, or sampled
- :func:`search_beams`: beam search as Hugging Face's, and with the release's two options

Both see a model only as :class:`~kosmos.generate.rollout.Rows`, and a row only by itself: what a
row answers does not depend on its batch, and a row that is done leaves it.

Source: transformers 5.23 ``generation/utils.py`` for beam semantics (pinned by a parity test);
fairseq's sequence generator, as the KOSMOS-2 release runs it, for ``score_prompt``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kosmos.errors import ConfigError
from kosmos.generate.config import Decoding
from kosmos.generate.constraints import Constraint, Constraints, Place
from kosmos.generate.rollout import Rows
from kosmos.generate.sampling import choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A reply as ids."""

    token_ids: list[int]
    """Chosen ids, ``</s>`` included when it came."""
    token_logprobs: list[float]
    """Log-probability of each under the model: at temperature 1, whatever rules allowed."""
    finish: Literal["stop", "length"]
    """Why it ends."""

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
    is_stopped: Callable[[int], bool] | None = None
    """Told each chosen id in turn; true when a stop string is complete."""
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
        rows: One per start, in order.
        starts: The prompts and their limits.
        decoding: Temperature, top-k and top-p.
        constraints: What may not be chosen, and what stops.

    Raises:
        ConfigError: If a row may choose nothing, or its constraint cannot be kept, naming it.
    """
    replies: list[list[int]] = [[] for _ in starts]
    logprobs: list[list[float]] = [[] for _ in starts]
    drafts: dict[int, Draft] = {}
    active = list(range(len(starts)))
    log_probs = rows.log_probs
    while True:
        places = [starts[index].place(replies[index]) for index in active]
        empty = constraints.mask(log_probs, places)
        if empty:
            raise places[empty[0]].nothing_left()
        chosen = choose(log_probs, decoding, [starts[i].rng for i in active])
        values = log_probs[range(len(active)), chosen].tolist()
        kept = []
        for row, (index, token_id, value) in enumerate(zip(active, chosen, values, strict=True)):
            reply = replies[index]
            reply.append(token_id)
            logprobs[index].append(value)
            stopped = starts[index].is_stopped
            finish: Literal["stop", "length"] = "length"
            if constraints.stops(token_id, len(reply)) or (stopped and stopped(token_id)):
                finish = "stop"
            elif len(reply) < starts[index].limit:
                kept.append(row)
                continue
            drafts[index] = Draft(token_ids=reply, token_logprobs=logprobs[index], finish=finish)
        active = [active[row] for row in kept]
        if not active:
            return [drafts[index] for index in range(len(starts))]
        log_probs = rows.step(kept, [replies[index][-1] for index in active])


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    token_ids: list[int]
    token_logprobs: list[float]
    total: float
    """Their sum in float32, as the reference adds: ties and near-ties then fall the same way."""
    row: int = 0
    """Row of the batch it continues; of a running hypothesis."""
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
    running: list[_Hypothesis] = field(default_factory=lambda: [_Hypothesis([], [], 0.0)])
    finished: list[_Hypothesis] = field(default_factory=list)
    is_done: bool = False

    def extend(self, candidates: Sequence[_Candidate]) -> None:
        """Take one step.

        A candidate that ends is finished if it is among the first ``num_beams``, and otherwise
        gone; the first ``num_beams`` that do not end run on.

        Args:
            candidates: Possible ones, best first.

        Raises:
            ConfigError: If there is none, and nothing is finished.
        """
        if not candidates and not self.finished:
            raise self.start.place(self.running[0].token_ids).nothing_left()
        width = self.decoding.num_beams
        running, ended = [], []
        for rank, (total, logprob, parent, token_id) in enumerate(candidates):
            ids = [*self.running[parent].token_ids, token_id]
            logprobs = [*self.running[parent].token_logprobs, logprob]
            row = self.running[parent].row
            stops = self.constraints.stops(token_id, len(ids))
            if not stops and len(ids) < self.start.limit:
                running.append(_Hypothesis(ids, logprobs, total, row))
            elif rank < width:
                score = self._score(total, len(ids))
                finish: Literal["stop", "length"] = "stop" if stops else "length"
                ended.append(_Hypothesis(ids, logprobs, total, row, score, finish))
        num_new = len(self.running[0].token_ids) + 1
        # sorting is stable: of two equal scores the earlier stays in front
        self.finished = sorted(self.finished + ended, key=lambda item: -item.score)[:width]
        self.running = running[:width]
        self.is_done = num_new == self.start.limit or not self._may_improve(num_new)

    def best(self) -> Draft:
        """The finished hypothesis worth most."""
        item = self.finished[0]
        return Draft(
            token_ids=item.token_ids, token_logprobs=item.token_logprobs, finish=item.finish
        )

    def _may_improve(self, num_new: int) -> bool:
        """Whether a running hypothesis may still enter the finished ones."""
        if not self.running:
            return False
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


def search_beams(
    rows: Rows, starts: Sequence[Start], decoding: Decoding, constraints: Constraints
) -> list[Draft]:
    """Find each row's best reply among ``num_beams`` hypotheses kept at every step.

    Args:
        rows: One per start, in order; becomes ``num_beams`` per start.
        starts: The prompts and their limits.
        decoding: Beams, length penalty, early stopping.
        constraints: What may not be chosen, and what stops.

    Raises:
        ConfigError: If there are fewer tokens to choose from than candidates to keep, or a row
            may choose nothing, or its constraint cannot be kept, naming it.
    """
    num_candidates = 2 * decoding.num_beams
    log_probs = rows.log_probs
    vocab = log_probs.shape[1]
    if vocab < num_candidates:
        raise ConfigError(
            f"decoding.num_beams: expected at most half the vocabulary of {vocab}, "
            f"found {decoding.num_beams}"
        )
    searches = [_Beams(start, decoding, constraints) for start in starts]
    for row, search in enumerate(searches):
        search.running[0] = _Hypothesis([], [], 0.0, row)
    active = searches
    while True:
        hypotheses = [item for search in active for item in search.running]
        constraints.mask(
            log_probs, [s.start.place(item.token_ids) for s in active for item in s.running]
        )
        sizes = [len(search.running) for search in active]
        for search, candidates in zip(
            active, _candidates(log_probs, hypotheses, sizes, num_candidates), strict=True
        ):
            search.extend(candidates)
        active = [search for search in active if not search.is_done]
        if not active:
            return [search.best() for search in searches]
        going = [item for search in active for item in search.running]
        log_probs = rows.step([item.row for item in going], [i.token_ids[-1] for i in going])
        _renumber(active)


def _candidates(
    log_probs: Float[Tensor, "rows vocab"],
    hypotheses: Sequence[_Hypothesis],
    sizes: Sequence[int],
    num_candidates: int,
) -> list[list[_Candidate]]:
    """The best possible continuations of each search, best first.

    Args:
        log_probs: One row for each hypothesis.
        hypotheses: Those of the first search, then those of the second.
        sizes: How many each search has; at least one.
        num_candidates: Most of each search.
    """
    vocab = log_probs.shape[1]
    so_far = torch.tensor([item.total for item in hypotheses], device=log_probs.device)
    totals = (log_probs + so_far.unsqueeze(1)).split_with_sizes(list(sizes))
    best, places = zip(*(part.flatten().topk(num_candidates) for part in totals), strict=True)
    own = [
        part.flatten()[place]
        for part, place in zip(log_probs.split_with_sizes(list(sizes)), places, strict=True)
    ]
    return [
        [
            _Candidate(total, logprob, place // vocab, place % vocab)
            for total, logprob, place in zip(*row, strict=True)
            if total > float("-inf")
        ]
        for row in zip(
            torch.stack(best).tolist(),
            torch.stack(own).tolist(),
            torch.stack(places).tolist(),
            strict=True,
        )
    ]


def _renumber(searches: Sequence[_Beams]) -> None:
    """Rows of the batch now stand in the order of the hypotheses."""
    row = 0
    for search in searches:
        for index, item in enumerate(search.running):
            search.running[index] = replace(item, row=row)
            row += 1
