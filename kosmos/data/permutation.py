"""A seeded permutation of range(n) that is computed, not stored: any element in constant time.

A Feistel network over the smallest even number of bits that holds n gives a bijection of a power
of four; walking its cycle until the value falls below n makes it a bijection of range(n). Fewer
than four walks are expected, and an epoch over a billion documents needs no memory and no state.

Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (CT-RSA 2002), section 4
(cycle-walking cipher) over a Feistel network.
"""

import numpy as np
from jaxtyping import Int64, UInt64

from kosmos.runtime import generator

_NUM_ROUNDS = 6
# halves of three bits or more: with fewer, six rounds reach only part of the permutations
_MIN_HALF_BITS = 3


class Permutation:
    """A bijection of ``range(size)`` that follows from a seed and keys.

    Args:
        size: Number of elements, at least 1.
        seed: The run's seed.
        keys: What the permutation is of; other keys give an independent one.
    """

    def __init__(self, size: int, seed: int, *keys: str | int) -> None:
        assert size > 0
        self.size = size
        self._half_bits = max(_MIN_HALF_BITS, ((size - 1).bit_length() + 1) // 2)
        rng = generator(seed, "permutation", *keys)
        self._round_keys = rng.integers(0, 2**64, size=_NUM_ROUNDS, dtype=np.uint64)

    def __call__(self, indices: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Where each index goes.

        Args:
            indices: Numbers in ``range(size)``.
        """
        values = self._mix(np.asarray(indices).astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._mix(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def inverse(self, values: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Where each value comes from: ``inverse(permutation(i))`` is i.

        Args:
            values: Numbers in ``range(size)``.
        """
        indices = self._unmix(np.asarray(values).astype(np.uint64))
        outside = np.flatnonzero(indices >= self.size)
        while len(outside):
            indices[outside] = self._unmix(indices[outside])
            outside = outside[indices[outside] >= self.size]
        return indices.astype(np.int64)

    def _mix(self, values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
        """One pass through the network."""
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in self._round_keys:
            left, right = right, left ^ (scramble(right ^ key) & mask)
        return (left << bits) | right

    def _unmix(self, values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
        """One pass back through the network."""
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in self._round_keys[::-1]:
            left, right = right ^ (scramble(left ^ key) & mask), left
        return (left << bits) | right


def scramble(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """SplitMix64's finalizer: every bit of the input moves every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: UInt64[np.ndarray, " n"] = values ^ (values >> np.uint64(31))
    return scrambled
