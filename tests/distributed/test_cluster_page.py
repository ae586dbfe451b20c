"""The batch script of docs/guides/cluster.md, on two machines that are one.

Slurm is played by two shell scripts: `srun` starts the command once for each machine and, when the
first checkpoint is there, kills the process of the second one.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import pytest

from kosmos.config import replace, to_json
from kosmos.files import read_jsonl, write_json
from tests.distributed.torchrun import TIMEOUT_S
from tests.tiny_run import make_run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "cluster.md"
STEPS = 16

SCONTROL = """#!/bin/bash
echo localhost
"""

SRUN = """#!/bin/bash
for machine in $(seq "$SLURM_NNODES"); do "$@" & agents="$agents $!"; done
last=$!
until [ -e "$FIRST_CHECKPOINT" ] || ! kill -0 "$last"; do sleep 0.1; done
kill -KILL $(cat "/proc/$last/task/$last/children")
for agent in $agents; do wait "$agent" || failed=1; done
exit ${failed:-0}
"""


@pytest.mark.slow
def test_the_batch_script_trains_on_two_machines_and_goes_on_when_a_process_dies(
    tmp_path: Path,
) -> None:
    run = replace(make_run(tmp_path, steps=STEPS), {"train.checkpoint_every": 2})
    write_json(tmp_path / "run.json", to_json(run))
    out = tmp_path / "out"
    done = subprocess.run(
        ["bash", "-c", script(), "kosmos.sbatch", str(tmp_path / "run.json"), str(out)],
        env=slurm(tmp_path / "bin", first_checkpoint=out / "checkpoints" / "step-00000002"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (out / "model").is_dir()
    rows = [row for row in read_jsonl(out / "sessions.jsonl") if isinstance(row, dict)]
    assert len(rows) == 2
    assert rows[0]["step"] == 0
    assert rows[1]["step"] in range(2, STEPS)
    rows = [row for row in read_jsonl(out / "metrics.jsonl") if isinstance(row, dict)]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [*range(1, STEPS + 1)]
    assert "addresses of dead processes" not in done.stderr


def script() -> str:
    """What the page tells to submit."""
    (found,) = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    return str(found)


def slurm(commands: Path, *, first_checkpoint: Path) -> Mapping[str, str]:
    """The environment of a job on two machines with a device each."""
    commands.mkdir()
    torchrun = f'#!/bin/bash\nexec "{sys.executable}" -m torch.distributed.run "$@"\n'
    for name, text in {"scontrol": SCONTROL, "srun": SRUN, "torchrun": torchrun}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "CUDA_VISIBLE_DEVICES": "",
        "FIRST_CHECKPOINT": str(first_checkpoint),
        "SLURM_JOB_ID": str(free_job_id()),
        "SLURM_JOB_NODELIST": "two-machines",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_CPUS_PER_TASK": "1",
    }


def free_job_id() -> int:
    """A number from which the script makes the number of a port that is free."""
    for job in count(os.getpid() % 5000):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", 20_000 + job)) != 0:
                return job
    raise AssertionError
