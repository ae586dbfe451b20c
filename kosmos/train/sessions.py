"""sessions.jsonl: when, where and by which command a run was started, a line for each start.

::

    {"began": "2026-11-21T19:28:33Z", "step": 0, "command": ["kosmos", "train", "microcosm", ...],
     "index": "runs/micro/index", "processes": 2, "threads": 1, "device": "NVIDIA H100 80GB HBM3",
     "processor": "AMD EPYC", "system": "Linux x86_64", "versions": {"openkosmos": "0.1.0", ...}}

``step`` counts the steps that were done before. ``device`` is null where training is on the
processor. Nothing here moves a weight, except that another number of threads or processes sums in
another order.
"""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from kosmos.train.metrics import whole_records, writing

FILE = "sessions.jsonl"
_PACKAGES = ("openkosmos", "torch", "numpy", "pillow", "sentencepiece", "safetensors")


def note_session(
    folder: Path,
    *,
    step: int,
    index_folder: Path,
    num_processes: int,
    num_threads: int,
    device: str | None,
) -> None:
    """Note that a run is starting.

    Args:
        folder: Run folder.
        step: Steps that are done.
        index_folder: Where the indices of its data are.
        num_processes: That train together.
        num_threads: Of each.
        device: Name of the GPU; None: none.
    """
    session: dict[str, Any] = {
        "began": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "step": step,
        "command": _command(num_processes),
        "index": str(index_folder),
        "processes": num_processes,
        "threads": num_threads,
        "device": device,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions()},
    }
    file = folder / FILE
    with writing(file), open(file, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(session, ensure_ascii=False) + "\n")


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The sessions of a run, in order; none of a run that is older than this file."""
    return [session for _, session in whole_records(folder / FILE)]


def _command(num_processes: int) -> list[str]:
    """What a person would type to do it again."""
    program, *words = sys.argv
    is_ours = Path(program).name in ("kosmos", "__main__.py")
    if num_processes == 1:
        return ["kosmos" if is_ours else program, *words]
    on_each = int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))
    machines = ["--nnodes", str(num_processes // on_each)] if on_each < num_processes else []
    start = ["torchrun", *machines, "--nproc-per-node", str(on_each)]
    return [*start, *(["-m", "kosmos"] if is_ours else [program]), *words]


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
