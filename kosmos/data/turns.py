"""Turns: which corpus of a stream stands at each place of its endless order.

Corpora take turns by weight, as evenly as whole sequences allow, in periods laid out once::

    weights 3, 2, 1       a b a c b a | b a c a a b | ...

Before any place n, a corpus of weight w (of 1) has had less than two turns more or fewer than
``w * n``, and after each period exactly its share. Places are computed, not stored, so that place
ten billion is as near as place ten.

Within a period each turn stands in a window of its own, and the turn whose window closes first goes
first, which keeps every corpus less than one turn from its share. Then neighbors are swapped where
a coin falls so, which makes periods and seeds differ and costs at most one turn more.

Source: windows and earliest deadline first as in Baruah, Cohen, Plaxton and Varvel, Proportionate
progress: a notion of fairness in resource allocation (Algorithmica 15, 1996).
"""

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from kosmos.data.permutation import scramble
from kosmos.runtime import generator

MAX_PERIOD = 10_000
"""Places of a period, at most: finer differences of weights are rounded away."""


class Turns:
    """Who stands at which place.

    Args:
        weights: Of the corpora, all above 0, in any unit.
        seed: The run's seed.
        keys: What the order is of; other keys swap other neighbors.
    """

    def __init__(self, weights: Sequence[float], seed: int, *keys: str | int) -> None:
        self.counts = np.array(whole_weights(weights), dtype=np.int64)
        self.period = int(self.counts.sum())
        # corpus at each place of a period, and which of its turns in the period that is
        self._corpora = _even_order(self.counts.tolist())
        by_corpus = np.argsort(self._corpora, kind="stable")
        self._firsts = np.cumsum(self.counts) - self.counts
        self._numbers = np.empty_like(by_corpus)
        self._numbers[by_corpus] = np.arange(self.period) - np.repeat(self._firsts, self.counts)
        self._places = by_corpus
        here = np.arange(self.period, dtype=np.int64)
        other = np.minimum(here ^ 1, self.period - 1)
        self._partners = np.where(self._corpora[other] != self._corpora, other, here)
        self._coin = generator(seed, "turns", *keys).integers(0, 2**64, dtype=np.uint64)

    def __call__(
        self, places: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """The corpus at each place, and which of its turns that is.

        Args:
            places: From 0, of the endless order.

        Returns:
            Corpora by number, and turns of each counted from 0.
        """
        periods, within = np.divmod(places, self.period)
        within = self._swapped(periods, within)
        corpora = self._corpora[within]
        return corpora, periods * self.counts[corpora] + self._numbers[within]

    def places(self, corpus: int, turns: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Where some turns of a corpus stand.

        Args:
            corpus: By number.
            turns: Counted from 0.
        """
        periods, numbers = np.divmod(turns, self.counts[corpus])
        within = self._swapped(periods, self._places[self._firsts[corpus] + numbers])
        places: Int64[np.ndarray, " n"] = periods * self.period + within
        return places

    def _swapped(
        self, periods: Int64[np.ndarray, " n"], within: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """Places of a period after the swaps, which are their own inverse."""
        pairs = (periods * self.period + within // 2).astype(np.uint64)
        falls = (scramble(pairs ^ self._coin) & np.uint64(1)).astype(np.bool_)
        return np.where(falls, self._partners[within], within)


def whole_weights(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the proportions of the weights, as they are written.

    ``whole_weights([21.8, 17.7])`` is ``[218, 177]``. If their sum is above :data:`MAX_PERIOD` they
    are rounded to that sum by largest remainder, each at least 1.
    """
    exact = [Fraction(repr(float(weight))) for weight in weights]
    total = sum(exact)
    scale = math.lcm(*(fraction.denominator for fraction in exact))
    whole = [int(fraction * scale) for fraction in exact]
    divisor = math.gcd(*whole)
    whole = [number // divisor for number in whole]
    if sum(whole) <= MAX_PERIOD:
        return whole
    shares = [fraction * MAX_PERIOD / total for fraction in exact]
    rounded = [max(1, math.floor(share)) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda n: rounded[n] - shares[n])
    for number in by_remainder[: max(0, MAX_PERIOD - sum(rounded))]:
        rounded[number] += 1
    return rounded


def _even_order(counts: Sequence[int]) -> Int64[np.ndarray, " period"]:
    """Corpus at each place of a period in which each has its count, as evenly as can be."""
    period = sum(counts)
    order = np.empty(period, dtype=np.int64)
    # turn i of a corpus must stand in [floor(i * period / count), ceil((i + 1) * period / count))
    waiting = [(0, corpus, 0) for corpus in range(len(counts))]
    ready: list[tuple[int, int, int]] = []
    for place in range(period):
        while waiting and waiting[0][0] <= place:
            _, corpus, turn = heapq.heappop(waiting)
            heapq.heappush(ready, (-((turn + 1) * -period // counts[corpus]), corpus, turn))
        _, corpus, turn = heapq.heappop(ready)
        order[place] = corpus
        if turn + 1 < counts[corpus]:
            heapq.heappush(waiting, ((turn + 1) * period // counts[corpus], corpus, turn + 1))
    return order
