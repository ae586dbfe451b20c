"""Ledger: which samples were, or will be, in a step, and in which steps a document is.

Both are computed from the order, without reading a sample: a step is a function of its number, and
that function can be asked backwards. Nothing is written while training, and nothing can disagree
with what is read, since it is the loader's own order that answers.

- :func:`recorded_order` is that order, from what a run folder remembers
- :class:`Ledger` answers
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kosmos import config
from kosmos.data.config import DataConfig, skipped_steps
from kosmos.data.index import Index
from kosmos.data.indexing import folder_of_index, recorded_folder
from kosmos.data.mixture import data_step, optimizer_step
from kosmos.data.order import Order
from kosmos.errors import DataError
from kosmos.files import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sequence in a step."""

    step: int | None
    """Of the optimizer, counted from 1 as in metrics.jsonl; None if the data is left out."""
    data_step: int
    """Of the data, counted from 1; the same unless steps are left out before it."""
    stream: str
    """Name of the stream."""
    corpus: str
    """Name of the corpus; that of the stream if it is one folder."""
    row: int
    """Of the index of the corpus."""
    epoch: int
    """Counted from 1: in the first, the corpus is read for the first time."""
    micro_batch: int | None
    """Number of the micro-batch in the step, from 0; None where that was not worked out."""
    documents: tuple[str, ...]
    """Ids of the documents of which it holds something, in order."""


class Ledger:
    """Answers for one run.

    Args:
        order: Of the run.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.streams = {stream.name: stream for stream in order.mixture.streams}

    def step(self, step: int) -> Iterator[Sample]:
        """The samples of a step, stream after stream and micro-batch after micro-batch.

        Args:
            step: Of the optimizer, counted from 1.
        """
        of_data = data_step(step - 1, self.order.skipped) + 1
        for part in self.order.step(step - 1):
            sources = self.streams[part.stream].sources
            indices = self.order.indices[part.stream]
            chosen = (part.sequences.corpora, part.sequences.rows, part.sequences.epochs)
            for corpus, row, epoch in zip(*(each.tolist() for each in chosen), strict=True):
                index = indices[corpus]
                yield Sample(
                    step=step,
                    data_step=of_data,
                    stream=part.stream,
                    corpus=sources[corpus].name,
                    row=row,
                    epoch=epoch + 1,
                    micro_batch=part.place,
                    documents=tuple(index.id(number) for number in index.documents(row)),
                )

    def document(self, document_id: str, *, first: int, last: int) -> Iterator[Sample]:
        """The samples that hold something of a document, step after step.

        Finding the document takes a search of all ids; finding its steps takes none.

        Args:
            document_id: As the shards have it.
            first: First step to look at, counted from 1; data left out between the two counts.
            last: Last step.
        """
        found = [
            sample
            for stream, indices in self.order.indices.items()
            for corpus, index in enumerate(indices)
            for document in index.find(document_id)
            for sample in self._uses(stream, corpus, document, first, last)
        ]
        yield from sorted(found, key=lambda sample: (sample.data_step, sample.stream, sample.row))

    def _uses(
        self, stream: str, corpus: int, document: int, first: int, last: int
    ) -> Iterator[Sample]:
        """Places of one document in the data that these steps read or pass over."""
        index = self.order.indices[stream][corpus]
        order, skipped = self.order.mixture.orders[stream], self.order.skipped
        per_step = self.streams[stream].sequences_per_step
        start = 0 if first == 1 else data_step(first - 1, skipped) * per_step
        stop = (data_step(last - 1, skipped) + 1) * per_step
        rows = np.array(index.rows_of(document), dtype=np.int64)
        for epoch in range(*order.epochs(corpus, start, stop)):
            places = order.places(corpus, rows, epoch)
            for row, place in zip(rows.tolist(), places.tolist(), strict=True):
                if start <= place < stop:
                    step = optimizer_step(place // per_step, skipped)
                    yield Sample(
                        step=None if step is None else step + 1,
                        data_step=place // per_step + 1,
                        stream=stream,
                        corpus=self.streams[stream].sources[corpus].name,
                        row=row,
                        epoch=epoch + 1,
                        micro_batch=None,
                        documents=tuple(index.id(number) for number in index.documents(row)),
                    )


def recorded_order(folder: Path, index_folder: Path | None = None) -> tuple[int, Order]:
    """Steps of the run of a run folder, and the order in which it reads its data.

    The indices that it made are enough: neither tokenizer nor shards need be there.

    Args:
        folder: The run's.
        index_folder: Where the indices are; None: where its record says.

    Raises:
        DataError: If there is no run, or not its indices.
    """
    path = folder / "run.json"
    record: Any = read_json(path)
    if not isinstance(record, dict) or not {"run", "data"} <= record.keys():
        raise DataError(f"{path}: expected the record of a run, found something else")
    index_folder = index_folder or recorded_folder(folder)
    run = record["run"]
    data = config.from_json(DataConfig, run["data"], where=str(path))
    indices = {}
    for stream in data.streams:
        folders = [
            folder_of_index(index_folder, record["data"][stream.source_name(corpus)]["index"])
            for corpus in stream.sources
        ]
        for of_index in folders:
            if not of_index.is_dir():
                raise DataError(
                    f"{of_index}: expected the index of stream {stream.name!r}, found nothing "
                    "there",
                    hint="--index names their folder; kosmos data show RUN makes them again",
                )
        indices[stream.name] = [Index(of_index) for of_index in folders]
    order = Order(
        data.streams,
        indices,
        seed=run["seed"],
        micro_batch_tokens=data.micro_batch_tokens,
        skipped=skipped_steps(data.skip_steps),
    )
    return run["train"]["steps"], order
