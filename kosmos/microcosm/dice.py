"""Dice: quick draws from a random generator that follows from a seed and keys.

A numpy generator spends a microsecond or more on every scalar it is asked for; a scene and its
words take a hundred. Drawing uniforms by the block makes that affordable.
"""

from collections.abc import Sequence
from typing import TypeVar

from kosmos.runtime import generator

Item = TypeVar("Item")
BLOCK = 128


class Dice:
    """Random choices that are a pure function of a seed and keys.

    Args:
        seed: Seed of the dataset.
        keys: What the draws are for; different keys are independent.
    """

    def __init__(self, seed: int, *keys: str | int) -> None:
        self._generator = generator(seed, *keys)
        self._block: list[float] = []

    def uniform(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(BLOCK).tolist()
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[int(self.uniform() * len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in another order."""
        left = list(items)
        for last in range(len(left) - 1, 0, -1):
            other = self.between(0, last)
            left[last], left[other] = left[other], left[last]
        return left

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """Some of the items, each at most once."""
        return self.shuffled(items)[:count]
