"""The run folder: what it remembers of its run, whether another run is the same, and who holds it.

``run.json`` holds the resolved run, its digest, the package version, the digests of everything it
read and where the indices of its data are; `kosmos train run.json` repeats it. A run is resumed as
the same run alone: fields that change no weight (how often to save, where a folder lies) may
differ, data must be the same bytes.

``sessions.jsonl`` says when, where and by which command it was started, a line for each start::

    {"began": "2026-11-21T19:28:33Z", "step": 0, "command": ["kosmos", "train", "microcosm", ...],
     "processes": 2, "threads": 1, "device": "NVIDIA H100 80GB HBM3", "processor": "AMD EPYC",
     "system": "Linux x86_64", "versions": {"openkosmos": "0.1.0", ...}}

``step`` counts the steps that were done before. ``device`` is null where training is on the
processor. Nothing there moves a weight, except that another number of threads or processes sums in
another order.
"""

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kosmos import config
from kosmos.data.config import skipped_steps
from kosmos.data.mixture import data_step
from kosmos.errors import CheckpointError
from kosmos.files import Json
from kosmos.lines import Lines
from kosmos.locks import try_lock
from kosmos.train.config import Run
from kosmos.train.metrics import is_number
from kosmos.train.parallel import ALONE, Processes
from kosmos.weights.adapter import base_digests

if TYPE_CHECKING:
    from kosmos.data.loader import Loader

SESSIONS = "sessions.jsonl"
_PACKAGES = ("openkosmos", "torch", "numpy", "pillow", "sentencepiece", "safetensors")

# facts about a run that no weight depends on; digests tell whether its data is the same
_MAY_DIFFER = re.compile(r"digest|version|indices|data\..*\.path")


def run_record(run: Run, loader: "Loader") -> dict[str, Json]:
    """The record of a run on its data."""
    return {
        "run": config.to_json(run),
        "digest": config.digest(run),
        "version": _versions().get("openkosmos", "not installed"),
        "tokenizer": loader.tokenizer.digest,
        "start": _start_digests(run),
        "indices": str(loader.cache_folder),
        "data": {
            stream.source_name(corpus): {
                "path": corpus.path,
                "shards": loader.indices[stream.source_name(corpus)].key.shards,
                "index": loader.indices[stream.source_name(corpus)].digest,
            }
            for stream in run.data.streams
            for corpus in stream.sources
        },
    }


def _start_digests(run: Run) -> dict[str, Json]:
    """Of the folder that a run starts from, where its continuation needs the same one again."""
    if run.train.adapter is None and run.parts == "stated":
        return {}
    return {**base_digests(Path(run.train.start_from))}


def check_same_run(recorded: Json, record: Json, run: Run, *, where: str) -> None:
    """Fail unless one run continues another; its fields say which of them may differ.

    Args:
        recorded: What the folder remembers.
        record: Of the run that wants to go on there.
        run: That run.
        where: The folder's file, for the message.

    Raises:
        CheckpointError: Naming every field that differs.
    """
    old, new = dict(leaves(recorded)), dict(leaves(record))
    free = {f"run.{name}" for name in config.may_differ(run, config.FREE_ON_RESUME)}
    more = {f"run.{name}" for name in config.may_differ(run, config.MORE_ON_RESUME)}

    def differs(name: str) -> bool:
        was, now = old.get(name), new.get(name)
        if was == now or _MAY_DIFFER.fullmatch(name):
            return False
        if name in more and isinstance(was, int | float) and isinstance(now, int | float):
            return now < was
        parts = name.split(".")
        return free.isdisjoint(".".join(parts[:end]) for end in range(1, len(parts) + 1))

    differing = [
        f"{name.removeprefix('run.')} was {old.get(name)!r} and is {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if differs(name)
    ]
    if differing:
        raise CheckpointError(
            f"{where}: expected the run that is being resumed, found {'; '.join(differing)}",
            hint="resume with the settings in run.json, or train into another folder",
        )


