"""Which rows a step takes: every step the same number from every stream, in an endless order.

Step t (from 0) takes sequences ``[t*n, (t+1)*n)`` of each stream, n being its sequences per step.
The sequences of a stream are its rows, permuted anew in every epoch: each row once before any row
twice. A step is a pure function of (seed, step), so resuming is naming a step, and "what was in
step t" has an answer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from kosmos.data.config import Stream
from kosmos.data.permutation import Permutation


def rows_of_sequences(
    start: int, stop: int, *, num_rows: int, seed: int, stream: str
) -> Int64[np.ndarray, " sequences"]:
    """Rows that stand at places ``[start, stop)`` of a stream's endless order.

    Args:
        start: First place.
        stop: Past the last place.
        num_rows: Rows of the stream, which is the length of an epoch.
        seed: The run's seed.
        stream: Name of the stream; streams of one size have different orders.
    """
    epochs, places = np.divmod(np.arange(start, stop, dtype=np.int64), num_rows)
    rows = np.empty_like(places)
    for epoch in np.unique(epochs):
        of_epoch = epochs == epoch
        rows[of_epoch] = Permutation(num_rows, seed, stream, int(epoch))(places[of_epoch])
    return rows


class Mixture:
    """What each step holds of each stream.

    Args:
        streams: What is read, and how much of each in a step.
        num_rows: Rows of each stream, by name.
        seed: The run's seed.
    """

    def __init__(
        self, streams: Sequence[Stream], num_rows: Mapping[str, int], *, seed: int
    ) -> None:
        self.streams = tuple(streams)
        self.num_rows = dict(num_rows)
        self.seed = seed

    def rows(self, step: int) -> dict[str, Int64[np.ndarray, " sequences"]]:
        """Rows of a step, by stream, in the order of the streams.

        Args:
            step: Counted from 0.
        """
        return {
            stream.name: rows_of_sequences(
                step * stream.sequences_per_step,
                (step + 1) * stream.sequences_per_step,
                num_rows=self.num_rows[stream.name],
                seed=self.seed,
                stream=stream.name,
            )
            for stream in self.streams
        }
