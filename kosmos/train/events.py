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
"""

from collections.abc import Sequence
from pathlib import Path

from kosmos.files import Json
from kosmos.train.metrics import json_line, keep_until, writing
from kosmos.train.spikes import DocumentLoss, Spike
from kosmos.train.step import Problem


class EventsLog:
    """Appends events to a run's file, which is made with the first of them.

    Args:
        folder: The run's.
        step: Step the run goes on from; events after it are dropped, since they happen again.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._path = folder / "events.jsonl"
        keep_until(self._path, step)

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

    def _write(self, event: dict[str, Json]) -> None:
        with writing(self._path), open(self._path, "a", encoding="utf-8") as file:
            file.write(json_line(event))
