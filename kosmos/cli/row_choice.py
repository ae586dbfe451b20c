"""Which rows of which data: the options that ``kosmos data show`` and ``leak-test`` share."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from kosmos.errors import ConfigError

if TYPE_CHECKING:
    from kosmos.data.batch import Batch
    from kosmos.data.config import Packing, Stream
    from kosmos.data.index import Index
    from kosmos.data.loader import Loader
    from kosmos.text.tokenizer import Tokenizer
    from kosmos.train.config import Run

_NUM_SEARCHED = 64
"""Rows among which one with many documents is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderChoice:
    """How a folder of shards is read where no run says it."""

    tokenizer: Path | None
    num_cells: int | None
    packing: "Packing | None"
    max_tokens: int | None
    line_tokens: bool

    def given(self) -> list[str]:
        """Options that were given."""
        values = {
            "--tokenizer": self.tokenizer,
            "--num-cells": self.num_cells,
            "--packing": self.packing,
            "--max-tokens": self.max_tokens,
            "--line-tokens": self.line_tokens or None,
        }
        return [name for name, value in values.items() if value is not None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A run's data, ready to be looked at."""

    run: "Run"
    loader: "Loader"
    tokenizer: "Tokenizer"

    def stream(self, name: str) -> "Stream":
        """A stream by its name."""
        return next(stream for stream in self.run.data.streams if stream.name == name)

    def step(self, step: int, source: str | None) -> "Iterator[Chosen]":
        """Micro-batches of a step; of one stream if one is named."""
        for batch in self.loader.step(step - 1):
            if source in (None, batch.stream):
                name = f"step {step}, micro-batch {batch.place}, {batch.stream}"
                rows = range(len(batch.token_ids))
                yield Chosen(name, tuple(f"{name}, row {row}" for row in rows), batch)

    def rows(
        self, source: str | None, numbers: tuple[int, ...], *, beside: bool
    ) -> "Iterator[Chosen]":
        """Rows by number side by side.

        Args:
            source: Name of a stream, or ``stream/corpus``; None: of every one.
            numbers: Of the rows; none: the row with the most documents of the first ones.
            beside: Put the shortest row beside that one, so that there is padding.
        """
        for stream in self.run.data.streams:
            for place, corpus in enumerate(stream.sources):
                name = stream.source_name(corpus)
                if source not in (None, name, stream.name):
                    continue
                index = self.loader.indices[name]
                for number in numbers:
                    if not 0 <= number < index.num_rows:
                        raise ConfigError(
                            f"--row: expected 0 to {index.num_rows - 1} in {name}, found {number}"
                        )
                chosen = numbers or _telling_rows(index, beside=beside)
                batch = self.loader.rows(stream.name, chosen, corpus=place)
                yield Chosen(name, tuple(f"{name}, row {number}" for number in chosen), batch)


class Chosen(NamedTuple):
    """Rows side by side."""

    name: str
    """What they are of."""
    names: tuple[str, ...]
    """What each is called."""
    batch: "Batch"
    """As the model gets them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChoice:
    """What was asked for."""

    source: str
    folder: FolderChoice
    assignments: tuple[str, ...]
    stream: str | None
    rows: tuple[int, ...]
    step: int | None
    index: Path | None

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """The data, its index in the folder that was named, the run's or that of all runs."""
        run, index = self._run()
        yield _open(run, self.index or index)

    def batches(self, opened: Opened, *, beside: bool) -> "list[Chosen]":
        """What was chosen; ``beside`` as of :meth:`Opened.rows`."""
        if self.step is not None:
            return list(opened.step(self.step, self.stream))
        return list(opened.rows(self.stream, self.rows, beside=beside))

    def _run(self) -> "tuple[Run, Path | None]":
        """The run, and where its indices are if it has been trained."""
        from kosmos.data.indexing import recorded_folder
        from kosmos.recipes.table import ALIASES, RECIPES, make_run

        if self.step is not None and self.rows:
            raise ConfigError("--row: expected it without --step, which has its own, found both")
        path = Path(self.source)
        record = path / "run.json" if path.is_dir() else path
        is_recipe = self.source in RECIPES or self.source in ALIASES
        is_shards = "://" in self.source or (path.is_dir() and not record.is_file())
        is_shards = is_shards and not is_recipe
        if is_shards:
            run, kept = _run_of_folder(self.source, self.folder, self.assignments), None
        else:
            given = self.folder.given()
            if given:
                raise ConfigError(
                    f"{given[0]}: expected it with a folder of shards, found {self.source}",
                    hint="a run has these in it; --set changes them",
                )
            is_file = record.is_file() and not is_recipe
            run = make_run(str(record) if is_file else self.source, self.assignments)
            is_kept = is_file and record.name == "run.json"
            kept = recorded_folder(record.parent) if is_kept else None
        names = [stream.name for stream in run.data.streams]
        if self.stream is not None and self.stream.partition("/")[0] not in names:
            raise ConfigError(
                f"--stream: expected one of {', '.join(names)}, found {self.stream!r}"
            )
        if self.stream is not None and self.step is None:
            wanted = self.stream.partition("/")[0]
            streams = tuple(s for s in run.data.streams if s.name == wanted)
            run = replace(run, data=replace(run.data, streams=streams))
        return run, kept


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
        choice = RowChoice(
            source=source,
            folder=FolderChoice(
                tokenizer=tokenizer,
                num_cells=num_cells,
                packing=packing,
                max_tokens=max_tokens,
                line_tokens=line_tokens,
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
        click.option("--tokenizer", type=file, help="Shards only: the SentencePiece model."),
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


def _telling_rows(index: "Index", *, beside: bool) -> tuple[int, ...]:
    """The row with the most documents of the first ones, perhaps with the shortest beside it."""
    first = range(min(index.num_rows, _NUM_SEARCHED))
    most = max(first, key=lambda row: len(index.row(row).documents))
    shortest = int(index.row_lengths.argmin())
    return (most, shortest) if beside and shortest != most else (most,)


def _run_of_folder(source: str, choice: FolderChoice, assignments: tuple[str, ...]) -> "Run":
    """A run that reads a folder of shards, of a small model that could read it."""
    from kosmos import config
    from kosmos.data.config import DataConfig, Stream
    from kosmos.document.layout import Layout
    from kosmos.image.config import ImageConfig
    from kosmos.model.config import PRESETS
    from kosmos.train.config import Run, TrainConfig

    if choice.tokenizer is None:
        raise ConfigError(
            f"{source}: expected --tokenizer with a folder of shards, found none",
            hint="a SentencePiece model; kosmos tokenizer train makes one",
        )
    parts = source.rstrip("/").split("/")
    is_part = parts[-1] in ("train", "heldout") and len(parts) > 1
    stream = Stream(
        name=parts[-2] if is_part else parts[-1],
        path=source,
        sequences_per_step=1,
        tokens_per_sequence=1.0,
        packing=choice.packing or "single",
        max_tokens=choice.max_tokens or 2048,
        line_tokens=choice.line_tokens,
    )
    run = Run(
        name="shards",
        source="",
        model=PRESETS["nano"],
        data=DataConfig(
            image=ImageConfig(),
            layout=Layout(),
            tokenizer=str(choice.tokenizer),
            num_cells=32 if choice.num_cells is None else choice.num_cells,
            streams=(stream,),
        ),
        train=TrainConfig(steps=1, warmup_steps=0, learning_rate=1.0),
    )
    for assignment in assignments:
        run = config.override(run, assignment)
    return config.replace(
        run,
        {
            "model.decoder.max_tokens": max(stream.max_tokens for stream in run.data.streams),
            "model.vision.image_size": run.data.image.size,
            "model.connector.num_queries": run.data.layout.num_image_tokens,
        },
    )


def _open(run: "Run", index: Path | None) -> Opened:
    from kosmos.data.loader import Loader
    from kosmos.text.tokenizer import Tokenizer

    if not run.data.tokenizer:
        raise ConfigError(
            "tokenizer: expected a SentencePiece model file, found none",
            hint="--set tokenizer=FILE; kosmos tokenizer train makes one",
        )
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    # what a run would refuse to start with is told instead
    data = run.data.without_heldout()
    data = replace(data, streams=tuple(replace(s, max_unusable=1.0) for s in data.streams))
    loader = Loader(data, tokenizer, seed=run.seed, cache_folder=index)
    for name, found in loader.indices.items():
        for reason, count in found.unusable.items():
            click.echo(f"{name}: {count} documents left out: {reason}", err=True)
    return Opened(run, loader, tokenizer)
