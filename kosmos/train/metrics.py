"""metrics.jsonl: one object per step, and the mirror for TensorBoard.

Records of two kinds::

    {"kind": "train", "step": 12, "tokens": 49152, "wall_s": 8.1, "loss": 5.3,
     "losses": {"text": 5.9, "captions": 4.1}, "learning_rate": 2e-4, "grad_norm": 1.7,
     "num_tokens": 4096, "num_loss_tokens": 2100.0, "num_positions": 4410, "num_fillers": 0,
     "step_s": 0.675, "tokens_per_s": 6068.0, "flops": 61000000000, "utilisation": 0.46,
     "memory_bytes": 912000000, "data_wait_s": 0.01, "data_wait_share": 0.015}
    {"kind": "heldout", "step": 200, "tokens": 819200, "wall_s": 135.0,
     "losses": {"text": 3.1}, "unigram": {"text": 5.7}}

``step`` counts finished steps, ``tokens`` and ``wall_s`` add up over resumptions, losses are means
over loss tokens in nats. ``unigram`` is what token frequencies alone would reach.

Of several processes, counts and rates are those of all together, times and memory those of the
slowest and the largest. ``num_tokens`` are real positions, image slots included; ``num_positions``
are all that were computed, so that what is not in both was padding, or a filler's: a micro-batch
without loss (``num_fillers``) for a process that would have had nothing to do. ``flops`` are
operations that the real positions needed, ``utilisation`` their share of what the devices could
have done in that time (train/utilisation.py). ``memory_bytes`` is the peak so far: of what is
resident on a CPU, of what is allocated on a GPU. ``data_wait_s`` is the part of ``step_s`` in which
a step waited for its data.

Every line is strict JSON. A quantity that is unknown is null, and so is one that is not finite.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kosmos.errors import DataError, MissingExtraError
from kosmos.files import Json, read_jsonl
from kosmos.lines import Lines
from kosmos.runtime import require

FILE = "metrics.jsonl"
_NEEDED = {
    "train": ("step", "tokens", "wall_s", "num_tokens", "num_loss_tokens"),
    "heldout": ("step",),
}
_log = logging.getLogger(__name__)


class MetricsLog:
    """Appends records to a run's metrics.

    Args:
        folder: The run's.
        step: Step the run goes on from; records after it are dropped, since they are written
            again.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._lines = lines_until(folder / FILE, step)
        self._board = _open_board(folder / "tensorboard", step)

    def write(self, record: dict[str, Json]) -> None:
        """Append a record; it is on its way to the disk when this returns.

        Raises:
            DataError: If the disk refuses it.
        """
        self._lines.write(record)
        self._show(record)

    def _show(self, record: dict[str, Json]) -> None:
        """Mirror a record for TensorBoard."""
        if self._board is None:
            return
        for name, value in record.items():
            values = value if isinstance(value, dict) else {"": value}
            for part, number in values.items():
                if isinstance(number, int | float) and name != "step":
                    tag = f"{record['kind']}/{name}" + (f"/{part}" if part else "")
                    self._board.add_scalar(tag, number, record["step"])

    def close(self) -> None:
        """Flush and close, even on a disk that takes nothing more."""
        for file in (self._lines, self._board):
            if file is not None:
                # what was refused has been told by then
                with contextlib.suppress(OSError, DataError):
                    file.close()


def lines_until(path: Path, step: int) -> Lines:
    """A log of a run that goes on from a step, without its records after it.

    Args:
        path: The log; made if it is not there.
        step: A run that begins again, at 0, measures even what was before its first step.
    """
    lines = Lines(path)
    num_kept = 0
    for number, record in enumerate(lines.records(damaged=[]), start=1):
        if step and is_number(record.get("step")) and record["step"] <= step:  # type: ignore[operator]
            num_kept = number
    lines.cut(num_kept)
    return lines


def read_records(
    path: Path, is_whole: Callable[[dict[str, Any]], bool], *, damaged: list[DataError]
) -> Iterator[dict[str, Any]]:
    """The records of a log that are what they should be, without a last one torn by a kill.

    Args:
        path: The log; one that is not there has no records.
        is_whole: Whether a record has all that is asked of it.
        damaged: Takes what is wrong with the other lines.
    """
    if not path.exists():
        return
    for row in read_jsonl(path, damaged=damaged):
        if isinstance(row, dict) and is_whole(row):
            yield row
        else:
            damaged.append(DataError(f"{path}: expected a record, found {row!r:.100}"))


def is_measurement(record: dict[str, Any]) -> bool:
    """Whether a record of metrics.jsonl has what every reader of it asks for."""
    kind = record.get("kind")
    if kind not in ("train", "heldout") or not isinstance(record.get("step"), int):
        return False
    by_stream = ("losses", "unigram") if kind == "heldout" else ("losses",)
    parts = [record.get(name) for name in by_stream]
    if not all(isinstance(part, dict) for part in parts):
        return False
    numbers = [record[name] for name in record.keys() - {"kind", *by_stream}]
    numbers += [loss for part in parts for loss in part.values()]  # type: ignore[union-attr]
    return all(value is None or is_number(value) for value in numbers) and all(
        is_number(record.get(name)) for name in _NEEDED[kind]
    )


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number of something: finite, and not below zero."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def _open_board(folder: Path, step: int) -> Any:  # noqa: ANN401
    """The only use of tensorboard; metrics.jsonl is complete without it."""
    try:
        require("tensorboard", extra="train")
    except MissingExtraError as error:
        _log.info("metrics go to metrics.jsonl alone: %s", error)
        return None
    writer = require("torch.utils.tensorboard", extra="train").SummaryWriter
    return writer(str(folder), purge_step=step + 1 if step else None)
