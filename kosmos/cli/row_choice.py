"""Which rows of which data: the options that ``kosmos data show`` and ``leak-test`` share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kosmos.errors import ConfigError

if TYPE_CHECKING:
    from kosmos.check.show.rows import Chosen, FolderChoice, OpenRows
    from kosmos.data.config import Packing

PATH_OPTIONS = ("--tokenizer", "--num-cells", "--packing", "--max-tokens", "--line-tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChoice:
    """What was asked for."""

    source: str
    folder: "FolderChoice"
    assignments: tuple[str, ...]
    stream: str | None
    rows: tuple[int, ...]
    step: int | None
    index: Path | None

    def opened(self) -> "OpenRows":
        """The data, its index in the folder that was named, the run's or that of all runs."""
        from kosmos.check.show.rows import OpenRows, folder_data
        from kosmos.data.indexing import recorded_folder
        from kosmos.recipes.table import ALIASES, RECIPES, make_run

        if self.step is not None and self.rows:
            raise ConfigError("--row: expected it without --step, which has its own, found both")
        path, run, kept = Path(self.source), None, None
        record = path / "run.json" if path.is_dir() else path
        is_recipe = self.source in RECIPES or self.source in ALIASES
        is_shards = "://" in self.source or (path.is_dir() and not record.is_file())
        if is_shards and not is_recipe:
            data = folder_data(self.source, self.folder, self.assignments)
        else:
            for name, value in zip(PATH_OPTIONS, self.folder, strict=True):
                if value is not None:
                    raise ConfigError(
                        f"{name}: expected it with a folder of shards, found {self.source}",
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


def row_options(function: Callable[..., object]) -> Callable[..., object]:
    """SOURCE and the options beside it, given to the command as ``choice``."""

    @functools.wraps(function)
    def wrapper(
        *,
        source: str,
        tokenizer: Path | None,
        num_cells: int | None,
        packing: "Packing | None",
        max_tokens: int | None,
        line_tokens: bool,
        assignments: tuple[str, ...],
        stream: str | None,
        rows: tuple[int, ...],
        step: int | None,
        index: Path | None,
        **rest: object,
    ) -> object:
        from kosmos.check.show.rows import FolderChoice

        choice = RowChoice(
            source=source,
            folder=FolderChoice(
                tokenizer=tokenizer,
                num_cells=num_cells,
                packing=packing,
                max_tokens=max_tokens,
                line_tokens=line_tokens or None,
            ),
            assignments=assignments,
            stream=stream,
            rows=rows,
            step=step,
            index=index,
        )
        return function(choice=choice, **rest)

    file, folder = click.Path(path_type=Path), click.Path(path_type=Path, file_okay=False)
    options = [
        click.argument("source"),
        click.option("--stream", metavar="NAME", help="One stream, or stream/corpus."),
        click.option(
            "--row", "rows", type=int, multiple=True, help="Row of the index, from 0; repeatable."
        ),
        click.option("--step", type=click.IntRange(1), help="What this step trains on, from 1."),
        click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE",
                     help="Change a field of the run."),
        click.option("--index", type=folder, help="Folder of indices, made there if missing."),
        click.option("--tokenizer", type=file, help="Shards only: a model folder or a tokenizer"),
        click.option("--num-cells", type=int, help="Shards only: cells along the grid.  [32]"),
        click.option(
            "--packing",
            type=click.Choice(["single", "full-sentence", "isolated"]),
            help="Shards only: how documents fill rows.  [single]",
        ),
        click.option("--max-tokens", type=int, help="Shards only: longest row.  [2048]"),
        click.option("--line-tokens", is_flag=True, help="Shards only: lines end with </line>."),
    ]  # fmt: skip
    for option in reversed(options):
        wrapper = option(wrapper)
    return wrapper
