"""Starts a script in several processes through torchrun, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 300


def torchrun(
    script: Path, *words: str, num_processes: int, max_restarts: int = 0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a Python script on several gloo processes of one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        f"--nproc-per-node={num_processes}",
        f"--max-restarts={max_restarts}",
        *(str(script), *words),
    ]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if check:
        assert result.returncode == 0, result.stderr[-4000:]
    return result
