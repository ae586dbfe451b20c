"""docs/performance.md, made of the JSON files of the benchmarks and the docstrings of their files.

Needs no torch, so that the page can be compared with its sources in a test that takes no time.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.table import HEADER, cells, conditions
from kosmos.files import read_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
NAMES = (
    "first_token", "decode", "decode_int8", "decode_batch", "beam", "folder", "questions", "raven",
    "multiple_choice", "constrained", "parsing", "tokenizing", "pixels", "load", "train_step",
    "mixture_step", "head_loss", "xpos", "packing", "loader", "seek", "gpu_mfu",
)  # fmt: skip
"""The benchmarks in the order of the table."""

_TOP = """\
<!-- made by python -m benchmarks.all; change benchmarks/, not this page -->

# Performance

What the engine and training reach beside Hugging Face's Kosmos-2 (and others, named in each row)
with the same random weights, and beside what the machine can do at all. `make bench` makes this
page again; one row is `python -m benchmarks.decode`, and `--help` says what can be changed.

How it is measured:

- Both sides load one folder of random weights and are first made to show that they do the same
  work: the same tokens, scores, pixels or boxes, the same loss and gradient. Where they differ
  there is no time.
- They run in turns, after a warm-up, the order changing every round. The ratio is the median of the
  ratios of the pairs, with the least and greatest in brackets: other work on the machine slows both
  halves of a pair. More than 1 means ours is faster.
- Where fresh memory is a part of the work (training, a folder of pictures), each side has a process
  of its own, the peer's with torch's own pages: kosmos asks Linux for pages of 2 MiB, and in its
  process the peer would have them too, which its users have not.
- The limit is computed from two rates measured in the same run: a large matrix product, and reading
  memory far larger than the caches. It assumes that nothing is done twice and nothing waits.
- Photographs are new in every round, so that pictures our engine remembers help it in no row.
- Models: `full` is the released 1.66B, `medium` has 12 layers of 1024 and a 12-layer tower of 768,
  `small` 8 layers of 512 and a 4-layer tower of 256, all with 65,037 tokens.
- The page cannot say how quiet the machine was. Each row says when it was measured, and the rates
  of the machine in that run.
"""
_NO_RESULT = "not measured"


def page(results: Path) -> str:
    """The page as Markdown.

    Args:
        results: Folder of JSON files, one for each benchmark that was measured.
    """
    found = {name: _read(results / f"{name}.json") for name in NAMES}
    lines = [_TOP, "## Results", ""]
    lines += [_row(HEADER), "|---|---|---|" + "--:|" * 5 + "---|---|"]
    for name, result in found.items():
        row = cells(result) if result else [name, _NO_RESULT, *[""] * (len(HEADER) - 2)]
        lines.append(_row([f"[{row[0]}](#{name.replace('_', '-')})", *row[1:]]))
    lines += ["", "## What is compared", ""]
    for name, result in found.items():
        lines += [f"### {name.replace('_', '-')}", "", about(name), ""]
        if result:
            lines += [f"- {said}" for said in conditions(result)]
        else:
            lines.append(f"{_NO_RESULT.capitalize()} yet: `python -m benchmarks.{name}`.")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def about(name: str) -> str:
    """The docstring of a benchmark's file, without importing it."""
    source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(source))
    assert said is not None, name
    return said.replace("``", "`")


def _read(file: Path) -> Mapping[str, Any] | None:
    if not file.exists():
        return None
    found = read_json(file)
    assert isinstance(found, dict), file
    return found


def _row(cells_of_row: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cells_of_row) + " |"
