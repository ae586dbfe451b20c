"""How sure a number is: 95% intervals, and what the same predictions score by chance."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kosmos.errors import DataError
from kosmos.runtime import generator

Z_95 = 1.959963984540054
NUM_RESAMPLES = 2000


class Interval(NamedTuple):
    """A value and the 95% interval around it."""

    value: float
    low: float
    high: float


def wilson(num_right: int, num_all: int) -> Interval:
    """The share of right answers, with Wilson's score interval.

    Raises:
        DataError: If there is nothing to count.
    """
    _check(num_all)
    share = num_right / num_all
    scale = 1.0 + Z_95**2 / num_all
    middle = (share + Z_95**2 / (2 * num_all)) / scale
    spread = math.sqrt(share * (1.0 - share) / num_all + Z_95**2 / (4 * num_all**2))
    half = Z_95 * spread / scale
    # rounding must not leave the value outside
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def bootstrap(values: Sequence[float], *, seed: int, name: str) -> Interval:
    """The mean, with a percentile bootstrap interval of 2,000 resamples.

    Args:
        values: One per example.
        seed: Of the resamples.
        name: Of what is measured, so that two metrics resample independently.

    Raises:
        DataError: If there are no values.
    """
    _check(len(values))
    array = np.asarray(values, dtype=np.float64)
    rng = generator(seed, "bootstrap", name)
    means = np.empty(NUM_RESAMPLES)
    for first in range(0, NUM_RESAMPLES, 100):
        picks = rng.integers(0, len(array), (100, len(array)))
        means[first : first + 100] = array[picks].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(array.mean()), float(low), float(high))


def derangement(count: int, rng: np.random.Generator) -> list[int]:
    """A random order in which nothing stays in its place (one cycle through all).

    Raises:
        DataError: If there are fewer than two.
    """
    if count < 2:
        raise DataError(f"derangement: expected at least two examples, found {count}")
    order = list(range(count))
    for index in range(count - 1, 0, -1):  # Sattolo's shuffle
        other = int(rng.integers(0, index))
        order[index], order[other] = order[other], order[index]
    return order


def _check(count: int) -> None:
    if count < 1:
        raise DataError("interval: expected at least one example, found none")
