"""Which rows a step takes: every step the same number from every stream, in an endless order.

Step t (from 0) takes sequences ``[t*n, (t+1)*n)`` of each stream, n being its sequences per step.
The corpora of a stream take turns by weight (turns.py), and the turns of a corpus are its rows,
permuted anew in every epoch: each row once before any row twice. A step is a pure function of
(seed, step), so resuming is naming a step, and "what was in step t" has an answer.

Steps of data may be left out, such as those around a spike of the loss. Then the training goes on
with the data after them: optimizer step t reads :func:`data_step` of t.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from kosmos.data.config import Stream
from kosmos.data.permutation import Permutation
from kosmos.data.turns import Turns


@dataclass(frozen=True, slots=True)
class Sequences:
    """Sequences of one stream, in order."""

    corpora: Int64[np.ndarray, " n"]
    """Which of the stream's sources each is of, by number."""
    rows: Int64[np.ndarray, " n"]
    """Row in the index of that source."""
    epochs: Int64[np.ndarray, " n"]
    """How often that source had been read before."""

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: np.ndarray) -> "Sequences":
        """Some of them: by number, or where a mask is true."""
        return Sequences(self.corpora[places], self.rows[places], self.epochs[places])


class StreamOrder:
    """The endless order of one stream's sequences.

    Args:
        stream: Its name and its sources.
        num_rows: Rows of each source, which is the length of its epoch.
        seed: The run's seed.
        purpose: Names of what the order is for; other purposes have other orders.
    """

    def __init__(
        self, stream: Stream, num_rows: Sequence[int], *, seed: int, purpose: tuple[str, ...] = ()
    ) -> None:
        self.num_rows = np.array(num_rows, dtype=np.int64)
        self.turns = Turns(
            [source.weight for source in stream.sources], seed, *purpose, stream.name
        )
        self._seed = seed
        self._keys = [(*purpose, stream.source_name(source)) for source in stream.sources]

    def __call__(self, start: int, stop: int) -> Sequences:
        """Sequences at places ``[start, stop)``.

        Args:
            start: First place, from 0.
            stop: Past the last place.
        """
        corpora, turns = self.turns(np.arange(start, stop, dtype=np.int64))
        epochs, rows = np.divmod(turns, self.num_rows[corpora])
        for corpus, epoch in sorted(set(zip(corpora.tolist(), epochs.tolist(), strict=True))):
            together = (corpora == corpus) & (epochs == epoch)
            rows[together] = self._permutation(corpus, epoch)(rows[together])
        return Sequences(corpora, rows, epochs)

    def places(
        self, corpus: int, rows: Int64[np.ndarray, " n"], epoch: int
    ) -> Int64[np.ndarray, " n"]:
        """Where some rows of a source stand in one of its epochs.

        Args:
            corpus: Number of the source.
            rows: Of its index.
            epoch: From 0.
        """
        turns = self._permutation(corpus, epoch).inverse(rows)
        return self.turns.places(corpus, epoch * self.num_rows[corpus] + turns)

    def epochs(self, corpus: int, start: int, stop: int) -> tuple[int, int]:
        """The first epoch of a source into which places may reach, and past the last.

        Args:
            corpus: Number of the source.
            start: First place.
            stop: Past the last place.
        """
        # before any place, a source is less than two turns from its share
        share = self.turns.counts[corpus] / self.turns.period
        first, last = max(0, math.floor(start * share) - 2), math.ceil(stop * share) + 2
        num_rows = int(self.num_rows[corpus])
        return first // num_rows, last // num_rows + 1

    def _permutation(self, corpus: int, epoch: int) -> Permutation:
        return Permutation(int(self.num_rows[corpus]), self._seed, *self._keys[corpus], epoch)


class Mixture:
    """What each step holds of each stream.

    Args:
        streams: What is read, and how much of each in a step.
        num_rows: Rows of each source of each stream, by name of the stream.
        seed: The run's seed.
    """

    def __init__(
        self, streams: Sequence[Stream], num_rows: Mapping[str, Sequence[int]], *, seed: int
    ) -> None:
        self.streams = tuple(streams)
        self.seed = seed
        self.orders = {
            stream.name: StreamOrder(stream, num_rows[stream.name], seed=seed) for stream in streams
        }

    def sequences(self, step: int) -> dict[str, Sequences]:
        """Sequences of a data step, by stream, in the order of the streams.

        Args:
            step: Counted from 0.
        """
        return {
            stream.name: self.orders[stream.name](
                step * stream.sequences_per_step, (step + 1) * stream.sequences_per_step
            )
            for stream in self.streams
        }


def data_step(step: int, skipped: Sequence[range]) -> int:
    """The step of data that an optimizer step reads.

    ``data_step(6, (range(6, 9),))`` is 9. Without anything skipped it is the step itself.

    Args:
        step: Of the optimizer, counted from 0.
        skipped: Data steps that are left out, ascending and apart, as
            :func:`kosmos.data.config.skipped_steps` gives them.
    """
    for left_out in skipped:
        if step < left_out.start:
            break
        step += len(left_out)
    return step


def optimizer_step(step: int, skipped: Sequence[range]) -> int | None:
    """The optimizer step that reads a step of data; None if none does.

    Args:
        step: Of the data, counted from 0.
        skipped: As of :func:`data_step`.
    """
    if any(step in left_out for left_out in skipped):
        return None
    return step - sum(len(left_out) for left_out in skipped if left_out.stop <= step)
