"""events.jsonl: what happened in a run that somebody should look at, with the documents.

::

    {"kind": "nonfinite", "step": 812, "data_step": 812, "what": "a loss of nan",
     "stream": "captions", "documents": ["00012#3", ...]}
    {"kind": "spike", "step": 903, "data_step": 903, "stream": "text", "loss": 4.91, "usual": 2.32,
     "documents": ["wiki-88", ...], "document_losses": [9.7, ...], "document_tokens": [812, ...]}

``nonfinite``: a line for each micro-batch that was not finite; the step left the weights as they
were. ``spike``: a line for each stream whose loss was far above the median of its steps before,
``usual``; documents are those that raised it most, the worst first, with what each lost by itself,
read once more behind the step. ``data_step`` is what ``data.skip_steps`` would leave out.

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
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kosmos.data.batch import Batch
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.lines import Lines
from kosmos.train.metrics import is_number, lines_until
from kosmos.train.parallel import Processes
from kosmos.train.step import Objective, Problem

FILE = "events.jsonl"
WINDOW = 100
"""Losses of a stream that are remembered."""
MIN_SEEN = 20
"""Losses of a stream before any is judged."""
MIN_SPREAD = 0.01
"""Nats, the least that counts as a usual distance: who has learned by heart varies by nothing."""
NUM_NAMED = 10
"""Documents named for a spike."""

_NUM_IN_ERROR = 5
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


class EventsLog:
    """Appends events to a run's file, which is made with the first of them.

    Args:
        folder: The run's.
        step: Step the run goes on from; events after it are dropped, since they happen again.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._path = folder / FILE
        self._lines = lines_until(self._path, step) if self._path.exists() else None

    def nonfinite(self, step: int, problems: Sequence[Problem], *, data_step: int) -> None:
        """Note a step whose loss or gradient was not finite.

        Args:
            step: Of the optimizer, counted from 1.
            problems: What was not.
            data_step: Which data it read, counted from 1.
        """
        for problem in problems:
            self._write(
                {
                    "kind": "nonfinite",
                    "step": step,
                    "data_step": data_step,
                    "what": problem.what,
                    "stream": problem.stream,
                    "documents": list(problem.document_ids),
                }
            )

    def spike(
        self, step: int, spike: Spike, documents: Sequence[DocumentLoss], *, data_step: int
    ) -> None:
        """Note a stream whose loss was far above the usual.

        Args:
            step: Of the optimizer, counted from 1.
            spike: What happened.
            documents: Whose fault it is, the worst first.
            data_step: Which data it read, counted from 1.
        """
        self._write(
            {
                "kind": "spike",
                "step": step,
                "data_step": data_step,
                "stream": spike.stream,
                "loss": spike.loss,
                "usual": spike.usual,
                "documents": [document.id for document in documents],
                "document_losses": [round(document.loss, 4) for document in documents],
                "document_tokens": [round(document.weight, 4) for document in documents],
            }
        )

    def close(self) -> None:
        """Let go of the file."""
        if self._lines is not None:
            self._lines.close()

    def _write(self, event: dict[str, Json]) -> None:
        self._lines = self._lines or Lines(self._path)
        self._lines.write(event)


def is_event(record: dict[str, Any]) -> bool:
    """Whether a record of events.jsonl has what every reader of it asks for."""
    documents = record.get("documents")
    words, numbers = ["stream"], ["step"]
    if record.get("kind") == "spike":
        numbers += ["loss", "usual"]
    else:
        words.append("what")
    return (
        record.get("kind") in ("spike", "nonfinite")
        and all(isinstance(record.get(name), str) for name in words)
        and all(is_number(record.get(name)) for name in numbers)
        and isinstance(record["step"], int)
        and isinstance(record.get("data_step", 0), int)
        and isinstance(documents, list)
        and all(isinstance(name, str) for name in documents)
    )


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


def nonfinite_error(problems: Sequence[Problem], step: int) -> DataError:
    """The error that ends a run whose step was not finite."""
    first = problems[0]
    where = ""
    if first.stream:
        ids = first.document_ids
        more = f" and {len(ids) - _NUM_IN_ERROR} more" if len(ids) > _NUM_IN_ERROR else ""
        named = ", ".join(map(repr, ids[:_NUM_IN_ERROR]))
        where = f" in stream {first.stream!r}, documents {named}{more}"
    return DataError(
        f"step {step}: expected finite numbers, found {first.what}{where}",
        hint="look at those documents in events.jsonl; a lower train.learning_rate or a longer "
        "warm-up often helps; the last checkpoint is untouched",
    )
