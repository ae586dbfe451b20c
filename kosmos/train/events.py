"""events.jsonl: what happened in a run that somebody should look at, with the documents.

::

    {"kind": "nonfinite", "step": 812, "what": "a loss of nan", "stream": "captions",
     "documents": ["00012#3", ...]}

A line for each micro-batch that was not finite; the step left the weights as they were.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from kosmos.files import Json
from kosmos.train.metrics import keep_until
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

    def nonfinite(self, step: int, problems: Sequence[Problem]) -> None:
        """Note a step whose loss or gradient was not finite."""
        for problem in problems:
            self._write(
                {
                    "kind": "nonfinite",
                    "step": step,
                    "what": problem.what,
                    "stream": problem.stream,
                    "documents": list(problem.document_ids),
                }
            )

    def _write(self, event: dict[str, Json]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
