"""A training step of the microcosm while another process keeps one core busy, and while none does.

Run ``python benchmarks/busy.py --work SCRATCH [--json FILE]`` on a machine that does nothing else.
Two sides take turns, each training in processes of its own:

- now: as `kosmos train` does it, which sets how long threads spin and watches their number
- before: threads spin as long as libgomp lets them by itself, and their number stays

It ends with 1 if a step of ours takes more than twice its idle time while the other process runs,
or if it takes longer than before where nothing else does, beyond what its rounds differ by.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kosmos.files import write_json

DEFAULT_SPINS = "300000"
"""Of libgomp, where there are no more threads than cores."""
SIDES = ("before", "now")
LOADS = ("idle", "busy")
ALLOWED = 2.0
"""Times the idle time that a step may take beside a busy process."""
_WARMUPS = 5

TRAIN = """
import sys, shutil
from pathlib import Path
from kosmos.recipes.table import make_run
from kosmos.text.tokenizer import Tokenizer
from kosmos.train import trainer
from kosmos.train.threads import ThreadWatch

side, steps, out = sys.argv[1:]
if side == "before":
    trainer.watch_threads = lambda device, num_processes: ThreadWatch(1)
tokenizer = Tokenizer.load(Path("microcosm/tokenizer.model"), num_cells=16)
run = make_run("microcosm", [
    "train.start_from=", f"train.steps={steps}", "train.warmup_steps=1",
    "train.checkpoint_every=100000",
    f"model.decoder.vocab_size={tokenizer.vocabulary.size}", "data.heldout_sequences=1",
])
shutil.rmtree(out, ignore_errors=True)
trainer.train(run, out=Path(out), cache_folder=Path("index"))
"""


def make_world(work: Path) -> None:
    """Shards and a tokenizer, once."""
    from kosmos.cli.tokenizer import sentences
    from kosmos.microcosm import dataset
    from kosmos.microcosm.config import MicrocosmConfig
    from kosmos.text.training import train_tokenizer

    folder = work / "microcosm"
    dataset.make(MicrocosmConfig(num_scenes=2000, num_cells=16), folder)
    if not (folder / "tokenizer.model").exists():
        parts = ("text", "captions", "grounded", "vqa", "interleaved", "instruct")
        lines = sentences([folder / "train" / part for part in parts])
        (folder / "tokenizer.model").write_bytes(train_tokenizer(lines, num_pieces=352))


@contextmanager
def load(kind: str) -> Iterator[None]:
    """Another process that does nothing but compute, or none."""
    if kind == "idle":
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def step_s(work: Path, side: str, steps: int) -> float:
    """Median time of a step, of a training in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    if side == "before":
        environment["GOMP_SPINCOUNT"] = DEFAULT_SPINS
    command = [sys.executable, "-c", TRAIN, side, str(steps), side]
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = map(json.loads, (work / side / "metrics.jsonl").read_text().splitlines())
    times = [row["step_s"] - row["data_wait_s"] for row in rows if row["kind"] == "train"]
    return statistics.median(times[_WARMUPS:])


def main() -> int:
    """Measure, tell, and say whether it is what was promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="Scratch folder.")
    parser.add_argument("--json", type=Path, help="Where the numbers go.")
    parser.add_argument("--steps", type=int, default=60, help="Of each training.")
    parser.add_argument("--rounds", type=int, default=3, help="Trainings of each kind.")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    make_world(args.work)
    step_s(args.work, "now", _WARMUPS + 1)  # makes the indices
    found: dict[str, list[float]] = {f"{side} {kind}": [] for side in SIDES for kind in LOADS}
    for turn in range(args.rounds):
        for kind in LOADS:
            for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
                with load(kind):
                    found[f"{side} {kind}"].append(step_s(args.work, side, args.steps))
    medians = {name: statistics.median(times) for name, times in found.items()}
    for name, times in found.items():
        spread = f"{min(times):.3f} to {max(times):.3f}"
        sys.stdout.write(f"{name:<12} {medians[name]:.3f} s a step  ({spread})\n")
    slowdown = {side: medians[f"{side} busy"] / medians[f"{side} idle"] for side in SIDES}
    for side, times_as_long in slowdown.items():
        sys.stdout.write(f"{side}: {times_as_long:.2f} times as long beside a busy process\n")
    if args.json:
        write_json(args.json, {"step_s": found, "slowdown": slowdown})  # type: ignore[dict-item]
    is_as_fast = min(found["now idle"]) <= max(found["before idle"])
    return 0 if slowdown["now"] <= ALLOWED and is_as_fast else 1


if __name__ == "__main__":
    sys.exit(main())
