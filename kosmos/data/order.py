"""Order: which rows stand in which micro-batch of a step, and which rank reads it.

Nothing is read but lengths, so that the whole of a step is known before any of it is loaded::

    micro-batches of a step      t0 t1 t2 c0 c1 c2 c3 c4      t: text, c: captions
    rank 0 of 2                  t0 t2 c0 c2 c4
    rank 1 of 2                  t1 t2'c1 c3 c4'              ': a copy without loss

The micro-batches of a step do not depend on the number of ranks. Micro-batch m of a stream is read
by rank ``m % num_processes`` in round ``m // num_processes``; where a last round has none left for
a rank, the rank gets a copy of the round's first with no loss, so that all ranks make the same
number of passes over the same streams in the same order and none waits for another forever.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kosmos.data.config import Stream
from kosmos.data.mixture import Mixture, Sequences, data_step
from kosmos.data.packing import micro_batches

if TYPE_CHECKING:
    from kosmos.data.index import Index


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Rows of one stream that go through the model together."""

    stream: str
    """Name of the stream."""
    place: int
    """Its number in the step, counted over all streams."""
    sequences: Sequences
    """What stands in it, short rows first."""
    needs_images: bool
    """Whether it, or what another rank reads in the same round, has pictures."""
    is_filler: bool = False
    """Whether it is a copy that only keeps the ranks in step."""


class Order:
    """What each step holds, to the last row.

    Args:
        streams: What is read, and how much of each in a step.
        indices: Index of each source of each stream, by name of the stream.
        seed: The order follows from it.
        micro_batch_tokens: Most positions of a micro-batch, padding included.
        skipped: Data steps that are left out, see :func:`kosmos.data.mixture.data_step`.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        indices: "Mapping[str, Sequence[Index]]",
        *,
        seed: int,
        micro_batch_tokens: int,
        skipped: Sequence[range] = (),
    ) -> None:
        self.indices = {name: tuple(of_stream) for name, of_stream in indices.items()}
        self.micro_batch_tokens = micro_batch_tokens
        self.skipped = tuple(skipped)
        num_rows = {
            name: [index.num_rows for index in of_stream] for name, of_stream in indices.items()
        }
        self.mixture = Mixture(streams, num_rows, seed=seed)

    def step(self, step: int, *, rank: int = 0, num_processes: int = 1) -> list[MicroBatch]:
        """Micro-batches of a step that a rank reads, stream after stream, short rows first.

        Args:
            step: Of the optimizer, counted from 0.
            rank: Which rank reads.
            num_processes: How many ranks share the step.
        """
        assert 0 <= rank < num_processes
        shares: list[MicroBatch] = []
        first = 0
        for name, sequences in self.mixture.sequences(data_step(step, self.skipped)).items():
            parts = cut(
                name,
                self.indices[name],
                sequences,
                micro_batch_tokens=self.micro_batch_tokens,
                first=first,
            )
            first += len(parts)
            shares += _share(parts, rank, num_processes)
        return shares


def cut(
    stream: str,
    indices: "Sequence[Index]",
    sequences: Sequences,
    *,
    micro_batch_tokens: int,
    first: int = 0,
) -> list[MicroBatch]:
    """Cut sequences of a stream in micro-batches of similar length.

    Args:
        stream: Name of the stream.
        indices: Of its sources.
        sequences: Of the stream.
        micro_batch_tokens: Most positions of a micro-batch, padding included.
        first: Place of the first micro-batch.
    """
    lengths = np.empty(len(sequences), dtype=np.int64)
    for corpus, index in enumerate(indices):
        of_corpus = sequences.corpora == corpus
        lengths[of_corpus] = index.lengths(sequences.rows[of_corpus])
    parts = [sequences.at(group) for group in micro_batches(lengths - 1, micro_batch_tokens)]
    return [
        MicroBatch(
            stream=stream,
            place=place,
            sequences=part,
            needs_images=any(
                index.has_images(part.rows[part.corpora == corpus])
                for corpus, index in enumerate(indices)
            ),
        )
        for place, part in enumerate(parts, start=first)
    ]


def _share(parts: Sequence[MicroBatch], rank: int, num_processes: int) -> list[MicroBatch]:
    """What a rank reads of one stream's micro-batches."""
    share = []
    for start in range(0, len(parts), num_processes):
        one_round = parts[start : start + num_processes]
        is_filler = rank >= len(one_round)
        share.append(
            dataclasses.replace(
                one_round[0 if is_filler else rank],
                needs_images=any(part.needs_images for part in one_round),
                is_filler=is_filler,
            )
        )
    return share
