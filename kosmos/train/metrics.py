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
import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kosmos.errors import DataError, MissingExtraError, free_space
from kosmos.files import Json, write_text
from kosmos.runtime import require

_log = logging.getLogger(__name__)


class MetricsLog:
    """Appends records to a run's metrics.

    Args:
        folder: The run's.
        step: Step the run goes on from; records after it are dropped, since they are written
            again.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._path = folder / "metrics.jsonl"
        keep_until(self._path, step)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = _open_board(folder / "tensorboard", step)

    def write(self, record: dict[str, Json]) -> None:
        """Append a record; it is on its way to the disk when this returns.

        Raises:
            DataError: If the disk refuses it.
        """
        with writing(self._path):
            self._file.write(json_line(record))
            self._file.flush()
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
        for file in (self._file, self._board):
            if file is not None:
                # what was refused has been told by then
                with contextlib.suppress(OSError):
                    file.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that refuses is named with its file."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: could not be written: {error.strerror or error} {free_space(path)}",
            hint="checkpoints are untouched; free some space and use --resume",
        ) from error


def json_line(record: dict[str, Json]) -> str:
    """A record as a line of strict JSON, which knows neither NaN nor infinity."""
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def whole_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a log and their lines, without a last one that was torn by a kill.

    Args:
        path: The log; one that is not there has no records.
    """
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield line, json.loads(line)


def keep_until(path: Path, step: int) -> None:
    """Drop a file's records after a step, and a last line that was torn by a kill."""
    if not path.exists():
        return
    # a run that begins again measures even what was before its first step
    kept = [line for line, record in whole_records(path) if step and record["step"] <= step]
    text = "".join(f"{line}\n" for line in kept)
    if text != path.read_text(encoding="utf-8"):
        write_text(path, text)


def _open_board(folder: Path, step: int) -> Any:  # noqa: ANN401
    """The only use of tensorboard; metrics.jsonl is complete without it."""
    try:
        require("tensorboard", extra="train")
    except MissingExtraError as error:
        _log.info("metrics go to metrics.jsonl alone: %s", error)
        return None
    writer = require("torch.utils.tensorboard", extra="train").SummaryWriter
    return writer(str(folder), purge_step=step + 1 if step else None)
