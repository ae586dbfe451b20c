"""``kosmos evaluate``: measure a model on tasks."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kosmos.cli.options import ModelChoice, model_options

if TYPE_CHECKING:
    from kosmos.evaluate.results import TaskResult
    from kosmos.evaluate.task import Task
    from kosmos.generate.generator import Generator


@click.command()
@model_options
@click.option(
    "--tasks", "names", default="all", show_default=True, help="Names of tasks, with commas."
)
@click.option(
    "--data-dir",
    default="microcosm",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder with a folder of shards for each task's dataset, or with eval/ in it.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for results.")
@click.option("--limit", type=click.IntRange(1), help="Examples of each task, at most.")
@click.option("--shots", default=0, show_default=True, help="Demonstrations before each example.")
@click.option(
    "--num-beams", type=click.IntRange(1), help="Beams, instead of each task's own number."
)
@click.option("--batch-size", default=16, show_default=True, help="Examples asked at once.")
@click.option(
    "--seed", default=0, show_default=True, help="Seed of intervals, chance and demonstrations."
)
@click.option("--force", is_flag=True, help="Replace replies of another model or setting.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
def command(
    model: ModelChoice,
    names: str,
    data_dir: Path,
    out: Path,
    limit: int | None,
    shots: int,
    num_beams: int | None,
    batch_size: int,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Measure a model on tasks; a run that was stopped goes on.

    Example: kosmos evaluate --model out/model --tasks captioning,vqa --out out/results
    """
    from kosmos.config import to_json
    from kosmos.evaluate.runner import Plan, evaluate
    from kosmos.evaluate.suite import TASKS, choose

    tasks = choose(names)
    engine = model.load()
    plan = Plan(
        data=data_dir,
        out=out,
        limit=limit,
        shots=shots,
        batch_size=batch_size,
        num_beams=num_beams,
        seed=seed,
        model=str(model.folder),
        model_digest=model_digest(model.folder, quantize=model.quantize),
        force=force,
        facts={
            **how_asked(data_dir, limit=limit, shots=shots),
            **model_facts(engine, device=model.device, dtype=model.dtype),
        },
    )
    results = evaluate(engine, tasks, plan)
    if as_json:
        click.echo(json.dumps(to_json(results), ensure_ascii=False))
        return
    for result in results.tasks:
        print_result(TASKS[result.task], result)
    click.echo(f"{out / 'results.json'}; kosmos report {out} makes a page of it")


def model_digest(folder: Path, *, quantize: str | None = None) -> str:
    """SHA-256 of everything that makes a model answer as it does."""
    from kosmos.files import sha256_file, sha256_json

    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*.model")])
    how = {} if quantize is None else {"quantize": quantize}
    return sha256_json({**{file.name: sha256_file(file) for file in files}, **how})


def how_asked(data: Path, *, limit: int | None, shots: int) -> dict[str, str]:
    """What a report says of how it came to be."""
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Command": shlex.join(["kosmos", *sys.argv[1:]]),
        "Data": str(data),
        "Examples": "all" if limit is None else f"the first {limit} of each task",
        "Demonstrations": f"{shots} before each" if shots else "none",
    }


def model_facts(engine: "Generator", *, device: str, dtype: str) -> dict[str, str]:
    """What a report says of the model that was measured."""
    from importlib.metadata import PackageNotFoundError, version

    from kosmos.model.forms.convert import count_parameters
    from kosmos.model.forms.int8 import is_int8

    is_quantized = is_int8(engine.model)
    try:
        ours = version("openkosmos")
    except PackageNotFoundError:  # run from a checkout
        ours = "not installed"
    return {
        "Parameters": f"{count_parameters(engine.model):,}",
        "Vocabulary": f"{engine.tokenizer.vocabulary.size:,}",
        "Run on": f"{device}, {dtype}" + (", int8 weights" if is_quantized else ""),
        "openkosmos": ours,
        "torch": version("torch"),
    }


def print_result(task: "Task", result: "TaskResult") -> None:
    """A line per metric: value, interval, chance and whether the interval excludes it."""
    from kosmos.evaluate.results import to_lines

    for line in to_lines(result, task):
        name = f"{task.name}/{line.group}" if line.group else task.name
        interval = f"[{line.low:.1f}, {line.high:.1f}]"
        chance = "" if line.chance is None else f"chance {line.chance:.1f}"
        click.echo(
            f"{name:32} {line.metric:16} {line.value:6.1f}{line.unit:1} {interval:16} "
            f"{chance:13} {line.verdict:24} n={line.num_examples}"
        )