def check_same_data(recorded: Json, run: Run, *, num_done: int, where: str) -> None:
    """Fail unless the finished steps read what they would read now, whatever steps are skipped.

    Args:
        recorded: The record of the run as its checkpoint has it.
        run: The run that wants to go on.
        num_done: Finished steps.
        where: The checkpoint, for the message.

    Raises:
        CheckpointError: If a step that is done would have been left out, or one that was left out
            would have been read.
    """
    before, now = (
        skipped_steps(tuple(str(text) for text in steps))
        for steps in (_recorded_skips(recorded), run.data.skip_steps)
    )
    read = 0 if num_done == 0 else data_step(num_done - 1, before) + 1
    was, would_be = (
        [(left_out.start, min(left_out.stop, read)) for left_out in ranges if left_out.start < read]
        for ranges in (before, now)
    )
    if was != would_be:
        raise CheckpointError(
            f"{where}: expected data.skip_steps that leave the first {read} steps of data as they "
            f"were read, found {list(run.data.skip_steps)} after {_recorded_skips(recorded)}",
            hint=f"data can be left out from step {read + 1} on; to leave out earlier data, remove "
            f"the checkpoints after it",
        )


def _recorded_skips(recorded: Json) -> list[Json]:
    run = recorded["run"]  # type: ignore[index, call-overload]
    steps = run["data"].get("skip_steps", [])  # type: ignore[index, call-overload, union-attr]
    assert isinstance(steps, list)
    return steps


def leaves(value: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    """Dotted names and values; elements of a list that have a name are called by it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            assert isinstance(item, dict)
            yield from leaves(item, f"{name}.{item.get('name', index)}")
        # the order of the streams is the order of the micro-batches
        yield f"{name}.order", [item.get("name") for item in value if isinstance(item, dict)]
    else:
        yield name, value


@contextmanager
def run_lock(folder: Path, processes: Processes = ALONE) -> Iterator[None]:
    """Hold a run folder while the block runs. The kernel lets go of it when the process ends.

    Processes may outlive what started them: torchrun that is killed leaves its workers writing.
    Another training beside them would delete their half-written checkpoints and cut their lines out
    of metrics.jsonl, so it is refused.

    Args:
        folder: Of the run; made if it is not there.
        processes: Of the run; the first holds the folder for all.

    Raises:
        CheckpointError: In all processes, if another run of processes holds it.
    """
    descriptor = -1
    is_free = True
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        is_free = try_lock(descriptor, folder)
    try:
        if not processes.first_of(is_free):
            raise CheckpointError(
                f"{folder}: expected no training under way there, found one",
                hint="wait for it or end it; its processes may have outlived what started them",
            )
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def note_session(
    folder: Path,
    *,
    step: int,
    num_processes: int,
    num_threads: int,
    device: str | None,
) -> None:
    """Note that a run is starting.

    Args:
        folder: Run folder.
        step: Steps that are done.
        num_processes: That train together.
        num_threads: Of each.
        device: Name of the GPU; None: none.
    """
    session: dict[str, Json] = {
        "began": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "step": step,
        "command": [*_command(num_processes)],
        "processes": num_processes,
        "threads": num_threads,
        "device": device,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions()},
    }
    with Lines(folder / SESSIONS) as lines:
        lines.write(session)


def is_session(record: dict[str, Any]) -> bool:
    """Whether a record of sessions.jsonl has what every reader of it asks for."""
    words = (record.get(name) for name in ("began", "processor", "system"))
    counts = (record.get(name) for name in ("step", "processes", "threads"))
    command, versions = record.get("command"), record.get("versions")
    return (
        all(isinstance(word, str) for word in words)
        and all(isinstance(count, int) and is_number(count) for count in counts)
        and isinstance(record.get("device", 0), str | None)
        and isinstance(command, list)
        and all(isinstance(word, str) for word in command)
        and isinstance(versions, dict)
        and all(isinstance(version, str) for version in versions.values())
    )


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
