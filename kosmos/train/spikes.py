"""Spikes of the loss: a step far above what its stream usually loses, and whose fault it is.

A watch remembers the latest losses of each stream. A loss is a spike if it lies above their median
by more than ``train.spike_factor`` times their usual distance from it (the median absolute
deviation, scaled to a standard deviation), so that neither the spikes before nor the slow fall of
the loss move the mark much. Nothing is judged before a stream has been seen :data:`MIN_SEEN` times,
neither at the beginning nor after a restart.

Of the quickstart's runs (1,200 steps of 6 streams, 3,600 of one, 80 of 6) the farthest step was 6.4
such distances above, of a stream with one page a step.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from kosmos.data.batch import Batch
from kosmos.train.objectives import Objective
from kosmos.train.parallel import Processes

WINDOW = 100
"""Losses of a stream that are remembered."""
MIN_SEEN = 20
"""Losses of a stream before any is judged."""
MIN_SPREAD = 0.01
"""Nats, the least that counts as a usual distance: who has learned by heart varies by nothing."""
NUM_NAMED = 10
"""Documents named for a spike."""

_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """A loss far above the usual."""

    stream: str
    """Name of the stream."""
    loss: float
    """Of the step, in nats."""
    usual: float
    """Median of the steps before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLoss:
    """What a document lost by itself."""

    id: str
    """Of the document."""
    loss: float
    """Mean over its loss tokens, in nats."""
    weight: float
    """Its loss tokens in the step."""


class SpikeWatch:
    """Remembers losses and tells spikes.

    Args:
        factor: How many usual distances above the median; 0: never.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._seen: dict[str, deque[float]] = {}

    def see(self, losses: Mapping[str, float]) -> list[Spike]:
        """Judge a finished step, then remember it.

        Args:
            losses: Mean loss of each stream of the step.
        """
        spikes = []
        for stream, loss in losses.items():
            seen = self._seen.setdefault(stream, deque(maxlen=WINDOW))
            if self.factor > 0 and len(seen) >= MIN_SEEN and math.isfinite(loss):
                usual = median(seen)
                spread = max(_TO_DEVIATION * median(abs(x - usual) for x in seen), MIN_SPREAD)
                if loss > usual + self.factor * spread:
                    spikes.append(Spike(stream=stream, loss=loss, usual=usual))
            if math.isfinite(loss):
                seen.append(loss)
        return spikes


def worst_documents(
    objective: Objective, batches: Sequence[Batch], spike: Spike, processes: Processes
) -> list[DocumentLoss]:
    """The documents that raised the loss of a stream most, the worst first.

    They are read once more, without gradients and dropout, by the weights that the step has moved
    already. Every process must ask.

    Args:
        objective: What is minimized.
        batches: Micro-batches of the step that are this process's.
        spike: What happened.
        processes: All that took the step.
    """
    was_training = objective.module.training
    objective.module.eval()
    mine: list[DocumentLoss] = []
    for batch in batches:
        # a filler is read too: all processes make the same passes
        if batch.stream == spike.stream:
            sums, weights = objective.document_losses(batch)
            mine += [
                DocumentLoss(id=name, loss=float(total / weight), weight=float(weight))
                for name, total, weight in zip(batch.document_ids, sums, weights, strict=True)
                if weight > 0 and np.isfinite(total)
            ]
    objective.module.train(was_training)
    found = [document for of_process in processes.gather(mine) for document in of_process]
    found.sort(key=lambda document: (document.loss - spike.usual) * document.weight, reverse=True)
    return found[:NUM_NAMED]
