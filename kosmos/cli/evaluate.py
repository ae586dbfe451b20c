"""``kosmos evaluate``: measure a model on tasks."""

import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from kosmos.cli.options import PATH, ModelChoice, echo_json, grouped, model_options
from kosmos.evaluate.results import Results, to_lines
from kosmos.evaluate.runner import EvaluateConfig, evaluate
from kosmos.evaluate.suite import TASKS, choose

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator

_config_options = grouped(
    "config",
    EvaluateConfig,
    {
        "data": click.option(
            "--data-dir",
            "data",
            default="microcosm",
            type=PATH,
            help="Folder with a folder of shards for each task's dataset, or with eval/ in it.",
        ),
        "out": click.option("--out", required=True, type=PATH, help="Folder for results."),
        "limit": click.option(
            "--limit", type=click.IntRange(1), help="Examples of each task, at most."
        ),
        "shots": click.option("--shots", default=0, help="Demonstrations before each example."),
        "num_beams": click.option(
            "--num-beams", type=click.IntRange(1), help="Beams, instead of each task's own number."
        ),
        "batch_size": click.option("--batch-size", default=16, help="Examples asked at once."),
        "seed": click.option(
            "--seed", default=0, help="Seed of intervals, chance and demonstrations."
        ),
        "force": click.option(
            "--force", is_flag=True, help="Replace replies of another model or setting."
        ),
    },
)


@click.command()
@model_options
@click.option("--tasks", "names", default="all", help="Names of tasks, with commas.")
@_config_options
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
def command(model: ModelChoice, names: str, config: EvaluateConfig, as_json: bool) -> None:
    """Measure a model on tasks; a run that was stopped goes on.

    Example: kosmos evaluate --model out/model --tasks captioning,vqa --out out/results
    """
    results = measure(model, names, config)
    if as_json:
        echo_json(results)
        return
    print_results(results)
    click.echo(f"{config.out / 'results.json'}; kosmos report {config.out} makes a page of it")


def measure(model: ModelChoice, names: str, config: EvaluateConfig) -> Results:
    """Ask a model tasks, and record what it is and how it was asked.

    Args:
        model: What is measured.
        names: Of the tasks, with commas.
        config: How they are asked; what it says of the model is filled in.
    """
    tasks = choose(names)
    engine = model.load()
    quantized = {"quantize": model.quantize} if model.quantize else {}
    shots = f"{config.shots} before each" if config.shots else "none"
    facts = {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Command": shlex.join(["kosmos", *sys.argv[1:]]),
        "Data": str(config.data),
        "Examples": "all" if config.limit is None else f"the first {config.limit} of each task",
        "Demonstrations": shots,
        **_model_facts(engine, model),
    }
    digest = model.digest(**quantized)
    config = replace(config, model=str(model.folder), model_digest=digest, facts=facts)
    return evaluate(engine, tasks, config)


def _model_facts(engine: "Generator", model: ModelChoice) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from kosmos.model.forms.convert import count_parameters
    from kosmos.model.forms.int8 import is_int8

    try:
        ours = version("openkosmos")
    except PackageNotFoundError:  # run from a checkout
        ours = "not installed"
    weights = ", int8 weights" if is_int8(engine.model) else ""
    return {
        "Parameters": f"{count_parameters(engine.model):,}",
        "Vocabulary": f"{engine.tokenizer.vocabulary.size:,}",
        "Run on": f"{model.device}, {model.dtype}{weights}",
        "openkosmos": ours,
        "torch": version("torch"),
    }


def print_results(results: Results) -> None:
    """A line per metric: value, interval, chance and whether the interval excludes it."""
    verdicts = {None: "", True: "excludes chance", False: "does not exclude chance"}
    for result in results.tasks:
        for line in to_lines(result, TASKS[result.task]):
            found, metric = line.found, line.metric
            interval = f"[{found.low:.1f}, {found.high:.1f}]"
            chance = "" if found.chance is None else f"chance {found.chance:.1f}"
            click.echo(
                f"{line.name:32} {metric.title:16} {found.value:6.1f}{metric.unit:1} "
                f"{interval:16} {chance:13} {verdicts[found.excludes_chance]:24} "
                f"n={found.num_examples}"
            )
