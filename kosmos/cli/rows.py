"""``kosmos data show`` and ``kosmos data leak-test``: rows as the model gets them."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kosmos.cli.options import FOLDER, PATH, echo_json, grouped, json_option, set_option
from kosmos.errors import ConfigError
from kosmos.logs import printable

if TYPE_CHECKING:
    from rich.text import Text

    from kosmos.check.leaks.report import LeakReport
    from kosmos.check.show.page import NamedRow
    from kosmos.check.show.rows import Chosen, OpenRows
    from kosmos.check.show.words import ShownRow
    from kosmos.data.config import Packing
    from kosmos.model.kosmos import Kosmos

_PLAIN_WIDTH = 100
_INDENT = " " * 5
_MOST_NUMBERS = 10
"""Documents whose matrix is told in numbers; that of more is told in signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChoice:
    """Which rows of which data."""

    source: str
    stream: str | None
    rows: tuple[int, ...]
    step: int | None
    assignments: tuple[str, ...]
    index: Path | None
    tokenizer: Path | None
    num_cells: int | None
    packing: "Packing | None"
    max_tokens: int | None
    line_tokens: bool

    def opened(self) -> "OpenRows":
        """The data, its index in the folder that was named, the run's or that of all runs."""
        from kosmos.check.show.rows import FolderChoice, OpenRows, folder_data
        from kosmos.data.indexing import recorded_folder
        from kosmos.recipes.table import ALIASES, RECIPES, make_run

        if self.step is not None and self.rows:
            raise ConfigError("--row: expected it without --step, which has its own, found both")
        folder: dict[str, Any] = {name: getattr(self, name) for name in _OF_FOLDERS}
        path, run, kept = Path(self.source), None, None
        record = path / "run.json" if path.is_dir() else path
        is_recipe = self.source in RECIPES or self.source in ALIASES
        is_shards = "://" in self.source or (path.is_dir() and not record.is_file())
        if is_shards and not is_recipe:
            data = folder_data(self.source, FolderChoice(**folder), self.assignments)
        else:
            for name, value in folder.items():
                if value is not None and value is not False:
                    raise ConfigError(
                        f"--{name.replace('_', '-')}: expected it with a folder of shards, "
                        f"found {self.source}",
                        hint="a run has these in it; --set changes them",
                    )
            is_file = record.is_file() and not is_recipe
            run = make_run(str(record) if is_file else self.source, self.assignments)
            data = run.data
            if is_file and record.name == "run.json":
                kept = recorded_folder(record.parent)
        names = [stream.name for stream in data.streams]
        wanted = None if self.stream is None else self.stream.partition("/")[0]
        if wanted is not None and wanted not in names:
            raise ConfigError(
                f"--stream: expected one of {', '.join(names)}, found {self.stream!r}"
            )
        if wanted is not None and self.step is None:
            data = replace(data, streams=tuple(s for s in data.streams if s.name == wanted))
        return OpenRows(
            data,
            seed=0 if run is None else run.seed,
            model=None if run is None else run.model,
            indices=self.index or kept,
        )

    def batches(self, opened: "OpenRows", *, beside: bool) -> "list[Chosen]":
        """What was chosen; ``beside`` as of :meth:`OpenRows.rows`."""
        if self.step is not None:
            return list(opened.step(self.step, self.stream))
        return list(opened.rows(self.stream, self.rows, beside=beside))


_OF_FOLDERS = {
    "tokenizer": click.option(
        "--tokenizer", type=PATH, help="Shards only: a model folder or a tokenizer"
    ),
    "num_cells": click.option(
        "--num-cells", type=int, help="Shards only: cells along the grid.  [32]"
    ),
    "packing": click.option(
        "--packing",
        type=click.Choice(["single", "full-sentence", "isolated"]),
        help="Shards only: how documents fill rows.  [single]",
    ),
    "max_tokens": click.option("--max-tokens", type=int, help="Shards only: longest row.  [2048]"),
    "line_tokens": click.option(
        "--line-tokens", is_flag=True, help="Shards only: lines end with </line>."
    ),
}
row_options = grouped(
    "choice",
    RowChoice,
    {
        "source": click.argument("source"),
        "stream": click.option("--stream", metavar="NAME", help="One stream, or stream/corpus."),
        "rows": click.option(
            "--row", "rows", type=int, multiple=True, help="Row of the index, from 0; repeatable."
        ),
        "step": click.option(
            "--step", type=click.IntRange(1), help="What this step trains on, from 1."
        ),
        "assignments": set_option("Change a field of the run."),
        "index": click.option(
            "--index", type=FOLDER, help="Folder of indices, made there if missing."
        ),
        **_OF_FOLDERS,
    },
)
"""SOURCE and the options beside it, given to the command as ``choice``."""


