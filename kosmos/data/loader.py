"""Loader: the batches of any step, as a pure function of the seed and the step.

The order of everything is fixed by the index (what fills a row) and the mixture (which rows a step
takes); nothing here has a state. Reading ahead computes the same function in other threads or
processes, so neither their number nor a restart changes a batch.
"""

import dataclasses
import logging
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from kosmos.data.batch import Batch
from kosmos.data.config import Corpus, DataConfig, Stream, skipped_steps
from kosmos.data.index import Index
from kosmos.data.indexing import open_index, shared_folder
from kosmos.data.mixture import Sequences, StreamOrder
from kosmos.data.order import MicroBatch, Order, cut
from kosmos.data.prefetching import read_ahead
from kosmos.data.reading import BatchReader, Source
from kosmos.data.rules import path_rules, size_rules, stream_rules
from kosmos.document.shards import ShardReader
from kosmos.findings import raise_first_error
from kosmos.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


class Loader:
    """Batches of a mixture of streams.

    Opening indexes what is not indexed yet.

    Args:
        data: What is read and how it is laid out.
        tokenizer: Words to ids.
        seed: The order follows from it.
        cache_folder: Where indices are kept; None: where those of all runs of the user are.

    Raises:
        ConfigError: If a stream contradicts itself or names no data.
        DataError: If data is missing, damaged, too little for a step, or too much of it unusable.
    """

    def __init__(
        self,
        data: DataConfig,
        tokenizer: Tokenizer,
        *,
        seed: int,
        cache_folder: Path | None = None,
    ) -> None:
        self.data = data
        self.tokenizer = tokenizer
        self.cache_folder = shared_folder() if cache_folder is None else cache_folder.absolute()
        streams = data.streams
        for stream in streams:
            raise_first_error(stream_rules(stream))
            raise_first_error(path_rules(stream), log=_log)
        self._train = self._open_all(streams)
        for stream in streams:
            for corpus, source in zip(
                stream.sources, self._train.sources[stream.name], strict=True
            ):
                where = f"{stream.setting(corpus)} ({source.reader.folder})"
                raise_first_error(size_rules(stream, corpus, source.index.num_rows, where=where))
        self._heldout = self._open_all([_heldout_stream(s) for s in streams if _has_heldout(s)])
        self.order = Order(
            streams,
            {
                name: [source.index for source in of_stream]
                for name, of_stream in self._train.sources.items()
            },
            seed=seed,
            micro_batch_tokens=data.micro_batch_tokens,
            skipped=skipped_steps(data.skip_steps),
        )

    @property
    def indices(self) -> dict[str, Index]:
        """Index of the training data of each source, by its name: ``text/wikipedia``."""
        return {
            stream.source_name(corpus): source.index
            for stream in self.data.streams
            for corpus, source in zip(stream.sources, self._train.sources[stream.name], strict=True)
        }

    @property
    def heldout_streams(self) -> tuple[str, ...]:
        """Streams that have held-out data."""
        return tuple(self._heldout.streams)

    def token_counts(self, stream: str) -> Float64[np.ndarray, " vocab"]:
        """How often loss falls on each token of the vocabulary in a stream, its corpora weighted.

        Args:
            stream: Name of the stream.

        Returns:
            Counts that add up to those of the stream's rows.
        """
        counts = [source.index.token_counts for source in self._train.sources[stream]]
        weights = np.array([corpus.weight for corpus in self._train.streams[stream].sources])
        totals = np.array([of_source.sum() for of_source in counts])
        scale = totals.sum() * weights / weights.sum() / totals
        return np.tensordot(scale, np.stack(counts), axes=1)

    def step(self, step: int, *, rank: int = 0, num_processes: int = 1) -> list[Batch]:
        """Micro-batches of a step that a rank reads, stream after stream, short rows first.

        What is read does not depend on the number of ranks, only who reads it; see order.py.

        Args:
            step: Of the optimizer, counted from 0.
            rank: Which rank reads.
            num_processes: How many ranks share the step.
        """
        parts = self.order.step(step, rank=rank, num_processes=num_processes)
        return [self._train.read(part) for part in parts]

    def rows(self, stream: str, numbers: Sequence[int], *, corpus: int = 0) -> Batch:
        """Rows of a stream's index side by side, whatever their length and number.

        Args:
            stream: Name of the stream.
            numbers: Of the rows, as the index counts them.
            corpus: Which of the stream's sources, by number.
        """
        rows = np.array(numbers, dtype=np.int64)
        part = MicroBatch(
            stream=stream,
            place=0,
            sequences=Sequences(np.full_like(rows, corpus), rows, np.zeros_like(rows)),
            needs_images=self._train.sources[stream][corpus].index.has_images(rows),
        )
        return self._train.read(part)

    def heldout(self, stream: str) -> list[Batch]:
        """Micro-batches of a stream's held-out sequences, the same at every call and seed.

        Corpora have their weights in it until one with few rows runs out.
        """
        indices = [source.index for source in self._heldout.sources[stream]]
        num_rows = [index.num_rows for index in indices]
        order = StreamOrder(self._heldout.streams[stream], num_rows, seed=0, purpose=("heldout",))
        sequences = order(0, self.data.heldout_sequences)
        parts = cut(
            stream,
            indices,
            sequences.at(sequences.epochs == 0),
            micro_batch_tokens=self.data.micro_batch_tokens,
        )
        return [self._heldout.read(part) for part in parts]

    def prefetch(
        self,
        start: int,
        stop: int,
        *,
        rank: int = 0,
        num_processes: int = 1,
        depth: int = 1,
        num_workers: int = 0,
    ) -> Generator[list[Batch], None, None]:
        """Batches of steps ``[start, stop)``, read ahead in the background.

        Close it, or read it to its end: until then its workers wait.

        Args:
            start: First step.
            stop: Past the last step.
            rank: Which rank reads.
            num_processes: How many ranks share each step.
            depth: Steps read ahead of the one in use.
            num_workers: Processes that read; 0: one thread of this one.

        Raises:
            DataError: What reading raised, at the step it is of; or a worker is dead.
        """
        return read_ahead(
            lambda step: self.order.step(step, rank=rank, num_processes=num_processes),
            self._train,
            start,
            stop,
            depth=depth,
            num_workers=num_workers,
        )

    def _open_all(self, streams: Sequence[Stream]) -> BatchReader:
        return BatchReader(
            streams,
            {
                stream.name: [self._open(stream, corpus) for corpus in stream.sources]
                for stream in streams
            },
            image=self.data.image,
            pad_id=self.tokenizer.vocabulary.pad_id,
        )

    def _open(self, stream: Stream, corpus: Corpus) -> Source:
        reader = ShardReader(corpus.path)
        rows = self.data.rows(stream)
        return Source(reader, open_index(stream, reader, self.tokenizer, rows, self.cache_folder))


def _has_heldout(stream: Stream) -> bool:
    return any(corpus.heldout_path for corpus in stream.sources)


def _heldout_stream(stream: Stream) -> Stream:
    """The stream that reads the held-out folders of another."""
    return dataclasses.replace(
        stream,
        path=stream.heldout_path,
        heldout_path="",
        corpora=tuple(
            dataclasses.replace(corpus, path=corpus.heldout_path, heldout_path="")
            for corpus in (stream.sources if stream.corpora else ())
            if corpus.heldout_path
        ),
    )
