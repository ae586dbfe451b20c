"""Fine-tuning end to end on real photos: captions, boxes and questions, all weights and LoRA.

Run ``python experiments/finetuning.py DATA OUT``; DATA holds the sources named below. A small model
of the released kind is pre-trained on text first, since no released checkpoint is at hand; then the
commands of docs/guides/finetune.md are run on each kind of data. Every `kosmos` command is printed
before it runs. What is done already is not done again.

The table says what became of the held-out loss and what a step took; the last lines are what
`kosmos plan` says of the released model. Exits with 1 unless every held-out loss fell and the
merged adapter is the model that was left.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from real_data import named_from_above

from kosmos.files import read_json, read_jsonl, write_jsonl

TOKENIZER = "kosmos2/sentencepiece.bpe.model"
PHOTOS = "coco/annotations_dev.jsonl"
KINDS = ("captions", "boxes", "referring", "questions")
RECIPES = ("finetune", "finetune-lora")
# a model that transformers' Kosmos-2 can be, and one stream of text
BASE = {
    "model.decoder.positions": "sinusoidal",
    "model.connector.num_heads": "4",
    "model.connector.width": "256",
    "model.connector.kind": "cross-attention",
    "streams": json.dumps(
        [
            {
                "name": "text",
                "path": "corpora/text/train",
                "sequences_per_step": 4,
                "tokens_per_sequence": 256.0,
                "max_tokens": 256,
                "packing": "full-sentence",
                "long_lines": "carry",
                "line_tokens": True,
            }
        ]
    ),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of a run."""

    kind: str
    recipe: str
    documents: int
    before: float
    """Held-out loss before the first step, in nats."""
    best: float
    """The lowest."""
    best_step: int
    step_s: float
    """Median."""
    memory_mb: float
    """At the highest, of the whole process."""
    saved_mb: float
    """What learned, as a file."""


