"""metrics.jsonl: one object per step, and the mirror for TensorBoard.

Records of two kinds::

    {"kind": "train", "step": 12, "tokens": 49152, "wall_s": 8.1, "loss": 5.3,
     "losses": {"text": 5.9, "captions": 4.1}, "learning_rate": 2e-4, "grad_norm": 1.7,
     "num_tokens": 4096, "num_loss_tokens": 2100.0, "tokens_per_s": 6068.0, "data_wait_s": 0.01}
    {"kind": "heldout", "step": 200, "tokens": 819200, "wall_s": 135.0,
     "losses": {"text": 3.1}, "unigram": {"text": 5.7}}

``step`` counts finished steps, ``tokens`` and ``wall_s`` add up over resumptions, losses are means
over loss tokens in nats. ``unigram`` is what token frequencies alone would reach.
"""

import json
import logging
from pathlib import Path
from typing import Any

from kosmos.errors import MissingExtraError
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
        path = folder / "metrics.jsonl"
        keep_until(path, step)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = _open_board(folder / "tensorboard", step)

    def write(self, record: dict[str, Json]) -> None:
        """Append a record; it is on its way to the disk when this returns."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._board is not None:
            step = record["step"]
            for name, value in record.items():
                values = value if isinstance(value, dict) else {"": value}
                for part, number in values.items():
                    if isinstance(number, int | float) and name != "step":
                        tag = f"{record['kind']}/{name}" + (f"/{part}" if part else "")
                        self._board.add_scalar(tag, number, step)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def keep_until(path: Path, step: int) -> None:
    """Drop a file's records after a step, and a last line that was torn by a kill."""
    if not path.exists():
        return
    kept = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        try:
            # a run that begins again measures even what was before its first step
            if step and json.loads(line)["step"] <= step:
                kept.append(line)
        except json.JSONDecodeError:
            continue
    if len(kept) < len(lines):
        write_text(path, "".join(f"{line}\n" for line in kept))


def _open_board(folder: Path, step: int) -> Any:  # noqa: ANN401
    """The only use of tensorboard; metrics.jsonl is complete without it."""
    try:
        require("tensorboard", extra="train")
    except MissingExtraError as error:
        _log.info("metrics go to metrics.jsonl alone: %s", error)
        return None
    writer = require("torch.utils.tensorboard", extra="train").SummaryWriter
    return writer(str(folder), purge_step=step + 1 if step else None)
