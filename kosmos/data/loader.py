"""Loader: the batches of any step, as a pure function of the seed and the step.

The order of everything is fixed by the index (what fills a row) and the mixture (which rows a step
takes); nothing here has a state. Reading ahead happens in threads that compute the same function,
so neither their number nor a restart changes a batch.
"""

import dataclasses
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from kosmos.data.batch import Batch
from kosmos.data.collate import collate
from kosmos.data.config import Stream
from kosmos.data.index import Index, Row
from kosmos.data.indexing import index_key, open_index
from kosmos.data.order import MicroBatch, Order, cut
from kosmos.data.permutation import Permutation
from kosmos.document.layout import Layout
from kosmos.document.pixels import load_pixels
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document
from kosmos.errors import ConfigError
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform
from kosmos.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class _Source:
    """A folder of shards with its index."""

    stream: Stream
    reader: ShardReader
    index: Index


class Loader:
    """Batches of a mixture of streams.

    Opening indexes what is not indexed yet.

    Args:
        streams: What is read, and how much of each in a step.
        tokenizer: Words to ids.
        seed: The order follows from it.
        layout: Layout of tokens; a stream's own fields go before it.
        image: Preprocessing of pictures.
        micro_batch_tokens: Most positions of a micro-batch, padding included.
        cache_folder: Where indices are kept.
        heldout_sequences: Most held-out sequences of a stream.

    Raises:
        ConfigError: If a stream names no data.
        DataError: If data is missing, damaged or too much of it is unusable.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        tokenizer: Tokenizer,
        *,
        seed: int,
        layout: Layout,
        image: ImageConfig,
        micro_batch_tokens: int,
        cache_folder: Path,
        heldout_sequences: int = 64,
    ) -> None:
        self.tokenizer = tokenizer
        self.layout = layout
        self.image = image
        self.micro_batch_tokens = micro_batch_tokens
        self.heldout_sequences = heldout_sequences
        self._cache_folder = cache_folder
        self._transform = ImageTransform(image)
        self._train = {stream.name: self._open(stream, stream.path) for stream in streams}
        self._heldout = {
            stream.name: self._open(stream, stream.heldout_path, what="heldout_path")
            for stream in streams
            if stream.heldout_path
        }
        self.order = Order(streams, self.indices, seed=seed, micro_batch_tokens=micro_batch_tokens)

    @property
    def indices(self) -> dict[str, Index]:
        """Index of the training data of each stream."""
        return {name: source.index for name, source in self._train.items()}

    @property
    def heldout_streams(self) -> tuple[str, ...]:
        """Streams that have held-out data."""
        return tuple(self._heldout)

    def step(self, step: int, *, rank: int = 0, num_ranks: int = 1) -> list[Batch]:
        """Micro-batches of a step that a rank reads, stream after stream, short rows first.

        What is read does not depend on the number of ranks, only who reads it; see order.py.

        Args:
            step: Counted from 0.
            rank: Which rank reads.
            num_ranks: How many ranks share the step.
        """
        parts = self.order.step(step, rank=rank, num_ranks=num_ranks)
        return [self._batch(self._train[part.stream], part) for part in parts]

    def rows(self, stream: str, numbers: Sequence[int]) -> Batch:
        """Rows of a stream's index side by side, whatever their length and number.

        Args:
            stream: Name of the stream.
            numbers: Of the rows, as the index counts them.
        """
        source, rows = self._train[stream], np.array(numbers, dtype=np.int64)
        has_images = source.index.has_images(rows)
        part = MicroBatch(stream=stream, place=0, rows=rows, needs_images=has_images)
        return self._batch(source, part)

    def heldout(self, stream: str) -> list[Batch]:
        """Micro-batches of a stream's held-out sequences, the same at every call and seed."""
        source = self._heldout[stream]
        count = min(self.heldout_sequences, source.index.num_rows)
        order = Permutation(source.index.num_rows, 0, "heldout", stream)
        parts = cut(
            stream,
            source.index,
            order(np.arange(count, dtype=np.int64)),
            micro_batch_tokens=self.micro_batch_tokens,
        )
        return [self._batch(source, part) for part in parts]

    def prefetch(
        self,
        start: int,
        stop: int,
        *,
        rank: int = 0,
        num_ranks: int = 1,
        depth: int = 2,
        num_threads: int = 1,
    ) -> Generator[list[Batch], None, None]:
        """Batches of steps ``[start, stop)``, read ahead in the background.

        Args:
            start: First step.
            stop: Past the last step.
            rank: Which rank reads.
            num_ranks: How many ranks share each step.
            depth: Steps read ahead of the one in use.
            num_threads: Threads that read.
        """
        pending: deque[Future[list[Batch]]] = deque()
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
        try:
            for step in range(start, stop + depth):
                if step < stop:
                    pending.append(pool.submit(self.step, step, rank=rank, num_ranks=num_ranks))
                if step >= start + depth:
                    yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _open(self, stream: Stream, path: str, what: str = "path") -> _Source:
        if not path:
            raise ConfigError(
                f"streams.{stream.name}.{what}: expected a folder of document shards, found none",
                hint=f"--set streams.{stream.name}.{what}=FOLDER",
            )
        reader = ShardReader(path)
        key = index_key(stream, reader, self.tokenizer, layout=self.layout, image=self.image)
        index = open_index(stream, reader, self.tokenizer, key, self._cache_folder)
        return _Source(stream, reader, index)

    def _batch(self, source: _Source, part: MicroBatch) -> Batch:
        rows = [source.index.row(int(row)) for row in part.rows]
        batch = collate(
            rows,
            stream=source.stream.name,
            document_ids=tuple(source.index.id(doc) for row in rows for doc in row.documents),
            pixels=self._pixels(source, rows),
            isolated=source.stream.packing == "isolated",
            pad_id=self.tokenizer.vocabulary.pad_id,
        )
        weights = batch.loss_weights
        return dataclasses.replace(
            batch,
            place=part.place,
            needs_images=part.needs_images,
            is_filler=part.is_filler,
            loss_weights=np.zeros_like(weights) if part.is_filler else weights,
        )

    def _pixels(
        self, source: _Source, rows: Sequence[Row]
    ) -> Float32[np.ndarray, "images 3 height width"] | None:
        wanted = [image for row in rows for image in row.images]
        if not wanted:
            return None
        docs: dict[int, Document] = {
            document: source.reader[source.index.number(document)] for document, _ in wanted
        }
        stream = source.stream.name
        return load_pixels(
            [docs[document].images[image] for document, image in wanted],
            self._transform,
            where=[
                f"stream {stream!r}, document {docs[document].id!r}, image {image}"
                for document, image in wanted
            ],
        )