@click.command("show", short_help="Packed rows, with loss, attention and positions.")
@row_options
@click.option("--limit", default=8, help="Most rows shown; 0: all.")
@click.option("--tokens", "as_tokens", is_flag=True, help="A line for each token.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the first row into FILE.png or FILE.svg, or all of them into FILE.html.",
)
@json_option("row")
def show(choice: RowChoice, limit: int, as_tokens: bool, out: Path | None, as_json: bool) -> None:
    """Show rows of SOURCE: a folder of shards, a recipe, a run.json or a run's folder.

    Words between ‹ › are given, all others are learned. Without --row and --step, the row with the
    most documents of each stream is shown.

    Example: kosmos data show microcosm/train/captions --tokenizer microcosm/tokenizer.model
    --num-cells 16 --packing isolated --max-tokens 128 --set layout.num_image_tokens=16
    --out row.png
    """
    if out is not None and out.suffix not in (".png", ".svg", ".html"):
        raise ConfigError(f"--out: expected .png, .svg or .html, found {out.name!r}")
    opened = choice.opened()
    chosen = choice.batches(opened, beside=False)
    rows = [row for rows in chosen for row in _named_rows(opened, rows)]
    shown = rows[:limit] if limit else rows
    if as_json:
        for row in shown:
            echo_json({"name": row.name, **row.row.to_json()})
    else:
        _print([line for row in shown for line in _lines(row, as_tokens=as_tokens)])
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown)} more rows; --limit 0 shows all", err=True)
    if out is not None:
        _draw(shown, out)


@click.command("leak-test", short_help="Change one document of a row; see what moves.")
@row_options
@click.option(
    "--model",
    "model_folder",
    type=PATH,
    help="Model folder to test; without, a small one of random weights.",
)
@click.option("--device", default="cpu", help="A torch device.")
@click.option("--seed", default=0, help="What things are changed to.")
@json_option("batch")
def leak_test(
    choice: RowChoice, model_folder: Path | None, device: str, seed: int, as_json: bool
) -> None:
    """Change a document of packed rows of SOURCE and see which others anything moves in.

    Without --row and --step, the row with the most documents of each stream is tested beside the
    shortest. Ends with exit code 1 if anything moves that must not.

    Example: kosmos data leak-test microcosm --stream interleaved
    --set streams.interleaved.packing=isolated
    """
    from kosmos.check.leaks.leaktest import leak_test as run_test
    from kosmos.check.leaks.leaktest import num_changes
    from kosmos.logs import Progress
    from kosmos.weights.loaded import find_device

    reports, place = [], find_device(device)
    opened = choice.opened()
    model = _model(opened, model_folder).to(place)
    for chosen in choice.batches(opened, beside=True):
        total = num_changes(model, chosen.batch)
        with Progress(f"leak-test {chosen.name}", total=total, unit="changes") as progress:
            report = run_test(model, chosen.batch, seed=seed, advance=progress.advance)
        reports.append(report)
        if as_json:
            value = {"name": chosen.name, "row_names": list(chosen.names), **report.to_json()}
            echo_json(value)
        else:
            click.echo("\n".join(_matrix(chosen, report)) + "\n")
    for report in reports:
        report.raise_if_leaking()


# --- rows


def _named_rows(opened: "OpenRows", chosen: "Chosen") -> "Iterator[NamedRow]":
    from kosmos.check.leaks.visibility import who_sees_whom
    from kosmos.check.show.page import NamedRow
    from kosmos.check.show.words import show_batch

    data, batch = opened.data, chosen.batch
    shown = show_batch(
        batch, opened.stream(batch.stream), opened.tokenizer, layout=data.layout, image=data.image
    )
    for name, row, sees in zip(chosen.names, shown, who_sees_whom(batch), strict=True):
        yield NamedRow(name, row, sees)


def _lines(named: "NamedRow", *, as_tokens: bool) -> "Iterator[Text]":
    """A row: what it is, then each document with its words, or each token."""
    from rich.text import Text

    from kosmos.image.labels import PALETTE

    row = named.row
    yield Text.assemble((named.name, "bold"), "  ", (" \u00b7 ".join(row.facts()), ""))
    yield Text()
    if as_tokens:
        yield from _token_lines(row)
    for number, doc in enumerate([] if as_tokens else row.documents):
        color = PALETTE[number % len(PALETTE)]
        facts = " \u00b7 ".join(row.document_facts(number))
        yield Text.assemble((f"{number + 1:>3}  ", color), (doc.id, "bold"), "  ", (facts, "dim"))
        words = Text(_INDENT)
        for said, learned in row.sayings(doc.start, doc.stop):
            words.append(said if learned else f"\u2039{said}\u203a", "" if learned else "dim")
        yield words
        yield Text()


