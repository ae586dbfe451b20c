"""Order: which rows stand in which micro-batch of a step, and which rank reads it.

Nothing is read but lengths, so that the whole of a step is known before any of it is loaded::

    micro-batches of a step      t0 t1 t2 c0 c1 c2 c3 c4      t: text, c: captions
    rank 0 of 2                  t0 t2 c0 c2 c4
    rank 1 of 2                  t1 t2'c1 c3 c4'              ': a copy without loss

The micro-batches of a step do not depend on the number of ranks. Micro-batch m of a stream is read
by rank ``m % num_ranks`` in round ``m // num_ranks``; where a last round has none left for a rank,
the rank gets a copy of the round's first with no loss, so that all ranks make the same number of
passes over the same streams in the same order and none waits for another forever.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from kosmos.data.config import Stream
from kosmos.data.index import Index
from kosmos.data.mixture import Mixture
from kosmos.data.packing import micro_batches


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Rows of one stream that go through the model together."""

    stream: str
    """Name of the stream."""
    place: int
    """Its number in the step, counted over all streams."""
    rows: Int64[np.ndarray, " rows"]
    """Rows of the stream's index, short ones first."""
    needs_images: bool
    """Whether it, or what another rank reads in the same round, has pictures."""
    is_filler: bool = False
    """Whether it is a copy that only keeps the ranks in step."""


class Order:
    """What each step holds, to the last row.

    Args:
        streams: What is read, and how much of each in a step.
        indices: Index of each stream, by name.
        seed: The order follows from it.
        micro_batch_tokens: Most positions of a micro-batch, padding included.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        indices: Mapping[str, Index],
        *,
        seed: int,
        micro_batch_tokens: int,
    ) -> None:
        self.indices = dict(indices)
        self.micro_batch_tokens = micro_batch_tokens
        num_rows = {name: index.num_rows for name, index in indices.items()}
        self.mixture = Mixture(streams, num_rows, seed=seed)

    def step(self, step: int, *, rank: int = 0, num_ranks: int = 1) -> list[MicroBatch]:
        """Micro-batches of a step that a rank reads, stream after stream, short rows first.

        Args:
            step: Counted from 0.
            rank: Which rank reads.
            num_ranks: How many ranks share the step.
        """
        assert 0 <= rank < num_ranks
        shares: list[MicroBatch] = []
        first = 0
        for name, rows in self.mixture.rows(step).items():
            parts = cut(
                name,
                self.indices[name],
                rows,
                micro_batch_tokens=self.micro_batch_tokens,
                first=first,
            )
            first += len(parts)
            shares += _share(parts, rank, num_ranks)
        return shares


def cut(
    stream: str,
    index: Index,
    rows: Int64[np.ndarray, " rows"],
    *,
    micro_batch_tokens: int,
    first: int = 0,
) -> list[MicroBatch]:
    """Cut rows of a stream in micro-batches of similar length.

    Args:
        stream: Name of the stream.
        index: Of the stream.
        rows: Of the index.
        micro_batch_tokens: Most positions of a micro-batch, padding included.
        first: Place of the first micro-batch.
    """
    groups = micro_batches(index.lengths(rows) - 1, micro_batch_tokens)
    return [
        MicroBatch(
            stream=stream,
            place=place,
            rows=rows[group],
            needs_images=index.has_images(rows[group]),
        )
        for place, group in enumerate(groups, start=first)
    ]


def _share(parts: Sequence[MicroBatch], rank: int, num_ranks: int) -> list[MicroBatch]:
    """What a rank reads of one stream's micro-batches."""
    share = []
    for start in range(0, len(parts), num_ranks):
        one_round = parts[start : start + num_ranks]
        is_filler = rank >= len(one_round)
        share.append(
            dataclasses.replace(
                one_round[0 if is_filler else rank],
                needs_images=any(part.needs_images for part in one_round),
                is_filler=is_filler,
            )
        )
    return share
