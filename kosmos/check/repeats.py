"""Repeats: what share of some contents stood there before, in memory that does not grow.

Of every content a 64-bit digest is taken, and only digests under a threshold are kept with their
counts. The threshold is all numbers until there are too many, then half of them go, and so on:
which contents are watched depends on nothing but the contents, so two tellers that watched
different corpora can be compared. Up to :data:`CAPACITY` different contents every number is exact.
"""

import hashlib

CAPACITY = 250_000
"""Different contents watched at most, about 30 MB."""
_ALL = 1 << 64


class Repeats:
    """Counts of contents, exact up to ``capacity`` different ones, above that from a sample."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._below = _ALL
        self._counts: dict[int, int] = {}
        self.most = (1, "")
        """How often the most frequent watched content came, and how it is shown."""
        self.num_added = 0

    def add(self, content: bytes, name: str = "") -> bool:
        """Count a content; whether it is known to have been there before.

        ``name`` is how to show it, should it be the most frequent.
        """
        self.num_added += 1
        digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        if digest >= self._below:
            return False
        count = self._counts[digest] = self._counts.get(digest, 0) + 1
        if count > self.most[0]:
            self.most = (count, name)
        if len(self._counts) > self._capacity:
            self._below //= 2
            self._counts = {d: n for d, n in self._counts.items() if d < self._below}
        return count > 1

    @property
    def is_exact(self) -> bool:
        """Whether every content was watched."""
        return self._below == _ALL

    @property
    def share(self) -> float:
        """Share of the contents that had been there before."""
        num_watched = sum(self._counts.values())
        return (num_watched - len(self._counts)) / num_watched if num_watched else 0.0

    def common_share(self, other: "Repeats") -> float:
        """Share of this one's different contents that the other has too."""
        below = min(self._below, other._below)
        mine = [digest for digest in self._counts if digest < below]
        return sum(digest in other._counts for digest in mine) / len(mine) if mine else 0.0
