"""``kosmos plan``: what a run will take, before anything runs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from kosmos import config
from kosmos.recipes.table import make_run
from kosmos.train.plan import CorpusPlan, Plan, plan


@click.command()
@click.argument("recipe")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change a field.")
@click.option(
    "--index",
    "index_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of indices (OUT/index of a run) to take measured lengths from.",
)
@click.option(
    "--flops-per-s",
    type=click.FloatRange(min=0, min_open=True),
    help="Operations a second that all devices reach together, for a time; 4e14 is an H100.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(
    recipe: str,
    assignments: tuple[str, ...],
    index_folder: Path | None,
    flops_per_s: float | None,
    as_json: bool,
) -> None:
    """Tokens, parameters, memory and FLOPs of RECIPE (a name, or the path of a run.json).

    Example: kosmos plan kosmos2 --flops-per-s 4e14
    """
    run = make_run(recipe, assignments)
    measured = None
    if index_folder is not None:
        from kosmos.train.measure import measured_lengths

        measured = measured_lengths(run, index_folder)
    result = plan(run, measured)
    time_s = None if flops_per_s is None else result.time_s(flops_per_s)
    if as_json:
        value = config.to_json(result)
        assert isinstance(value, dict)
        value["memory_bytes"] = result.memory.total
        value["time_s"] = time_s
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo("\n".join(_lines(result, time_s)))


def _lines(result: Plan, time_s: float | None) -> Iterator[str]:
    yield (
        f"{'stream':<16}{'sequences':>10}{'tokens each':>13}{'tokens/step':>13}"
        f"{'share':>8}{'images/step':>13}"
    )
    for stream in result.streams:
        mark = "" if stream.is_measured else " (stated)"
        yield (
            f"{stream.name:<16}{stream.sequences_per_step:>10,}{stream.tokens_per_sequence:>13,.1f}"
            f"{stream.tokens_per_step:>13,.0f}{stream.share:>8.1%}{stream.images_per_step:>13,.0f}"
            f"{mark}"
        )
    yield ""
    yield from _corpora([corpus for stream in result.streams for corpus in stream.corpora])
    stated = (result.stated_tokens_per_step, result.stated_total_tokens)
    yield _quantity("tokens a step", result.tokens_per_step, stated[0])
    yield f"{'steps':<24}{result.steps:,}"
    yield _quantity("tokens in all", result.total_tokens, stated[1])
    yield ""
    for part, count in result.parameters.items():
        yield f"{part:<24}{count:,}"
    yield f"{'parameters':<24}{result.num_parameters:,}"
    yield ""
    memory = result.memory
    for part in ("weights", "gradients", "optimizer", "activations", "loss", "total"):
        yield f"{'memory, ' + part:<24}{getattr(memory, part) / 1e6:,.1f} MB"
    yield ""
    yield f"{'FLOPs a step':<24}{result.flops_per_step:.3g}"
    yield f"{'FLOPs in all':<24}{result.total_flops:.3g}"
    if time_s is not None:
        days, rest = divmod(round(time_s), 86_400)
        hours, rest = divmod(rest, 3600)
        yield f"{'time':<24}{days} d {hours} h {rest // 60} min {rest % 60} s"


def _corpora(corpora: Sequence[CorpusPlan]) -> Iterator[str]:
    """How often the run reads each corpus whose size is known."""
    known = [corpus for corpus in corpora if corpus.num_tokens]
    if not known:
        return
    width = max(15, *(len(corpus.name) for corpus in known)) + 1
    yield (
        f"{'corpus':<{width}}{'of stream':>10}{'tokens/step':>13}{'in all':>17}{'it has':>17}"
        f"{'epochs':>8}"
    )
    for corpus in known:
        stated = f"  (paper: {corpus.stated_epochs:.2f})" if corpus.stated_epochs else ""
        yield (
            f"{corpus.name:<{width}}{corpus.share:>10.1%}{corpus.tokens_per_step:>13,.0f}"
            f"{corpus.total_tokens:>17,.0f}{corpus.num_tokens:>17,.0f}{corpus.epochs:>8.2f}{stated}"
        )
    yield ""


def _quantity(name: str, value: float, stated: float) -> str:
    line = f"{name:<24}{value:,.0f}"
    return f"{line}  (paper: {stated:,.0f}, ratio {value / stated:.3f})" if stated else line
