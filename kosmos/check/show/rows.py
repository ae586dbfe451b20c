"""Rows to look at: of a run, or of a folder of shards that no run reads yet."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from kosmos import config
from kosmos.data.batch import Batch
from kosmos.data.config import DataConfig, Packing, Stream
from kosmos.data.index import Index
from kosmos.data.loader import Loader
from kosmos.data.rules import tokenizer_rules
from kosmos.document.layout import TRAINING
from kosmos.errors import ConfigError
from kosmos.findings import raise_first_error
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS, ModelConfig, with_vocabulary
from kosmos.text.tokenizer import Tokenizer

_NUM_SEARCHED = 64
"""Rows among which one with many documents is looked for."""

_log = logging.getLogger(__name__)


class Chosen(NamedTuple):
    """Rows side by side."""

    name: str
    """Stream, or step and micro-batch."""
    names: tuple[str, ...]
    batch: Batch


class FolderChoice(NamedTuple):
    """How a folder of shards is read where no run says it; None: not said."""

    tokenizer: Path | None
    """SentencePiece model, or a model folder, which has all but packing and line tokens."""
    num_cells: int | None
    packing: Packing | None
    max_tokens: int | None
    line_tokens: bool | None


def folder_data(source: str, choice: FolderChoice, assignments: Sequence[str]) -> DataConfig:
    """A folder of shards as what a run would read; what nobody said is told.

    Rows are those of targets, so that a model folder gives the number of slots and no more of its
    layout, which is that of prompts.

    Args:
        assignments: ``name=value`` for fields of the data, applied in order.

    Raises:
        ConfigError: If no tokenizer is named, or a change is refused.
    """
    if choice.tokenizer is None:
        raise ConfigError(
            f"{source}: expected --tokenizer with a folder of shards, found none",
            hint="a SentencePiece model or a model folder; kosmos tokenizer train makes one",
        )
    tokenizer, image, layout, longest = choice.tokenizer, ImageConfig(), TRAINING, 2048
    num_cells, told = 32, ["num_cells", "layout.num_image_tokens", "image.size", "image.geometry"]
    if choice.tokenizer.is_dir():
        from kosmos.train.start import tokenizer_file
        from kosmos.weights.folder import load_model

        loaded, told = load_model(choice.tokenizer, dtype="stored"), []
        tokenizer, image = tokenizer_file(choice.tokenizer), loaded.image
        layout = replace(TRAINING, num_image_tokens=loaded.layout.num_image_tokens)
        num_cells = loaded.tokenizer.vocabulary.num_cells
        longest = min(longest, loaded.model.config.decoder.max_tokens)
    if choice.num_cells is not None:
        num_cells, told = choice.num_cells, [name for name in told if name != "num_cells"]
    parts = source.rstrip("/").split("/")
    is_part = parts[-1] in ("train", "heldout") and len(parts) > 1
    data = DataConfig(
        image=image,
        layout=layout,
        tokenizer=str(tokenizer),
        num_cells=num_cells,
        streams=(
            Stream(
                name=parts[-2] if is_part else parts[-1],
                path=source,
                sequences_per_step=1,
                tokens_per_sequence=1.0,
                packing=choice.packing or "single",
                max_tokens=choice.max_tokens or longest,
                line_tokens=bool(choice.line_tokens),
            ),
        ),
    )
    for assignment in assignments:
        assignment = assignment.removeprefix("data.")  # noqa: PLW2901
        told = [name for name in told if name != assignment.partition("=")[0]]
        data = config.override(data, assignment)
    if told:
        _log.warning(
            "not said, and taken for the model's: %s; --tokenizer MODELFOLDER or --set says it",
            ", ".join(f"{name}={attrgetter(name)(data)}" for name in told),
        )
    return data


class OpenRows:
    """Data that is open. What a run would refuse to start with is told instead.

    Args:
        seed: Of the order of steps.
        model: Shape of the model that reads it, if a run says it.
        indices: Where indices are kept; None: where those of all runs are.

    Raises:
        ConfigError: If no tokenizer or no data is named.
        DataError: If data is missing or damaged.
    """

    def __init__(
        self, data: DataConfig, *, seed: int, model: ModelConfig | None, indices: Path | None
    ) -> None:
        raise_first_error(tokenizer_rules(data))
        self.data, self._model = data, model
        self.tokenizer = Tokenizer.load(data.tokenizer, num_cells=data.num_cells)
        loose = tuple(replace(stream, max_unusable=1.0) for stream in data.streams)
        data = replace(data, streams=loose).without_heldout()
        self.loader = Loader(data, self.tokenizer, seed=seed, cache_folder=indices)
        for name, found in self.loader.indices.items():
            for reason, count in found.unusable.items():
                _log.warning("%s: %d documents left out: %s", name, count, reason)

    @property
    def model(self) -> ModelConfig:
        """Shape of the run's model; where there is no run, of a small one that reads the data."""
        size = self.tokenizer.vocabulary.size
        if self._model is not None:
            return with_vocabulary(self._model, size)
        fields = {
            "decoder.max_tokens": max(stream.max_tokens for stream in self.data.streams),
            "vision.image_size": self.data.image.size,
            "connector.num_queries": self.data.layout.num_image_tokens,
        }
        return config.replace(with_vocabulary(PRESETS["nano"], size), fields)

    def stream(self, name: str) -> Stream:
        """A stream by its name."""
        return next(stream for stream in self.data.streams if stream.name == name)

    def step(self, step: int, source: str | None) -> Iterator[Chosen]:
        """Micro-batches of a step; of one stream if one is named."""
        for batch in self.loader.step(step - 1):
            if source in (None, batch.stream):
                name = f"step {step}, micro-batch {batch.place}, {batch.stream}"
                rows = range(len(batch.token_ids))
                yield Chosen(name, tuple(f"{name}, row {row}" for row in rows), batch)

    def rows(
        self, source: str | None, numbers: tuple[int, ...], *, beside: bool
    ) -> Iterator[Chosen]:
        """Rows by number side by side.

        Args:
            source: Name of a stream, or ``stream/corpus``; None: of every one.
            numbers: Of the rows; none: the row with the most documents of the first ones.
            beside: Put the shortest row beside that one, so that there is padding.
        """
        for stream in self.data.streams:
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


def _telling_rows(index: Index, *, beside: bool) -> tuple[int, ...]:
    """The row with the most documents of the first ones, perhaps with the shortest beside it."""
    first = range(min(index.num_rows, _NUM_SEARCHED))
    most = max(first, key=lambda row: len(index.row(row).documents))
    shortest = int(index.row_lengths.argmin())
    return (most, shortest) if beside and shortest != most else (most,)
