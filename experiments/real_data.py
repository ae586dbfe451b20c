"""Real data end to end: import every source, train the trial on all of them, print the table.

Run ``python experiments/real_data.py DATA OUT``; DATA holds the sources under the names in
:data:`SOURCES`. Every `kosmos` command is printed before it runs. What is done already is not done
again, and a killed training goes on from its last checkpoint. Exits with 1 unless the loss fell on
each stream and each held-out loss beats its unigram baseline.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from curves import Curve, read_curves, save_curves

from kosmos.config import from_json
from kosmos.data.config import Corpus, Stream
from kosmos.data.indexing import recorded_folder
from kosmos.data.loader import Loader
from kosmos.files import read_json, read_jsonl, write_json, write_jsonl
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run

TOKENIZER = "kosmos2/sentencepiece.bpe.model"
WINDOW = 10

T = TypeVar("T", Corpus, Stream)


class Source(NamedTuple):
    """A source of DATA, and how it is imported."""

    format: str
    path: str
    images: str = ""
    options: tuple[str, ...] = ()


# photos that are given to pages and conversations are of no other stream, so that no held-out photo
# is trained on
SOURCES: dict[str, Source] = {
    "wikipedia": Source("wikitext", "text/wikitext2_valid.txt"),
    "shakespeare": Source("text", "text/tinyshakespeare.txt"),
    "coco": Source("coco", "coco/annotations_dev.jsonl"),
    "cc12m": Source("pairs", "pairs/cc12m-train-0000.tar"),
    "grounded": Source("grit", "grounding/coco_grit_schema_dev.jsonl", images="coco"),
    "grit-questions": Source(
        "grit-instructions", "grounding/coco_grit_schema_dev.jsonl", images="coco"
    ),
    "refcoco": Source(
        "boxes",
        "grounding/refcoco_dev.jsonl",
        images=".",
        options=("--set", "boxes=xyxy-pixels"),
    ),
    "conversations": Source(
        "llava",
        "instruct/llava/coco2014_val_gpt4_qa_30x3.jsonl",
        images="classify/imagenet_photos",
        options=("--assign-images",),
    ),
    "interleaved": Source(
        "mmc4", "web/mmc4_dev.jsonl", images="detect/raccoon", options=("--assign-images",)
    ),
    "self-instruct": Source("instructions", "instruct/seed_tasks.jsonl"),
    "user-oriented": Source("instructions", "instruct/user_oriented_dev.jsonl"),
    "t0": Source("instructions", "instruct/t0_sample.jsonl"),
}
"""By corpus; a stream is one corpus of its name, or mixed of several."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of a stream."""

    stream: str
    num_train: int
    """Documents trained on."""
    num_heldout: int
    """Documents held out."""
    first: float
    """Mean training loss of the first steps, in nats."""
    last: float
    """The same of the last steps."""
    lowest: float
    """Lowest held-out loss."""
    heldout: float
    """Held-out loss at the end."""
    unigram: float
    """Held-out loss of the stream's token frequencies, one added to each count."""
    strong_unigram: float
    """The same of the stream's frequencies mixed with those of all streams together, with the
    weight that suits the held-out tokens best: what no choice of smoothing could beat by much."""

    @property
    def passed(self) -> bool:
        """Whether both losses fell, and held-out data is known better than by token frequencies.

        What the first steps read was new to the model, so their loss is that of held-out data then.
        """
        return max(self.last, self.heldout) < self.first and self.heldout < self.unigram


