"""Making an index: every document encoded once, its pictures decoded once, then the packing.

A document that cannot be used is left out under a named reason (see usable.py) and listed with its
error. More of them than the stream allows is an error before the first step. Damaged shards are one
whatever their number: those are not documents but files that are not what was written.
"""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from kosmos import config
from kosmos.data.config import Stream
from kosmos.data.index import ARRAYS, ID_BITS, LOSS_BIT, SLOT_BIT, Index, IndexKey
from kosmos.data.packing import Rows, pack
from kosmos.data.usable import encode_usable, line_ends
from kosmos.document.encode import Encoded
from kosmos.document.layout import Layout
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document
from kosmos.errors import DataError
from kosmos.files import Json, atomic_folder, write_json, write_jsonl
from kosmos.image.config import ImageConfig
from kosmos.logs import Progress
from kosmos.text.tokenizer import Tokenizer

_CHUNK_TOKENS = 1 << 22

_log = logging.getLogger(__name__)


def index_key(
    stream: Stream,
    reader: ShardReader,
    tokenizer: Tokenizer,
    *,
    layout: Layout,
    image: ImageConfig,
) -> IndexKey:
    """What the index of a stream's data follows from.

    Args:
        stream: How rows are laid out; its own layout fields go before those of ``layout``.
        reader: The shards.
        tokenizer: Words to ids.
        layout: Layout of tokens.
        image: Preprocessing of pictures.
    """
    return IndexKey(
        shards=reader.digest,
        tokenizer=tokenizer.digest,
        num_cells=tokenizer.vocabulary.num_cells,
        layout=replace(layout, ground=stream.ground, line_tokens=stream.line_tokens),
        image=image,
        packing=stream.packing,
        max_tokens=stream.max_tokens,
    )


def index_folder(cache_folder: Path, key: IndexKey) -> Path:
    """Where an index is kept."""
    return folder_of_index(cache_folder, config.digest(key))


def folder_of_index(cache_folder: Path, digest: str) -> Path:
    """Where the index of a digest is kept."""
    return cache_folder / f"index-{digest[:32]}"


def open_index(
    stream: Stream, reader: ShardReader, tokenizer: Tokenizer, key: IndexKey, cache_folder: Path
) -> Index:
    """The index of a stream's data, from the cache or made now.

    Args:
        stream: Name and error budget.
        reader: The shards.
        tokenizer: Words to ids.
        key: From :func:`index_key` of these.
        cache_folder: Where indices are kept.

    Raises:
        DataError: If no document is usable or too many are not; they are listed in the cache
            folder all the same.
    """
    folder = index_folder(cache_folder, key)
    title = f"{stream.name} ({reader.folder})"
    if not folder.is_dir():
        with atomic_folder(folder) as scratch:
            _Builder(reader, tokenizer, key, scratch).build(title)
    index = Index(folder)
    _check_budget(index, len(reader), stream, title)
    return index


def _check_budget(index: Index, num_documents: int, stream: Stream, title: str) -> None:
    reasons = index.unusable
    count = sum(reasons.values())
    told = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
    hint = f"they are listed with their errors in {index.folder / 'unusable.jsonl'}"
    if index.num_rows == 0:
        raise DataError(f"{title}: expected documents to train on, found none ({told})", hint=hint)
    if count > stream.max_unusable * num_documents:
        raise DataError(
            f"{title}: expected at most {stream.max_unusable:.1%} of {num_documents} documents "
            f"unusable, found {count} ({told})",
            hint=f"{hint}; streams.{stream.name}.max_unusable allows more",
        )


