"""A run that is killed again and again ends as if nothing had happened, to the last bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kosmos.config import replace, to_json
from kosmos.files import Json, read_jsonl, write_json
from kosmos.runtime import generator
from kosmos.weights.folder import load_model
from tests.tiny_run import make_run

STEPS = 16

# trains in a process of its own, which kills itself some milliseconds after a step
CHILD = """
import os, signal, sys, threading
from pathlib import Path
from kosmos.config import from_json
from kosmos.files import read_json
from kosmos.train.config import Run
from kosmos.train.trainer import train

file, out, kill_after, delay_s = sys.argv[1:]

def kill(record):
    if record["step"] == int(kill_after):
        threading.Timer(float(delay_s), os.kill, (os.getpid(), signal.SIGKILL)).start()

train(from_json(Run, read_json(Path(file))), out=Path(out), resume=True, on_step=kill)
"""


def run_child(file: Path, out: Path, *, kill_after: int = -1, delay_s: float = 0.0) -> int:
    # bit-identical losses are promised for the same number of threads
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(file), str(out), str(kill_after), str(delay_s)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode


def measured(out: Path) -> list[dict[str, Json]]:
    """Metrics without the times, which no two runs share."""
    times = (
        *("wall_s", "tokens_per_s", "data_wait_s", "data_wait_share"),
        *("step_s", "utilisation", "memory_bytes"),
    )
    rows = [row for row in read_jsonl(out / "metrics.jsonl") if isinstance(row, dict)]
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    run = replace(make_run(folder, steps=STEPS), {"train.checkpoint_every": 3})
    write_json(folder / "run.json", to_json(run))
    return folder / "run.json"


@pytest.fixture(scope="module")
def uninterrupted(run_file: Path) -> Path:
    out = run_file.parent / "uninterrupted"
    assert run_child(run_file, out) == 0
    return out


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(run_file: Path, uninterrupted: Path) -> None:
    out = run_file.parent / "killed"
    rng = generator(0, "kill")
    # before the first checkpoint, then anywhere: in a step, in a checkpoint, between the two
    for kill_after in (1, int(rng.integers(4, 9)), int(rng.integers(9, STEPS - 1))):
        delay_s = float(rng.uniform(0.0, 0.03))
        code = run_child(run_file, out, kill_after=kill_after, delay_s=delay_s)
        assert code == -signal.SIGKILL
        assert not (out / "model").exists()
    assert run_child(run_file, out) == 0
    rows = measured(out)
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, STEPS + 1))
    assert rows == measured(uninterrupted)
    ours, theirs = (load_model(folder / "model").model for folder in (out, uninterrupted))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    left = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert left == ["step-00000015", "step-00000016"]
