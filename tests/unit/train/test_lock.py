"""A run folder has one training at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kosmos.errors import CheckpointError
from kosmos.train.config import Run
from kosmos.train.record import run_lock
from kosmos.train.trainer import train

HOLDER = """
import sys, time
from pathlib import Path
from kosmos.train.record import run_lock

with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_until_its_process_is_dead(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(CheckpointError, match="run: expected no training under way there, found"),
        run_lock(folder),
    ):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with run_lock(folder):
        assert list(folder.iterdir()) == []  # nothing is left behind


def test_a_second_training_touches_nothing_of_the_first(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    out = tmp_path / "out"
    partial = out / "checkpoints" / ".step-00000002.partial"

    def start_another(record: dict[str, object]) -> None:
        if record["step"] == 1:
            partial.mkdir(parents=True, exist_ok=True)
            before = (out / "metrics.jsonl").read_bytes()
            with pytest.raises(CheckpointError, match="expected no training under way"):
                train(run, out=out, cache_folder=cache_folder, resume=True)
            assert partial.is_dir()
            assert (out / "metrics.jsonl").read_bytes() == before
            partial.rmdir()

    train(run, out=out, cache_folder=cache_folder, on_step=start_another)
    assert (out / "model").is_dir()


def test_a_folder_that_cannot_be_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with run_lock(tmp_path):
        pass
    assert "cannot be locked" in caplog.text
