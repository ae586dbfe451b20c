"""recipes.md and tasks.md: what can be trained and what can be measured."""

import re
from collections.abc import Callable, Iterator

from kosmos.evaluate.suite import TASKS
from kosmos.recipes.table import ALIASES, RECIPES
from kosmos.train.config import Run
from tools.docstrings import cell, inline


def recipes_page() -> str:
    """Every recipe: what its docstring promises and what a step holds."""
    aliases = ", ".join(f"`{alias}` for `{name}`" for alias, name in ALIASES.items())
    parts = [
        "# Recipes",
        "A recipe is a function without arguments that returns a whole [Run](config.md#run). "
        "`kosmos recipe show NAME` prints it, `kosmos plan NAME` computes what it takes, "
        "`kosmos train NAME` runs it, and `--set` changes it in all three. "
        f"Short names: {aliases}.",
    ]
    for name, make in RECIPES.items():
        run = make()
        parts += [f"## {name}", *_recipe_docstring(make)]
        rows = [
            "| stream | sequences a step | packing | longest row | boxes |",
            "|---|---|---|---|---|",
        ]
        for stream in run.data.streams:
            boxes = "written" if stream.ground and run.data.num_cells else "left out"
            if not stream.images_per_sequence:
                boxes = "no pictures"
            rows.append(
                f"| {stream.name} | {stream.sequences_per_step:,} | {stream.packing} | "
                f"{stream.max_tokens:,} | {boxes} |"
            )
        train = run.train
        parts.append("\n".join(rows))
        parts.append(
            f"{train.steps:,} steps, {train.warmup_steps:,} of them warm-up, peak learning rate "
            f"{train.learning_rate:g}; objective {train.objective}; vision tower: "
            f"{train.vision if run.model.vision is not None else 'none'}; "
            + (f"starts from `{train.start_from}`." if train.start_from else "fresh weights.")
        )
    return "\n\n".join(parts)


def _recipe_docstring(make: Callable[[], Run]) -> Iterator[str]:
    """Labelled lines of a recipe's docstring as a list, the rest as paragraphs."""
    for paragraph in (make.__doc__ or "").strip().split("\n\n"):
        rows: list[str] = []
        for line in (line.strip() for line in paragraph.split("\n")):
            if re.match(r"(Paper|Source|Command|Hardware and time|Should reach): ", line):
                label, _, text = line.partition(": ")
                rows.append(f"- {label}: {text}")
            elif rows:
                rows[-1] += f" {line}"
            else:
                rows.append(line)
        labelled = rows and rows[0].startswith("- ")
        yield "\n".join(_as_code(row) for row in rows) if labelled else inline(" ".join(rows))


def _as_code(row: str) -> str:
    label, _, text = row.partition(": ")
    is_code = label == "- Command" and "`" not in text
    return f"{label}: `{text}`" if is_code else f"{label}: {inline(text)}"


def tasks_page() -> str:
    """Every evaluation task: prompt, metrics, published numbers."""
    parts = [
        "# Evaluation tasks",
        "What `kosmos evaluate --tasks NAME,NAME` measures. Data is a folder of document shards "
        "that show only what a model may see, the gold in their `meta`; "
        "`kosmos microcosm make` writes one for each task, and `kosmos data import` makes them "
        "of COCO, RefCOCO and VQAv2 files. Shares have Wilson's 95% interval, means a "
        "bootstrap; chance is the same replies scored against other examples' gold.",
    ]
    for name, task in TASKS.items():
        decoding = task.decoding
        how = (
            "candidates are scored"
            if decoding is None
            else f"{decoding.num_beams} beams, at most {decoding.max_new_tokens} tokens"
            if decoding.num_beams > 1
            else f"greedy, at most {decoding.max_new_tokens} tokens"
        )
        rows = ["| metric | title | meaning | better |", "|---|---|---|---|"]
        rows += [
            f"| `{m.name}` | {m.title} | {cell(m.help)} | "
            f"{'higher' if m.higher_is_better else 'lower'} |"
            for m in task.metrics
        ]
        parts += [
            f"## {name}",
            f"{task.title}. {task.help} Version {task.version}; data folder `{task.dataset}`; "
            f"{how}.",
            "\n".join(rows),
        ]
        published = ["| published | data | metric | value | source |", "|---|---|---|--:|---|"]
        published += [
            f"| {p.model} | {p.data} | `{p.metric}` | {p.value} | {p.source} |"
            for p in task.published
        ]
        parts.append("\n".join(published))
    return "\n\n".join(parts)