def main() -> int:
    """Import, pre-train, fine-tune, merge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the sources")
    parser.add_argument("out", type=Path, help="folder for everything made")
    parser.add_argument("--base-steps", default=200, type=int)
    parser.add_argument("--steps", default=60, type=int)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of data")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="N=V")
    args = parser.parse_args()
    data, out = args.data.resolve(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    _import(data, out)
    _pretrain(data, out, args.base_steps, args.assignments)
    lines = [_finetune(out, kind, recipe, args.steps) for kind in args.kinds for recipe in RECIPES]
    _merge(out)
    print_table(lines)
    _plan(out)
    fell = all(line.best < line.before for line in lines)
    return 0 if fell else 1


def print_table(lines: list[Line]) -> None:
    """Print the table in Markdown."""
    print(
        "| data | recipe | documents | held-out loss before | best | at step | s a step "
        "| peak memory, MB | saved, MB |\n|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for line in lines:
        print(
            f"| {line.kind} | {line.recipe} | {line.documents} | {line.before:.2f} "
            f"| {line.best:.2f} | {line.best_step} | {line.step_s:.2f} | {line.memory_mb:.0f} "
            f"| {line.saved_mb:.1f} |"
        )


def write_questions(photos: Path, file: Path) -> None:
    """How many of each category are in a photo, as its boxes say."""
    rows = []
    for photo in read_jsonl(photos):
        counts = Counter(box["category"] for box in photo["boxes"])  # type: ignore[index, call-overload]
        for category, count in counts.items():
            question = f"how many of this are in the picture: {category}?"
            rows.append({"file": photo["file"], "question": question, "answer": count})  # type: ignore[index, call-overload]
    write_jsonl(file, rows)


def _import(data: Path, out: Path) -> None:
    if not (out / "questions.jsonl").exists():
        write_questions(data / PHOTOS, out / "questions.jsonl")
    grit = "grounding/coco_grit_schema_dev.jsonl"
    referring = data / "grounding/refcoco_dev.jsonl"
    photos = ("--images", str(data / "coco"))
    sources = {
        "text": ("wikitext", data / "text/wikitext2_valid.txt"),
        "captions": ("coco", data / PHOTOS, "--set", "prompt=An image of"),
        "boxes": ("grit", data / grit, *photos, "--set", "grit_mode=phrase"),
        "referring": (
            *("boxes", named_from_above(referring, data, out / "refcoco.jsonl")),
            *("--images", str(data), "--set", "boxes=xyxy-pixels"),
        ),
        "questions": ("questions", out / "questions.jsonl", *photos),
    }
    for name, (format_name, path, *options) in sources.items():
        if not (out / "corpora" / name / "report.json").exists():
            share = ("--heldout-fraction", "0.15")
            words = (format_name, str(path), f"corpora/{name}", *options, *share)
            _kosmos(out, "data", "import", *words)


def _pretrain(data: Path, out: Path, steps: int, assignments: list[str]) -> None:
    if (out / "base" / "model").exists():
        return
    settings = [
        *(f"{name}={value}" for name, value in BASE.items()),
        f"tokenizer={data / TOKENIZER}",
        f"train.steps={steps}",
        *assignments,
    ]
    sets = [word for setting in settings for word in ("--set", setting)]
    _kosmos(out, "train", "trial", "--out", "base", "--resume", *sets)


def _finetune(out: Path, kind: str, recipe: str, steps: int) -> Line:
    folder = out / "runs" / f"{kind}-{recipe}"
    settings = {
        "train.start_from": "base/model",
        "streams.data.path": f"corpora/{kind}/train",
        "streams.data.heldout_path": f"corpora/{kind}/heldout",
        "train.steps": steps,
        "train.warmup_steps": max(1, steps // 10),
        "train.heldout_every": max(1, steps // 6),
        # rates for a small model; those of the recipes are for the released one
        "train.learning_rate": 1e-3 if recipe == "finetune" else 5e-3,
    }
    if not (folder / "model").exists():
        sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        _kosmos(out, "train", recipe, "--out", str(folder.relative_to(out)), "--resume", *sets)
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if isinstance(row, dict)]
    trained = [row for row in rows if row["kind"] == "train"]
    heldout = {row["step"]: row["losses"]["data"] for row in rows if row["kind"] == "heldout"}  # type: ignore[index, call-overload]
    best = min((step for step in heldout if step), key=heldout.__getitem__)
    report = read_json(out / "corpora" / kind / "report.json")
    learned = "adapter/adapter_model" if recipe == "finetune-lora" else "model/model"
    return Line(
        kind=kind,
        recipe=recipe,
        documents=report["train"],  # type: ignore[index, call-overload, arg-type]
        before=heldout[0],  # type: ignore[arg-type]
        best=heldout[best],  # type: ignore[arg-type]
        best_step=best,  # type: ignore[arg-type]
        step_s=median(row["step_s"] for row in trained),  # type: ignore[type-var]
        memory_mb=max(row["memory_bytes"] for row in trained) / 1e6,  # type: ignore[type-var, operator]
        saved_mb=(folder / f"{learned}.safetensors").stat().st_size / 1e6,
    )


def _merge(out: Path) -> None:
    """Merge an adapter once more, leave in Hugging Face's form, and compare all three."""
    run = "runs/captions-finetune-lora"
    _kosmos(out, "weights", "merge", "base/model", f"{run}/adapter", "merged", "--force")
    _kosmos(out, "weights", "verify", f"{run}/model", "merged")
    _kosmos(out, "weights", "export", "merged", "merged-hf", "--force")
    _kosmos(out, "weights", "verify", "merged", "merged-hf")


def _plan(out: Path) -> None:
    for recipe in RECIPES:
        print(f"released model, {recipe}:", flush=True)
        _kosmos(out, "plan", recipe, "--flops-per-s", "2e14")


def _kosmos(out: Path, *arguments: str) -> None:
    """Run a command of the project in a folder, told first."""
    print("$ kosmos", shlex.join(arguments), flush=True)
    # threads that wait asleep: spinning ones made a step five times slower on shared cores
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    command = [sys.executable, "-m", "kosmos", *arguments]
    subprocess.run(command, cwd=out, check=True, env=environment)


if __name__ == "__main__":
    sys.exit(main())
