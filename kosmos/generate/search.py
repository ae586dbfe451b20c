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
from kosmos.generate.constraints import Constraints
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


def choose_replies(
    rows: Rows, starts: Sequence[Start], decoding: Decoding, constraints: Constraints
) -> list[Draft]:
    """Continue each row with one token after another, the likeliest or a drawn one.

    Args:
        rows: One per start, in order.
        starts: The prompts and their limits.
        decoding: Temperature, top-k and top-p.
        constraints: What may not be chosen, and what stops.
    """
    replies: list[list[int]] = [[] for _ in starts]
    logprobs: list[list[float]] = [[] for _ in starts]
    drafts: dict[int, Draft] = {}
    active = list(range(len(starts)))
    log_probs = rows.log_probs
    while True:
        constraints.mask(
            log_probs, [starts[i].prompt for i in active], [replies[i] for i in active]
        )
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
            candidates: Best first.
        """
        width = self.decoding.num_beams
        running, ended = [], []
        for rank, (total, logprob, parent, token_id) in enumerate(candidates):
            ids = [*self.running[parent].token_ids, token_id]
            logprobs = [*self.running[parent].token_logprobs, logprob]
            row = self.running[parent].row
            stops = self.constraints.stops(token_id, len(ids))
            if not stops and len(ids) < self.start.limit:
                running.append(_Hypothesis(ids, logprobs, total, row))
            elif rank < width and total > float("-inf"):
                score = self._score(total, len(ids))
                finish: Literal["stop", "length"] = "stop" if stops else "length"
                ended.append(_Hypothesis(ids, logprobs, total, row, score, finish))
        num_new = len(self.running[0].token_ids) + 1
        # sorting is stable: of two equal scores the earlier stays in front
        self.finished = sorted(self.finished + ended, key=lambda item: -item.score)[:width]
        self.running = running[:width]
        self.is_done = num_new == self.start.limit or not self._may_improve(num_new)

    def best(self) -> Draft:
        """The finished hypothesis worth most; the running one if rules let none finish."""
        item = (self.finished or self.running)[0]
        return Draft(
            token_ids=item.token_ids, token_logprobs=item.token_logprobs, finish=item.finish
        )

    def _may_improve(self, num_new: int) -> bool:
        """Whether a running hypothesis may still enter the finished ones."""
        if self.running[0].total == float("-inf"):
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
    searches = [_Beams(start, decoding, constraints) for start in starts]
    for row, search in enumerate(searches):
        search.running[0] = _Hypothesis([], [], 0.0, row)
    active = searches
    while True:
        hypotheses = [item for search in active for item in search.running]
        prompts = [search.start.prompt for search in active for _ in search.running]
        constraints.mask(log_probs, prompts, [item.token_ids for item in hypotheses])
        for search, candidates in zip(
            active, _candidates(log_probs, hypotheses, len(active), num_candidates), strict=True
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
    num_searches: int,
    num_candidates: int,
) -> list[list[_Candidate]]:
    """The best continuations of each search, best first."""
    vocab = log_probs.shape[1]
    so_far = torch.tensor([item.total for item in hypotheses], device=log_probs.device)
    totals = (log_probs + so_far.unsqueeze(1)).view(num_searches, -1)
    best, places = totals.topk(num_candidates, dim=1)
    own = log_probs.view(num_searches, -1).gather(1, places)
    return [
        [
            _Candidate(total, logprob, place // vocab, place % vocab)
            for total, logprob, place in zip(*row, strict=True)
        ]
        for row in zip(best.tolist(), own.tolist(), places.tolist(), strict=True)
    ]


def _renumber(searches: Sequence[_Beams]) -> None:
    """Rows of the batch now stand in the order of the hypotheses."""
    row = 0
    for search in searches:
        for index, item in enumerate(search.running):
            search.running[index] = replace(item, row=row)
            row += 1
