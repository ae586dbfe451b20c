"""Ours and the peer in turns, what came out, and whether it is what was promised.

- :func:`alternate`: warm up, then one and the other, the order changing every round
- :class:`Ratio`: the median of the ratios of the pairs, and how far they spread
- :class:`Target`: a number that was promised, and :meth:`Target.is_met_by`
- :class:`DisagreementError`: raised where the two sides did not do the same work

Machines are shared and noisy, so only ratios of runs side by side count: what slows one run of a
pair slows the other.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.machine import synchronize

Step = Callable[[int], object]
"""One run of one side. Gets the number of the round, so that inputs can be new in every round."""


class DisagreementError(Exception):
    """The two sides gave different results, so that comparing their times means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a benchmark should reach."""

    name: str
    """Of the number, as it stands in the table."""
    bound: float
    """What it should be."""
    at_most: bool = False
    """Whether it should be no more than that, rather than no less."""

    def is_met_by(self, found: float) -> bool:
        """Whether a number is on the right side of the bound."""
        return found <= self.bound if self.at_most else found >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of each run; index by index they are pairs."""

    ours: Sequence[float]
    peer: Sequence[float]
    """None of them if ours is alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times faster ours is: peer's seconds over ours, for each pair."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, times: Times) -> "Ratio":
        """The ratios of the pairs, not the ratio of two medians: a pair shares its noise."""
        ratios = [peer / ours for ours, peer in zip(times.ours, times.peer, strict=True)]
        return cls(median=statistics.median(ratios), least=min(ratios), greatest=max(ratios))


def alternate(
    ours: Step,
    peer: Step | None,
    *,
    rounds: int,
    first: int = 0,
    warmups: int = 1,
    loops: int = 1,
    device: str = "cpu",
    seconds: Callable[[object], float] | None = None,
    around: Callable[[], object] = lambda: None,
) -> Times:
    """Time two ways to do the same work, in turns.

    Args:
        ours: One way.
        peer: The other; None if there is none.
        rounds: Pairs that are timed.
        first: Number of the first round; warming up counts as rounds.
        warmups: Rounds before those that are timed.
        loops: Calls of a step that make one time, for steps shorter than the clock is good for.
        device: What to wait for.
        seconds: Reads the time off what a step gives, for one that is timed elsewhere.
        around: Called right before and right after each of ours that is timed.

    Returns:
        Seconds of one call of each.
    """
    taken: dict[str, list[float]] = {"ours": [], "peer": []}
    steps = {"ours": ours} if peer is None else {"ours": ours, "peer": peer}
    for turn in range(warmups + rounds):
        # who goes second finds warmer caches and a warmer processor: change places
        for name in steps if turn % 2 == 0 else reversed(steps):
            is_watched = name == "ours" and turn >= warmups
            if is_watched:
                around()
            found = _time_s(steps[name], first + turn, loops, device, seconds)
            if is_watched:
                around()
            if turn >= warmups:
                taken[name].append(found)
    return Times(ours=taken["ours"], peer=taken["peer"])


def _time_s(
    step: Step, turn: int, loops: int, device: str, seconds: Callable[[object], float] | None
) -> float:
    gc.collect()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(loops):
        given = step(turn)
    synchronize(device)
    spent = (time.perf_counter() - start) / loops
    return spent if seconds is None else seconds(given)
