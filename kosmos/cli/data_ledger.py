"""``kosmos data ledger``: which samples are in a step of a run, and where a document is."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kosmos.cli.options import echo_json, json_option, table
from kosmos.errors import ConfigError
from kosmos.logs import printable

if TYPE_CHECKING:
    from kosmos.data.ledger import Sample

_NUM_NAMED = 3


@click.command(short_help="Which samples are in a step of a run; where a document is.")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True))
@click.option("--step", type=int, help="A step, counted from 1 as in metrics.jsonl.")
@click.option("--steps", metavar="A-B", help="Steps from A to B.")
@click.option("--document", metavar="ID", help="Only samples that hold something of a document.")
@click.option(
    "--index",
    "index_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the run's indices, if they were moved.",
)
@json_option("sample")
def ledger(
    run_folder: Path,
    step: int | None,
    steps: str | None,
    document: str | None,
    index_folder: Path | None,
    as_json: bool,
) -> None:
    """Samples of the run in folder RUN, done or to come: stream, corpus, row, epoch, documents.

    Computed from the order of the run without reading a sample, whatever the step. Data steps are
    those of the data; where data.skip_steps leaves some out they run ahead of the steps.

    Example: kosmos data ledger runs/micro --steps 100-102

    Example: kosmos data ledger runs/micro --document caption-17
    """
    from kosmos.data.ledger import Ledger, recorded_order

    if step is None and steps is None and document is None:
        raise ConfigError("ledger: expected --step, --steps or --document, found none of them")
    num_steps, order = recorded_order(run_folder, index_folder)
    first, last = _bounds(step, steps, num_steps)
    book = Ledger(order)
    samples: Iterator[Sample]
    if document is None:
        samples = chain.from_iterable(map(book.step, range(first, last + 1)))
    else:
        samples = book.document(document, first=first, last=last)
    if as_json:
        for sample in samples:
            echo_json(sample)
        return
    for line in _lines(samples):
        click.echo(line)


def _bounds(step: int | None, steps: str | None, num_steps: int) -> tuple[int, int]:
    """First and last step that are asked for; all of the run if none is."""
    if step is not None and steps is not None:
        raise ConfigError("ledger: expected --step or --steps, found both")
    text = steps if steps is not None else "1-" + str(num_steps) if step is None else str(step)
    first, _, last = text.partition("-")
    try:
        bounds = int(first), int(last or first)
    except ValueError:
        raise ConfigError(f"--steps: expected steps such as 100-102, found {text!r}") from None
    if not 1 <= bounds[0] <= bounds[1] <= num_steps:
        raise ConfigError(f"--step: expected 1 to {num_steps}, as the run has steps, found {text}")
    return bounds


def _lines(samples: "Iterator[Sample]") -> Iterator[str]:
    columns = {"step": ">9", "data step": ">11", "batch": ">7", "  stream": "<16"}
    columns |= {"corpus": "<14", "row": ">10", "epoch": ">7", "  documents": ""}
    return table(columns, map(_row, samples))


def _row(sample: "Sample") -> Iterator[object]:
    yield "left out" if sample.step is None else sample.step
    yield sample.data_step
    yield "" if sample.micro_batch is None else sample.micro_batch
    yield from (f"  {sample.stream}", sample.corpus, sample.row, sample.epoch)
    more = len(sample.documents) - _NUM_NAMED
    named = ", ".join(map(printable, sample.documents[:_NUM_NAMED]))
    yield f"  {named} + {more}" if more > 0 else f"  {named}"
