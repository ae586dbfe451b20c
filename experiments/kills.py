"""A run on the microcosm, killed ten times at random, ends identical to one that was not.

Run ``python experiments/kills.py OUT``. Three runs of the same recipe through `kosmos train`:

- *whole*: never interrupted;
- *killed*: SIGKILL ten times, each time started again with `--resume` and another number of loader
  workers. Weights and every number of metrics.jsonl that is no time must be the same to the bit;
- *moved*: SIGKILL four times, each time started again on one process or on two (torchrun). Every
  step must hold the same tokens. Two processes sum in another order, so losses and weights differ
  by rounding, and how far is printed.

A run is killed while it starts, within a step, or while a checkpoint is being written; the seed
says when. OUT is made anew. Exits with 1 unless all of this holds.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from safetensors.numpy import load_file

from kosmos.files import Json, read_jsonl, sha256_file, write_json

Moment: TypeAlias = Literal["starting", "in a step", "in a checkpoint"]

MOMENTS: tuple[Moment, ...] = ("in a checkpoint", "in a step", "starting", "in a step")
TIMES = (
    *("wall_s", "step_s", "tokens_per_s", "data_wait_s", "data_wait_share"),
    *("utilisation", "memory_bytes"),
)
# relative for losses, absolute for weights; measured 3.0e-7 and 7.3e-7
LOSS_TOLERANCE = 1e-6
WEIGHT_TOLERANCE = 3e-6
SETTINGS = {
    "train.start_from": "",
    "train.vision": "all",
    "data.micro_batch_tokens": 256,  # several of each stream, so that two processes both have work
    "train.warmup_steps": 5,
    "train.checkpoint_every": 3,
    "train.heldout_every": 10,
    "data.heldout_sequences": 16,
}


@dataclass(frozen=True, kw_only=True)
class Life:
    """From a start to a kill."""

    run: str
    num_processes: int
    loader_workers: int
    moment: Moment
    """What it was doing when SIGKILL came."""
    resumed_from: int
    """Step of the checkpoint it began with."""
    last_step: int
    """The last step in metrics.jsonl after the kill."""
    is_torn: bool
    """Whether half a checkpoint was left."""
    lived_s: float


def main() -> int:
    """Make the data, run, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for everything made")
    parser.add_argument("--seed", default=0, type=int, help="of the moments")
    parser.add_argument("--kills", default=10, type=int)
    parser.add_argument("--steps", default=40, type=int)
    args = parser.parse_args()
    out, rng = args.out.resolve(), np.random.default_rng(args.seed)
    began_s = time.monotonic()
    make_data(out)
    _finish(out, "whole", args.steps)
    workers = [int(n) for n in rng.integers(0, 3, args.kills)]
    lives = list(live(out, "killed", args.steps, [(1, n) for n in workers], rng))
    _finish(out, "killed", args.steps)
    lives += live(out, "moved", args.steps, [(2, 0), (1, 1), (2, 1), (1, 0)], rng)
    _finish(out, "moved", args.steps, num_processes=2)
    print_table(lives)
    found = {name: compare(out / "whole", out / name) for name in ("killed", "moved")}
    for name, of_run in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in of_run.items()))
    seconds = round(time.monotonic() - began_s)
    print(f"seed {args.seed}, {args.steps} steps, {len(lives)} kills, {seconds} s in all")
    write_json(
        out / "kills.json",
        {
            "seed": args.seed,
            "steps": args.steps,
            "seconds": seconds,
            "lives": [asdict(life) for life in lives],
            "compared": found,  # type: ignore[dict-item]
        },
    )
    killed, moved = found["killed"], found["moved"]
    is_same = killed["weights"] == killed["metrics"] == "identical"
    is_near = (
        moved["samples"] == "identical"
        and float(str(moved["largest difference of losses"])) <= LOSS_TOLERANCE
        and float(str(moved["largest difference of weights"])) <= WEIGHT_TOLERANCE
    )
    return 0 if is_same and is_near else 1