def _token_lines(row: "ShownRow") -> "Iterator[Text]":
    """A line for each token, and for each picture."""
    from rich.text import Text

    yield Text(f"{'token':>9}{'position':>10}{'document':>10}{'loss':>6}{'id':>8}  text")
    documents = row.token_documents().tolist()
    starts = {image.start: (number, image) for number, image in enumerate(row.images, start=1)}
    for token, (token_id, name) in enumerate(zip(row.token_ids.tolist(), row.names, strict=True)):
        position = str(row.positions[token]) if token < row.num_positions else "-"
        place, said = str(token), f"{token_id:>8}  {name}"
        if token in starts:
            number, image = starts[token]
            place = f"{token}-{image.stop - 1}"
            position = f"{row.positions[token]}-{row.positions[image.stop - 1]}"
            said = f"{'':>8}  [image {number}: {image.stop - image.start} slots]"
        elif row.image_slots[token]:
            continue
        is_learned = bool(row.learned[token] > 0)
        loss = f"{row.learned[token]:g}" if is_learned else "-"
        cells = f"{place:>9}{position:>10}{documents[token] + 1:>10}{loss:>6}{said}"
        yield Text(cells, "" if is_learned else "dim")
    yield Text()


def _print(lines: "list[Text]") -> None:
    """Styled and wrapped to the width of a terminal; plain elsewhere."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    for line in lines:
        indent = _INDENT if line.plain.startswith(_INDENT) else ""
        for part in line[len(indent) :].wrap(console, console.width - len(indent)):
            part.rstrip()
            console.print(indent, part, sep="")


def _draw(rows: "list[NamedRow]", out: Path) -> None:
    from kosmos.check.show.page import page
    from kosmos.check.show.picture import draw_row
    from kosmos.files import atomic_file, write_text
    from kosmos.image.codec import encode_png

    first = rows[0]
    if out.suffix == ".html":
        write_text(out, page(rows))
        return
    canvas = draw_row(first.row, first.sees, name=first.name)
    if out.suffix == ".svg":
        write_text(out, canvas.to_svg(title=first.name))
    else:
        with atomic_file(out) as file:
            file.write(encode_png(canvas.to_image()))
    if len(rows) > 1:
        click.echo(f"{out}: {first.name}; a .html holds all rows", err=True)


# --- leaks


def _model(opened: "OpenRows", folder: Path | None) -> "Kosmos":
    """The model to test."""
    from kosmos.check.leaks.leaktest import small_model

    if folder is None:
        return small_model(opened.model)
    from kosmos.findings import raise_first_error
    from kosmos.train.config import fit_rules
    from kosmos.weights.folder import load_model

    model = load_model(folder).model
    size = opened.tokenizer.vocabulary.size
    raise_first_error(fit_rules(model.config, opened.data, vocabulary_size=size))
    return model


def _matrix(chosen: "Chosen", report: "LeakReport") -> Iterator[str]:
    """Who moved whom, then all that was tried."""
    count = len(report.document_ids)
    packing = "isolated" if report.isolated else "plain"
    yield f"{chosen.name}: {', '.join(n.rpartition(', ')[2] for n in chosen.names)} ({packing})"
    yield "what moved when the document of a line was changed"
    yield ""
    in_numbers = count <= _MOST_NUMBERS
    names = [*map(printable, report.document_ids), "padding"]
    width = min(max(map(len, names)), 28)
    cell = 9 if in_numbers else 2
    head = "".join(f"{(n + 1 if in_numbers else (n + 1) % 10):>{cell}}" for n in range(count))
    yield f"{'row':>5}  {'changed':<{width + 4}}{head}"
    allowed = report.allowed()
    for changed, line in enumerate(report.moved):
        is_padding = changed == count
        cells = "".join(
            f"{_cell(float(line[n]), bool(allowed[changed, n]), changed == n, in_numbers):>{cell}}"
            for n in range(count)
        )
        number, row = ("", "") if is_padding else (str(changed + 1), str(report.rows[changed]))
        yield f"{row:>5}  {number:>3} {names[changed][-width:]:<{width}}{cells}"
    if not in_numbers:
        yield "       x it moved itself, o it moved one that may see it, # A LEAK, . nothing"
    yield ""
    for check in report.checks:
        word = {True: "ok", False: "FAILED", None: "-"}[check.passed]
        yield f"{word:<7} {check.name}: {check.found}"


def _cell(value: float, allowed: bool, itself: bool, in_numbers: bool) -> str:
    if value == 0.0:
        return "."
    if in_numbers:
        return f"{value:.3g}{'' if allowed else '#'}"
    return "#" if not allowed else "x" if itself else "o"
