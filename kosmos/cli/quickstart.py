"""``kosmos quickstart``: the whole project in miniature and for real, in one command."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kosmos.cli.options import PATH, ModelChoice, echo_json, json_option, set_option

if TYPE_CHECKING:
    from kosmos.evaluate.results import Results
    from kosmos.files import Json
    from kosmos.recipes.quickstart import Quickstart


@click.command()
@click.option("--out", default="quickstart", type=PATH, help="Folder for everything.")
@set_option()
@json_option()
def command(out: Path, assignments: tuple[str, ...], as_json: bool) -> None:
    """Make a world, train a small KOSMOS on it, tune it, evaluate it, write a report.

    Takes minutes on two CPU cores. Interrupted, it goes on where it was when run again.

    Example: kosmos quickstart --set world.num_scenes=60000 --set pretrain.train.steps=2000
    """
    from kosmos import config
    from kosmos.recipes.quickstart import Quickstart
    from kosmos.runtime import peak_memory_bytes

    plan = Quickstart()
    for assignment in assignments:
        plan = config.override(plan, assignment)
    runs = plan.runs(out)  # refuses stages that do not fit each other before anything is made
    times_s: dict[str, float] = {}
    with _timed("world", times_s):
        _make_world(plan, out)
    for name, run in runs.items():
        from kosmos.cli.training import told
        from kosmos.train.trainer import train

        with _timed(name, times_s), told(run, out=out / name):
            trained = train(run, out=out / name, resume=True, cache_folder=out / "index")
    _take_model(trained, out / "model")
    with _timed("evaluate", times_s):
        results, page = _evaluate(plan, out)
    picture = _example_picture(out)
    facts: Json = {
        "model": str(out / "model"),
        "report": str(page),
        "picture": str(picture),
        "times_s": {name: round(seconds, 1) for name, seconds in times_s.items()},
        "peak_memory_bytes": peak_memory_bytes(),
        "results": config.to_json(results),
    }
    if as_json:
        echo_json(facts)
        return
    _summarize(results, out, page, picture, sum(times_s.values()))


@contextmanager
def _timed(stage: str, times_s: dict[str, float]) -> Iterator[None]:
    sys.stderr.write(f"== {stage}\n")
    began_s = time.monotonic()
    yield
    times_s[stage] = time.monotonic() - began_s


def _make_world(plan: "Quickstart", out: Path) -> None:
    """Shards, and a tokenizer of their words; what is there already stays."""
    from kosmos.cli.tokenizer import sentences
    from kosmos.files import atomic_file
    from kosmos.microcosm import dataset
    from kosmos.text.training import train_tokenizer

    folder = out / "microcosm"
    dataset.make(plan.world, folder)
    file = folder / "tokenizer.model"
    if file.exists():
        return
    parts = ("text", "captions", "grounded", "vqa", "interleaved", "instruct")
    lines = sentences([folder / "train" / part for part in parts])
    with atomic_file(file) as target:
        target.write(train_tokenizer(lines, num_pieces=plan.num_pieces))


def _take_model(trained: Path, folder: Path) -> None:
    """Put the tuned model where the commands that are suggested expect it."""
    from kosmos.files import atomic_folder

    with atomic_folder(folder) as scratch:
        shutil.copytree(trained, scratch, dirs_exist_ok=True)


def _evaluate(plan: "Quickstart", out: Path) -> tuple["Results", Path]:
    from kosmos.cli.evaluate import measure
    from kosmos.evaluate.report import write_report
    from kosmos.evaluate.runner import EvaluateConfig

    config = EvaluateConfig(
        data=out / "microcosm",
        out=out / "evaluate",
        limit=plan.num_examples,
        force=True,  # replies of an earlier model are no use to this one
    )
    results = measure(ModelChoice(out / "model", "auto", "float32"), "all", config)
    return results, write_report(config.out)[0]


def _example_picture(out: Path) -> Path:
    """A picture the model has not seen, to try the commands on."""
    from kosmos.document.shards import ShardReader
    from kosmos.files import atomic_file

    file = out / "picture.png"
    (picture,) = ShardReader(out / "microcosm" / "eval" / "captions")[0].images
    with atomic_file(file) as target:
        target.write(picture.source)  # type: ignore[arg-type]
    return file


def _summarize(results: "Results", out: Path, page: Path, picture: Path, time_s: float) -> None:
    from kosmos.cli.evaluate import print_results

    print_results(results)
    click.echo(f"\nReport: {page}   ({time_s / 60:.1f} minutes)")
    click.echo(f"{picture} shows: {', '.join(_things(out))}\n\nTry next:")
    model = f"--model {out / 'model'}"
    click.echo(f"  kosmos ground {model} --image {picture} --draw {out / 'boxes.png'}")
    click.echo(f'  kosmos ask {model} --image {picture} --question "How many objects are there?"')
    click.echo(f'  kosmos refer {model} --image {picture} --expression "the {_things(out)[0]}"')


def _things(out: Path) -> list[str]:
    """What is in the example picture."""
    from kosmos.document.shards import ShardReader

    objects: Any = ShardReader(out / "microcosm" / "eval" / "captions")[0].meta["objects"]
    return [
        str(thing["name"]) if thing.get("kind") else f"{thing['color']} {thing['shape']}"
        for thing in objects
    ]