def make_data(out: Path) -> None:
    """A small world and its tokenizer, and no run."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("whole", "killed", "moved"):
        shutil.rmtree(out / name, ignore_errors=True)
    _kosmos(out, "microcosm", "make", "microcosm", "--num-scenes", "400", "--workers", "1")
    parts = sorted(str(path.relative_to(out)) for path in (out / "microcosm/train").iterdir())
    size = ("--num-pieces", "352", "--out", "microcosm/tokenizer.model")
    if not (out / "microcosm/tokenizer.model").exists():
        _kosmos(out, "tokenizer", "train", *parts, *size)


def live(
    out: Path,
    name: str,
    steps: int,
    sizes: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> Iterator[Life]:
    """Start a run and kill it, once for each (processes, loader workers)."""
    folder = out / name
    # a kill in each of equal parts of the run
    places = (np.arange(len(sizes)) + rng.uniform(size=len(sizes))) / len(sizes)
    targets = 1 + (places * (steps - 3)).astype(int)
    order = [MOMENTS[n % len(MOMENTS)] for n in rng.permutation(len(sizes))]
    for (num_processes, workers), target, moment in zip(sizes, targets, order, strict=True):
        resumed_from, before = _latest_checkpoint(folder), _last_step(folder)
        began_s = time.monotonic()
        process = subprocess.Popen(
            _command(name, steps, num_processes, workers),
            cwd=out,
            env=_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if moment == "starting":
            time.sleep(float(rng.uniform(0.0, 6.0)))
        else:
            _wait_for_step(process, folder, max(int(target), before + 1))
            if moment == "in a checkpoint":
                _wait_for_writing(process, folder)
            time.sleep(float(rng.uniform(0.0, 0.03 if moment == "in a checkpoint" else 0.5)))
        _kill(process, with_children=num_processes > 1)
        life = Life(
            run=name,
            num_processes=num_processes,
            loader_workers=workers,
            moment=moment,
            resumed_from=resumed_from,
            last_step=_last_step(folder),
            is_torn=any(folder.glob("checkpoints/.step-*")),
            lived_s=round(time.monotonic() - began_s, 2),
        )
        print(f"killed {moment} at step {life.last_step}: {life}", flush=True)
        yield life


def compare(whole: Path, other: Path) -> dict[str, Json]:
    """What of two run folders is identical, and how far the rest is apart."""
    rows, its_rows = _measured(whole), _measured(other)
    weights, its_weights = (load_file(run / "model/model.safetensors") for run in (whole, other))
    digest, its_digest = (sha256_file(run / "model/model.safetensors") for run in (whole, other))
    samples, its_samples = (
        [
            {key: row[key] for key in ("step", "tokens", "num_tokens", "num_loss_tokens")}
            for row in of_run
            if row["kind"] == "train"
        ]
        for of_run in (rows, its_rows)
    )
    losses, its_losses = (
        np.array([value for row in of_run for value in row["losses"].values()])  # type: ignore[union-attr]
        for of_run in (rows, its_rows)
    )
    worst_loss = float((abs(its_losses - losses) / losses).max())
    worst_weight = max(float(abs(its_weights[name] - weights[name]).max()) for name in weights)
    same = {True: "identical", False: "different"}
    return {
        "weights": same[digest == its_digest],
        "metrics": same[rows == its_rows],
        "samples": same[samples == its_samples],
        "SHA-256": its_digest[:16],
        "records": len(its_rows),
        "largest difference of losses": f"{worst_loss:.1e}",
        "largest difference of weights": f"{worst_weight:.1e}",
    }


def print_table(lives: list[Life]) -> None:
    """Print the lives in Markdown."""
    print(
        "| run | processes | loader workers | killed | from checkpoint | last step "
        "| half a checkpoint left | lived, s |\n|---|--:|--:|---|--:|--:|---|--:|"
    )
    for life in lives:
        print(
            f"| {life.run} | {life.num_processes} | {life.loader_workers} | {life.moment} "
            f"| {life.resumed_from} | {life.last_step} | {'yes' if life.is_torn else ''} "
            f"| {life.lived_s:.1f} |"
        )


def _finish(out: Path, name: str, steps: int, *, num_processes: int = 1) -> None:
    """Start a run and let it come to its end."""
    command = _command(name, steps, num_processes, 0)
    subprocess.run(command, cwd=out, check=True, env=_environment(), stdout=subprocess.DEVNULL)


def _command(name: str, steps: int, num_processes: int, workers: int) -> list[str]:
    start = [sys.executable]
    if num_processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += [f"--nproc-per-node={num_processes}"]
    settings = {**SETTINGS, "train.steps": steps, "train.loader_workers": workers}
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [*start, "-m", "kosmos", "train", "microcosm", "--out", name, "--resume", *sets]


def _kosmos(out: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "kosmos", *arguments]
    subprocess.run(command, cwd=out, check=True, env=_environment(), stdout=subprocess.DEVNULL)


def _environment() -> dict[str, str]:
    # the sums of one thread are those of one thread, whatever the machine
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _kill(process: subprocess.Popen[bytes], *, with_children: bool) -> None:
    """SIGKILL; torchrun and its processes at once, as when a machine stops."""
    if process.poll() is not None:
        raise SystemExit("kills: expected a run to kill, found one that had ended")
    # loader workers of a single process have to notice by themselves
    children = _descendants(process.pid) if with_children else []
    for number in (process.pid, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def _descendants(number: int) -> list[int]:
    """Processes that a process started, and those that they did."""
    found = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    children = [int(child) for child in found]
    return [*children, *(later for child in children for later in _descendants(child))]


def _wait_for_step(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    while process.poll() is None and _last_step(folder) < step:
        time.sleep(0.005)


def _wait_for_writing(process: subprocess.Popen[bytes], folder: Path) -> None:
    while process.poll() is None and not any(folder.glob("checkpoints/.step-*.partial")):
        time.sleep(0.001)


def _last_step(folder: Path) -> int:
    """The last step in metrics.jsonl; a line may be torn."""
    file = folder / "metrics.jsonl"
    if not file.exists():
        return 0
    whole = file.read_bytes().rpartition(b"\n")[0]
    return sum(b'"kind": "train"' in line for line in whole.splitlines())


def _latest_checkpoint(folder: Path) -> int:
    names = sorted(path.name for path in folder.glob("checkpoints/step-*"))
    return int(names[-1].removeprefix("step-")) if names else 0


def _measured(folder: Path) -> list[dict[str, Json]]:
    """Metrics without the times, which no two runs share."""
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if isinstance(row, dict)]
    steps = [int(str(row["step"])) for row in rows if row["kind"] == "train"]
    if any(after != before + 1 for before, after in pairwise([0, *steps])):
        raise SystemExit(f"{folder}: expected every step once, found {steps}")
    drop = {*TIMES}
    return [{key: value for key, value in row.items() if key not in drop} for row in rows]


if __name__ == "__main__":
    sys.exit(main())
