"""What `kosmos plan` says beside what a short run measures: tokens, operations, memory, time.

Run ``python experiments/plan_accuracy.py OUT [--tokenizer FILE] [--only NAME]``. A world is made in
OUT; the microcosm's recipe and a decoder of 8 layers, 512 wide, train on it for a few steps each,
the latter with FILE's vocabulary, as it is and with activations that are computed again. Plans are
made right before and right after each run, since shared machines change within minutes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean, median
from typing import Any

from kosmos.config import replace, to_json
from kosmos.files import read_jsonl, write_json
from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig
from kosmos.recipes.microcosm import NUM_CELLS, NUM_PIECES, microcosm
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run

LIMIT = 0.15
SETTLED = 3
"""Steps before times are looked at: memory is found for the first time in them."""


def cases(out: Path, tokenizer: Path) -> dict[str, Run]:
    """The runs, by name.

    Args:
        out: Folder with the world.
        tokenizer: A SentencePiece model for the larger runs.
    """
    world = replace(
        microcosm(),
        {
            "train.start_from": "",
            "train.steps": 60,
            "train.warmup_steps": 4,
            "train.checkpoint_every": 30,
        },
    )
    size = Tokenizer.load(tokenizer, num_cells=NUM_CELLS).vocabulary.size
    eye = microcosm().model.vision
    large = ModelConfig(
        decoder=DecoderConfig(
            vocab_size=size,
            width=512,
            num_layers=8,
            num_heads=8,
            ffn_width=2048,
            positions="xpos",
            max_tokens=512,
            dropout=0.0,
        ),
        vision=eye,
        connector=ConnectorConfig(
            kind="perceiver", num_queries=16, num_layers=2, num_heads=4, width=128
        ),
    )
    streams = {stream.name: stream for stream in world.data.streams}
    mixed = replace(
        world,
        {
            "model": large,
            "tokenizer": str(tokenizer),
            "streams": (
                replace(streams["text"], {"sequences_per_step": 8, "max_tokens": 256}),
                replace(streams["captions"], {"sequences_per_step": 32}),
            ),
            "train.steps": 10,
            "train.checkpoint_every": 5,
            "data.micro_batch_tokens": 1024,
            "train.vision": "all",
        },
    )
    return {
        "microcosm": world,
        "8x512": mixed,
        "8x512, recomputed": replace(mixed, {"train.recompute": True}),
    }


def main() -> int:
    """Plan, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="default: the world's own")
    parser.add_argument("--only", help="name of one run")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "microcosm" / "tokenizer.model").exists():
        _kosmos(out, "microcosm", "make", "microcosm", "--num-scenes", "1500")
        parts = [str(path) for path in sorted((out / "microcosm" / "train").iterdir())]
        pieces, model = str(NUM_PIECES), "microcosm/tokenizer.model"
        _kosmos(out, "tokenizer", "train", *parts, "--num-pieces", pieces, "--out", model)
    tokenizer = (args.tokenizer or out / "microcosm" / "tokenizer.model").resolve()
    are_near = True
    for name, run in cases(out, tokenizer).items():
        if args.only in (None, name):
            are_near &= compare(out, name, run)
    return 0 if are_near else 1


def compare(out: Path, name: str, run: Run) -> bool:
    """Print a table of one run; whether all of it is within the limit.

    Args:
        out: Folder with the world.
        name: Of the run.
        run: To plan and to train.
    """
    folder = name.replace(", ", "-")
    file = out / f"{folder}.json"
    write_json(file, to_json(run))
    # a first step makes the index, which the plan reads
    first, folder = f"runs/{folder}-first", f"runs/{folder}"
    if not (out / first / "run.json").exists():
        one = ("--set", "train.steps=1", "--set", "train.warmup_steps=1")
        _kosmos(out, "train", file.name, "--out", first, *one)
    plan = ["plan", file.name, "--index", f"{first}", "--measure", "--json"]
    before = json.loads(_kosmos(out, *plan))
    _kosmos(out, "train", file.name, "--out", folder)
    after = json.loads(_kosmos(out, *plan))
    rows: list[Any] = list(read_jsonl(out / folder / "metrics.jsonl"))
    steps = [row for row in rows if row["kind"] == "train"]
    settled = steps[SETTLED:]
    pairs = {
        "tokens a step": (before["tokens_per_step"], fmean(s["num_tokens"] for s in steps), 1.0),
        "operations a step, GFLOP": (
            before["flops_per_step"], fmean(s["flops"] for s in steps), 1e9,
        ),
        "memory, MB": (
            before["processor_memory_bytes"], max(s["memory_bytes"] for s in steps), 1e6,
        ),
        "time of a step, ms": (
            (before["step_s"] + after["step_s"]) / 2, median(s["step_s"] for s in settled), 1e-3,
        ),
    }  # fmt: skip
    print(f"\n{name}\n\n| | planned | measured | ratio |\n|---|--:|--:|--:|")
    are_near = True
    for what, (planned, measured, unit) in pairs.items():
        ratio = planned / measured
        mark = "" if abs(ratio - 1) <= LIMIT else " (far)"
        are_near &= not mark
        print(f"| {what} | {planned / unit:,.1f} | {measured / unit:,.1f} | {ratio:.3f}{mark} |")
    waits = [step["data_wait_share"] for step in settled]
    print(
        f"\ntime planned before and after: {before['step_s'] * 1e3:.1f} and "
        f"{after['step_s'] * 1e3:.1f} ms; waiting for data {median(waits):.1%}",
        flush=True,
    )
    return are_near


def _kosmos(out: Path, *arguments: str) -> str:
    """Run a command of the project in a folder."""
    command = [sys.executable, "-m", "kosmos", "--quiet", *arguments]
    return subprocess.run(command, cwd=out, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
