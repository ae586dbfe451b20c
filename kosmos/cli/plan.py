"""``kosmos plan``: what a run will take, before anything runs."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kosmos import config
from kosmos.check.settings import doubts
from kosmos.cli.options import echo_json, json_option, set_option, table
from kosmos.plan.footprint import PROGRAM_BYTES
from kosmos.plan.plan import CorpusPlan, Plan, plan, planned_shapes
from kosmos.recipes.table import make_run
from kosmos.train.config import Run

if TYPE_CHECKING:
    from kosmos.plan.calibrate import StepTime
    from kosmos.plan.shapes import Steps


@click.command()
@click.argument("recipe")
@set_option()
@click.option(
    "--index",
    "index_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a run, or of indices, to take lengths and micro-batches from.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    help="Processes that share the work and the model, a device each.",
)
@click.option(
    "--measure",
    is_flag=True,
    help="Run parts of the model here, at the shapes of the run, for a time.",
)
@click.option(
    "--flops-per-s",
    type=click.FloatRange(min=0, min_open=True),
    help="Operations a second that all devices reach together, for a time; 4e14 is an H100.",
)
@json_option()
def command(
    recipe: str,
    assignments: tuple[str, ...],
    index_folder: Path | None,
    processes: int,
    measure: bool,
    flops_per_s: float | None,
    as_json: bool,
) -> None:
    """Tokens, parameters, memory, FLOPs and time of RECIPE (a name, or the path of a run.json).

    Example: kosmos plan kosmos2 --processes 8 --set train.precision=bfloat16 --flops-per-s 3e15
    """
    if measure and flops_per_s is not None:
        raise click.UsageError("--flops-per-s: expected no rate with --measure, found both")
    run = make_run(recipe, assignments)
    measured, shapes = None, None
    if index_folder is not None:
        from kosmos.data.indexing import recorded_folder
        from kosmos.plan.measure import indices_of, measured_lengths, measured_shapes

        if (index_folder / "run.json").is_file():
            index_folder = recorded_folder(index_folder)
        indices = indices_of(run, index_folder)
        measured, shapes = measured_lengths(indices), measured_shapes(run, indices)
    result = plan(run, measured, shapes=shapes, num_processes=processes)
    step = None
    if measure:
        data = None if shapes is None else index_folder
        step = _measure(run, shapes or planned_shapes(run, measured), processes, data)
    step_s = None if step is None else step.total
    if flops_per_s is not None:
        step_s = result.flops_per_step / flops_per_s
    doubted = list(doubts(run))
    for doubt in doubted:
        click.echo(f"warning: {doubt.where}: {doubt.what}\nhint: {doubt.hint}", err=True)
    if as_json:
        value: Any = config.to_json(result)
        value |= {
            "memory_bytes": result.memory.device,
            "processor_memory_bytes": result.memory.processor,
            "step_s": step_s,
            "parts_s": step,
            "time_s": None if step_s is None else step_s * result.steps,
            "warnings": [
                {"setting": doubt.where, "what": doubt.what, "hint": doubt.hint}
                for doubt in doubted
            ],
        }
        echo_json(value, indent=2)
    else:
        click.echo("\n".join([*_lines(result), *_times(result, step, step_s)]))


def _measure(
    run: Run, shapes: "Steps", num_processes: int, index_folder: Path | None
) -> "StepTime":
    """The time of a step on this machine, reading included if there are indices of all data."""
    import torch

    from kosmos.data.loader import Loader
    from kosmos.logs import Progress
    from kosmos.plan.calibrate import measure_step
    from kosmos.text.tokenizer import Tokenizer

    loader = None
    if index_folder is not None and run.train.objective == "next-token":
        tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
        data = run.data.without_heldout()
        loader = Loader(data, tokenizer, seed=run.seed, cache_folder=index_folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with Progress("measure", total=len(run.data.streams), unit="streams") as progress:
        return measure_step(
            run,
            shapes,
            device=device,
            num_processes=num_processes,
            loader=loader,
            advance=progress.advance,
        )


_OF_STREAM = attrgetter(
    *("name", "sequences_per_step", "tokens_per_sequence", "tokens_per_step", "share"),
    *("images_per_step", "micro_batches_per_step"),
)
_OF_CORPUS = attrgetter("name", "share", "tokens_per_step", "total_tokens", "num_tokens", "epochs")
_PARTS = ("weights", "gradients", "optimizer", "activations", "loss", "gathered")


def _lines(result: Plan) -> Iterator[str]:
    columns = {"stream": "<16", "sequences": ">10,", "tokens each": ">13,.1f"}
    columns |= {"tokens/step": ">13,.0f", "share": ">8.1%", "images/step": ">13,.0f"}
    columns |= {"micro-batches": ">15,.4g", "padding": ">9.1%", "": ""}
    rows = [
        (
            *_OF_STREAM(stream),
            "–" if stream.padding is None else stream.padding,
            "" if stream.is_measured else " (stated)",
        )
        for stream in result.streams
    ]
    yield from table(columns, rows)
    yield ""
    yield from _corpora([corpus for stream in result.streams for corpus in stream.corpora])
    yield _quantity("tokens a step", result.tokens_per_step, result.stated_tokens_per_step)
    yield f"{'steps':<24}{result.steps:,}"
    yield _quantity("tokens in all", result.total_tokens, result.stated_total_tokens)
    yield ""
    for part, count in result.parameters.items():
        yield f"{part:<24}{count:,}"
    yield f"{'parameters':<24}{result.num_parameters:,}"
    yield ""
    memory = result.memory
    for part in _PARTS:
        if getattr(memory, part) or part != "gathered":
            yield f"{'memory, ' + part:<24}{getattr(memory, part) / 1e6:,.1f} MB"
    each = f" on each of {result.num_processes}" if result.num_processes > 1 else ""
    yield f"{'on a GPU':<24}{memory.device / 1e6:,.1f} MB{each}"
    beside = f"{PROGRAM_BYTES / 1e6:,.0f} MB program, {memory.kept / 1e6:,.1f} MB freed and kept"
    if memory.checkpoint:
        beside += f", {memory.checkpoint / 1e6:,.1f} MB copy for checkpoints"
    yield f"{'on a processor':<24}{memory.processor / 1e6:,.1f} MB{each} ({beside})"
    yield ""
    yield f"{'FLOPs a step':<24}{result.flops_per_step:.3g}"
    yield f"{'FLOPs in all':<24}{result.total_flops:.3g}"


def _times(result: Plan, step: "StepTime | None", step_s: float | None) -> Iterator[str]:
    if step_s is None:
        return
    yield ""
    if step is not None:
        parts = {**step.streams, "optimizer": step.optimizer, "reading": step.reading}
        for name, seconds in parts.items():
            if seconds:
                yield f"{'time, ' + name:<24}{seconds:.4g} s"
    yield (
        f"{'time of a step':<24}{step_s:.4g} s, {result.tokens_per_step / step_s:,.0f} tokens/s, "
        f"{result.flops_per_step / step_s:.3g} FLOPs/s"
    )
    days, rest = divmod(round(step_s * result.steps), 86_400)
    hours, rest = divmod(rest, 3600)
    yield f"{'time in all':<24}{days} d {hours} h {rest // 60} min {rest % 60} s"


def _corpora(corpora: Sequence[CorpusPlan]) -> Iterator[str]:
    """How often the run reads each corpus whose size is known."""
    known = [corpus for corpus in corpora if corpus.num_tokens]
    if not known:
        return
    width = max(15, *(len(corpus.name) for corpus in known)) + 1
    columns = {"corpus": f"<{width}", "of stream": ">10.1%", "tokens/step": ">13,.0f"}
    columns |= {"in all": ">17,.0f", "it has": ">17,.0f", "epochs": ">8.2f", "": ""}
    rows = [
        (*_OF_CORPUS(c), f"  (paper: {c.stated_epochs:.2f})" if c.stated_epochs else "")
        for c in known
    ]
    yield from table(columns, rows)
    yield ""


def _quantity(name: str, value: float, stated: float) -> str:
    line = f"{name:<24}{value:,.0f}"
    return f"{line}  (paper: {stated:,.0f}, ratio {value / stated:.3f})" if stated else line
