"""Reading: the rows of a micro-batch, with their pictures, into a Batch."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from kosmos.data.batch import Batch, collate
from kosmos.data.config import Stream
from kosmos.data.index import Index, Row
from kosmos.data.order import MicroBatch
from kosmos.document.pixels import load_pixels
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document
from kosmos.errors import DataError
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of shards with its index."""

    reader: ShardReader
    """Its documents."""
    index: Index
    """What fills which row."""


class BatchReader:
    """Reads micro-batches. It has no state, can be shared by threads and be pickled.

    Args:
        streams: What is read.
        sources: Shards and index of each source of each stream, by name of the stream.
        image: Preprocessing of pictures.
        pad_id: Id that fills rows up.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        sources: Mapping[str, Sequence[Source]],
        *,
        image: ImageConfig,
        pad_id: int,
    ) -> None:
        self.streams = {stream.name: stream for stream in streams}
        self.sources = {name: tuple(of_stream) for name, of_stream in sources.items()}
        self._transform = ImageTransform(image)
        self._pad_id = pad_id

    def read(self, part: MicroBatch) -> Batch:
        """The arrays of a micro-batch.

        Raises:
            DataError: If its shards or index are damaged.
        """
        sources = self.sources[part.stream]
        chosen = [sources[corpus] for corpus in part.sequences.corpora.tolist()]
        rows = [
            source.index.row(row)
            for source, row in zip(chosen, part.sequences.rows.tolist(), strict=True)
        ]
        batch = collate(
            rows,
            stream=part.stream,
            document_ids=tuple(
                source.index.id(document)
                for source, row in zip(chosen, rows, strict=True)
                for document in row.documents
            ),
            pixels=self._pixels(part.stream, chosen, rows),
            isolated=self.streams[part.stream].packing == "isolated",
            pad_id=self._pad_id,
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
        self, stream: str, chosen: Sequence[Source], rows: Sequence[Row]
    ) -> Float32[np.ndarray, "images 3 height width"] | None:
        images, where = [], []
        for source, row in zip(chosen, rows, strict=True):
            docs: dict[int, Document] = {}
            for document, image in row.images:
                number = source.index.number(document)
                name = f"stream {stream!r}, document {source.index.id(document)!r}"
                if document not in docs:
                    docs[document] = _read(source.reader, number, name)
                images.append(docs[document].images[image])
                where.append(f"{name} ({source.reader.where(number)}), image {image}")
        return load_pixels(images, self._transform, where=where) if images else None


def _read(reader: ShardReader, number: int, name: str) -> Document:
    """A document; what keeps it from being read is told with its name."""
    try:
        return reader[number]
    except DataError as error:
        raise DataError(f"{name}: {error.message}", hint=error.hint) from error