def main() -> int:
    """Import, train, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the sources")
    parser.add_argument("out", type=Path, help="folder for everything made")
    parser.add_argument("--heldout-fraction", type=float, default=0.15)
    parser.add_argument("--limit", type=int, help="documents of each source, at most")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="N=V")
    args = parser.parse_args()
    data, out = args.data.resolve(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    for name, source in SOURCES.items():
        if not (out / "corpora" / name / "report.json").exists():
            _kosmos(out, *_import_arguments(name, source, data, args))
    imported_s = time.monotonic()
    settings = [f"tokenizer={data / TOKENIZER}", *args.assignments]
    sets = [word for setting in settings for word in ("--set", setting)]
    _kosmos(out, "train", "trial", "--out", "run", "--resume", *sets)
    print(
        f"imports {imported_s - began_s:.0f} s, training {time.monotonic() - imported_s:.0f} s "
        f"in this process"
    )
    lines = summarize(out)
    write_json(out / "table.json", [asdict(line) for line in lines])
    save_curves(out / "run" / "metrics.jsonl", out / "curves.png", window=WINDOW)
    print_table(lines)
    return 0 if all(line.passed for line in lines) else 1


def summarize(out: Path) -> list[Line]:
    """The line of each stream of a finished trial.

    Args:
        out: Folder that this script filled.
    """
    curves = read_curves(out / "run" / "metrics.jsonl")
    strong = strong_unigrams(out)
    return [
        _line(out, stream, curves[stream.name], strong[stream.name])
        for stream in read_trial(out).data.streams
    ]


def read_trial(out: Path) -> Run:
    """The run, its paths made whole.

    Args:
        out: Folder that this script filled.
    """
    record = read_json(out / "run" / "run.json")
    assert isinstance(record, dict)
    run = from_json(Run, record["run"], where="run.json")
    # the run was made in OUT, and its paths start there; an empty one stays empty
    return replace(
        run,
        data=replace(
            run.data,
            streams=tuple(
                replace(_whole(stream, out), corpora=tuple(_whole(c, out) for c in stream.corpora))
                for stream in run.data.streams
            ),
        ),
    )


def _whole(source: T, out: Path) -> T:
    paths = {"path": source.path, "heldout_path": source.heldout_path}
    return replace(
        source, **{name: str(out / path) if path else "" for name, path in paths.items()}
    )


def strong_unigrams(out: Path) -> dict[str, float]:
    """Held-out loss of the best mixture of a stream's token frequencies with those of all.

    Args:
        out: Folder that this script filled.
    """
    run = read_trial(out)
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    loader = Loader(run.data, tokenizer, seed=run.seed, cache_folder=recorded_folder(out / "run"))
    counts = {stream.name: loader.token_counts(stream.name) for stream in run.data.streams}
    everything = 1.0 + sum(counts.values())
    everything = everything / everything.sum()
    losses = {}
    for name, found in counts.items():
        own = found / found.sum()
        batches = loader.heldout(name)
        targets = np.concatenate([b.targets[b.loss_weights > 0] for b in batches])
        losses[name] = min(
            float(-np.log(share * own[targets] + (1 - share) * everything[targets]).mean())
            for share in np.linspace(0.0, 0.99, 100)
        )
    return losses


def print_table(lines: list[Line]) -> None:
    """Print the table in Markdown."""
    print(
        "| stream | documents | held out | loss, first 10 steps | loss, last 10 "
        "| lowest held-out loss | held-out loss | unigram | strong unigram |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for line in lines:
        print(
            f"| {line.stream} | {line.num_train} | {line.num_heldout} | {line.first:.2f} "
            f"| {line.last:.2f} | {line.lowest:.2f} | {line.heldout:.2f} "
            f"| {line.unigram:.2f} | {line.strong_unigram:.2f} |"
        )
    for line in lines:
        if not line.passed:
            print(f"failed: {line.stream}")


def _kosmos(out: Path, *arguments: str) -> None:
    """Run a command of the project in a folder, told first."""
    print("$ kosmos", shlex.join(arguments), flush=True)
    # threads that wait asleep: spinning ones made a step five times slower on shared cores
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    command = [sys.executable, "-m", "kosmos", *arguments]
    subprocess.run(command, cwd=out, check=True, env=environment)


def named_from_above(path: Path, data: Path, target: Path) -> Path:
    """Rows whose pictures are named from the root of all data.

    Theirs lead out of the folder they are in, which an import refuses.
    """
    folder = path.parent.relative_to(data)
    rows = [row for row in read_jsonl(path) if isinstance(row, dict)]
    write_jsonl(
        target, ({**row, "file": os.path.normpath(folder / str(row["file"]))} for row in rows)
    )
    return target


def _import_arguments(name: str, source: Source, data: Path, args: argparse.Namespace) -> list[str]:
    images = ["--images", str(data / source.images)] if source.images else []
    limit = ["--limit", str(args.limit)] if args.limit is not None else []
    share = ["--heldout-fraction", str(args.heldout_fraction)]
    path = data / source.path
    if name == "refcoco":
        path = named_from_above(path, data, args.out.resolve() / "refcoco.jsonl")
    paths = [str(path), f"corpora/{name}"]
    return ["data", "import", source.format, *paths, *images, *source.options, *share, *limit]


def _line(out: Path, stream: Stream, curve: Curve, strong_unigram: float) -> Line:
    names = [corpus.name for corpus in stream.corpora] or [stream.name]
    reports: list[Any] = [read_json(out / "corpora" / name / "report.json") for name in names]
    losses = [loss for _, loss in curve.train]
    assert curve.unigram is not None
    return Line(
        stream=stream.name,
        num_train=sum(int(report["train"]) for report in reports),
        num_heldout=sum(int(report["heldout"]) for report in reports),
        first=sum(losses[:WINDOW]) / len(losses[:WINDOW]),
        last=sum(losses[-WINDOW:]) / len(losses[-WINDOW:]),
        lowest=min(loss for _, loss in curve.heldout),
        heldout=curve.heldout[-1][1],
        unigram=curve.unigram,
        strong_unigram=strong_unigram,
    )


if __name__ == "__main__":
    sys.exit(main())
