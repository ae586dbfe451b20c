"""Real pictures through the engine's commands: caption, ground, refer and score, with figures.

Run ``python experiments/real_inputs.py DATA MODEL OUT [--limit N] [-- OPTIONS]``. DATA holds
``kosmos2/demo_images``, ``coco/annotations_dev.jsonl`` with its photographs and
``grounding/refcoco_dev.jsonl`` with its own; OPTIONS go to every command (``--quantize int8``).
Each command is printed, and then its last line, which has throughput and peak memory. At the end:
how often the likeliest box is right and what the grid would allow, and where the class of a thing
that is in a photograph stands among the 80 names of COCO. Exits with 1 if a line is missing.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from kosmos.boxes import Box
from kosmos.text.locations import quantization_ceiling

NUM_CELLS = 32
MAX_NEW_TOKENS = "16"


def main() -> int:
    """Run every command and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=10_000, help="most items of each command")
    parser.add_argument("options", nargs="*", help="options of every command, behind --")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data, short = args.data.resolve(), ("--max-new-tokens", MAX_NEW_TOKENS)
    refer, score = args.out / "refer-requests.jsonl", args.out / "score-requests.jsonl"
    cases = _read(data / "grounding/refcoco_dev.jsonl")[: args.limit]
    _write(
        refer,
        [
            {"image": str(data / "grounding" / case["file"]), "expression": case["expression"]}
            for case in cases
        ],
    )
    photos = [p for p in _read(data / "coco/annotations_dev.jsonl") if p["boxes"]][: args.limit]
    names = list(json.loads((data / "coco/coco80_names.json").read_text()).values())
    _write(
        score,
        [
            {
                "image": str(data / "coco" / photo["file"]),
                "prompt": "A photo of a",
                "candidates": names,
            }
            for photo in photos
        ],
    )
    demo, coco = data / "kosmos2/demo_images", data / "coco/images"
    counts = {
        "caption-demo": _run(args, "caption", "--images", demo, *short, out="caption-demo"),
        "caption-coco": _run(args, "caption", "--images", coco, *short, out="caption-coco"),
        "ground-demo": _run(args, "ground", "--images", demo, *short, out="ground-demo"),
        "ground-coco": _run(args, "ground", "--images", coco, *short, out="ground-coco"),
        "refer": _run(args, "refer", "--requests", refer, "--grammar", *short, out="refer"),
        "score": _run(args, "score", "--requests", score, out="score"),
    }
    _print_boxes(cases, _read(args.out / "refer.jsonl"))
    _print_names(photos, _read(args.out / "score.jsonl"))
    print("answers: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    expected = {"refer": len(cases), "score": len(photos)}
    return int(any(counts[name] != count for name, count in expected.items()) or not all(counts))


def _run(args: argparse.Namespace, command: str, *words: object, out: str) -> int:
    """Run a command into a file; how many answers it holds."""
    target = args.out / f"{out}.jsonl"
    line = ["kosmos", command, "--model", str(args.model), *map(str, words)]
    line += ["--jsonl", str(target), "--limit", str(args.limit), "--force", *args.options]
    print("$ " + shlex.join(line), flush=True)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    print("  " + done.stderr.strip().splitlines()[-1], flush=True)
    if done.returncode:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return len(_read(target))


def _print_boxes(cases: list[dict], answers: list[dict]) -> None:
    by_id = {answer["id"]: answer for answer in answers}
    truths, hits = [], 0
    for number, case in enumerate(cases, start=1):
        width, height = case["width"], case["height"]
        x0, y0, x1, y1 = case["bbox_xyxy"]
        truth = Box(x0 / width, y0 / height, x1 / width, y1 / height).clipped()
        truths.append(truth)
        spans = by_id[str(number)]["grounded"]
        hits += bool(spans) and Box(*spans[0]["boxes"][0]).iou(truth) > 0.5
    ceiling = quantization_ceiling(truths, num_cells=NUM_CELLS)
    print(f"boxes: {hits} of {len(cases)} right; the grid allows {ceiling}")


def _print_names(photos: list[dict], answers: list[dict]) -> None:
    by_id = {answer["id"]: answer for answer in answers}
    ranks = []
    for number, photo in enumerate(photos, start=1):
        scores = sorted(by_id[str(number)]["scores"], key=lambda item: -item["mean_logprob"])
        present = {box["category"] for box in photo["boxes"]}
        ranks.append(next(i for i, item in enumerate(scores) if item["candidate"] in present))
    print(
        f"names: the best that is there stands at {sorted(ranks)[len(ranks) // 2]} (median, of "
        f"{len(answers[0]['scores'])}, from 0)"
    )


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