class _Builder:
    """Encodes every document once, writes the tokens as they come, then packs the lengths."""

    def __init__(
        self, reader: ShardReader, tokenizer: Tokenizer, key: IndexKey, folder: Path
    ) -> None:
        self.reader = reader
        self.tokenizer = tokenizer
        self.key = key
        self.folder = folder
        self.unusable: list[Json] = []
        self.reasons: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.num_images = 0

    def build(self, title: str) -> None:
        numbers, lengths, ids, ends, image_starts = [], [0], [], [], []
        total = 0
        with (
            open(self.folder / "tokens.bin", "wb") as file,
            Progress(f"index {title}", total=len(self.reader), unit="documents") as progress,
        ):
            for number in range(len(self.reader)):
                progress.advance()
                doc = self.reader[number]
                encoded = self._encode(number, doc)
                if encoded is None:
                    continue
                flags = encoded.loss_mask * LOSS_BIT | encoded.image_slots * SLOT_BIT
                (encoded.token_ids.astype("<u4") | flags).tofile(file)
                numbers.append(number)
                ids.append(doc.id.encode("utf-8"))
                ends.append(total + line_ends(encoded, self.tokenizer))
                image_starts.append(total + self._image_starts(encoded))
                total += len(encoded)
                lengths.append(len(encoded))
                self.num_images += len(encoded.images)
                self.dropped["boxes"] += encoded.num_dropped_boxes
                self.dropped["phrases"] += encoded.num_dropped_phrases
        offsets = np.cumsum(np.array(lengths, dtype=np.int64))
        rows = pack(
            offsets, _joined(ends), packing=self.key.packing, max_tokens=self.key.max_tokens
        )
        self._count_cut_tokens(offsets, rows, title)
        images = _images_of_pieces(offsets, rows, _joined(image_starts))
        self._write(np.array(numbers, dtype=np.int64), offsets, ids, rows, images)

    def _count_cut_tokens(
        self, offsets: Int64[np.ndarray, " documents"], rows: Rows, title: str
    ) -> None:
        """Tokens that no row holds: the ends of lines longer than a row."""
        total = int(offsets[-1])
        if self.key.packing == "full-sentence":
            total -= len(offsets) - 1  # rows bring their own <s>
        self.dropped["tokens"] = cut = total - int((rows.stops - rows.starts).sum())
        if cut:
            _log.info(
                "%s: %d of %d tokens (%.1f%%) left out, as ends of lines longer than a row of %d",
                *(title, cut, total, 100 * cut / total, self.key.max_tokens),
            )

    def _encode(self, number: int, doc: Document) -> Encoded | None:
        """The document as tokens; None if it is unusable, which is put on the list."""
        found = encode_usable(
            doc,
            self.tokenizer,
            layout=self.key.layout,
            image=self.key.image,
            packing=self.key.packing,
            max_tokens=self.key.max_tokens,
        )
        if isinstance(found, Encoded):
            return found
        self.reasons[found.reason] += 1
        self.unusable.append({"document": number, "id": doc.id, **found._asdict()})
        return None

    def _image_starts(self, encoded: Encoded) -> Int64[np.ndarray, " images"]:
        slots: Int64[np.ndarray, " slots"] = np.flatnonzero(encoded.image_slots)
        return slots[:: self.key.layout.num_image_tokens]

    def _write(
        self,
        numbers: np.ndarray,
        offsets: np.ndarray,
        ids: list[bytes],
        rows: Rows,
        images: np.ndarray,
    ) -> None:
        arrays = {
            "numbers": numbers,
            "offsets": offsets,
            "ids": np.frombuffer(b"".join(ids), dtype=np.uint8),
            "id_offsets": np.cumsum([0, *map(len, ids)], dtype=np.int64),
            "piece_documents": rows.documents,
            "piece_starts": rows.starts,
            "piece_stops": rows.stops,
            "piece_images": images,
            "row_offsets": rows.offsets,
            "token_counts": self._token_counts(),
        }
        for name in ARRAYS:
            np.save(self.folder / f"{name}.npy", arrays[name])
        num_rows = len(rows.offsets) - 1
        starts_row = self.key.packing == "full-sentence"
        write_jsonl(self.folder / "unusable.jsonl", self.unusable)
        write_json(
            self.folder / "index.json",
            {
                "made_by": config.to_json(self.key),
                "bos_id": self.tokenizer.vocabulary.bos_id,
                "num_documents": len(numbers),
                "num_rows": num_rows,
                "num_tokens": int((rows.stops - rows.starts).sum()) + num_rows * starts_row,
                "num_images": self.num_images,
                "unusable": dict(self.reasons),
                "dropped": dict(self.dropped),
            },
        )

    def _token_counts(self) -> Int64[np.ndarray, " vocab"]:
        size = self.tokenizer.vocabulary.size
        counts = np.zeros(size, dtype=np.int64)
        with open(self.folder / "tokens.bin", "rb") as file:
            while len(tokens := np.fromfile(file, dtype="<u4", count=_CHUNK_TOKENS)):
                counts += np.bincount(tokens[(tokens & LOSS_BIT) > 0] & ID_BITS, minlength=size)
        return counts


def _joined(parts: list[np.ndarray]) -> Int64[np.ndarray, " n"]:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _images_of_pieces(
    offsets: Int64[np.ndarray, " documents"], rows: Rows, image_starts: Int64[np.ndarray, " images"]
) -> Int64[np.ndarray, "pieces 2"]:
    """First picture of its document that stands in each piece, and past the last."""
    before = np.searchsorted(image_starts, offsets[rows.documents])
    bounds = np.searchsorted(image_starts, np.stack([rows.starts, rows.stops], axis=1))
    images: Int64[np.ndarray, "pieces 2"] = bounds - before[:, None]
    return images
