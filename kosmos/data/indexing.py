"""Making an index: every document encoded once, its pictures decoded once, then the packing.

A document that cannot be used is left out under a named reason (see usable.py) and listed with its
error. More of them than the stream allows is an error before the first step. Damaged shards are one
whatever their number: those are not documents but files that are not what was written.

Indices are kept for all runs of a user, so that nothing is tokenized twice::

    ~/.cache/openkosmos/indices/       or the folder that KOSMOS_CACHE names, and indices/ in it
        index-<digest>/                whole or not there; `of` in its index.json says of what

Any of them may be deleted, all at once too: who wants one that is gone makes it again.
"""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from kosmos import config
from kosmos.data.config import RowConfig, Stream
from kosmos.data.index import ARRAYS, ID_BITS, LOSS_BIT, SLOT_BIT, Index, IndexKey
from kosmos.data.packing import Rows, pack
from kosmos.data.rules import Budget, cut_rules, unusable_rules
from kosmos.data.usable import Usable, encode_usable
from kosmos.document.encode import Encoded
from kosmos.document.mirror import cache_folder
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document
from kosmos.errors import writing
from kosmos.files import Json, atomic_folder, read_json, write_json, write_jsonl
from kosmos.findings import raise_first_error
from kosmos.locks import locked
from kosmos.logs import Progress
from kosmos.text.tokenizer import Tokenizer

_CHUNK_TOKENS = 1 << 22

_log = logging.getLogger(__name__)


def index_key(reader: ShardReader, tokenizer: Tokenizer, rows: RowConfig) -> IndexKey:
    """What the index of a folder of shards follows from.

    Args:
        reader: The shards.
        tokenizer: Words to ids.
        rows: How documents become rows.
    """
    return IndexKey(
        shards=reader.digest,
        tokenizer=tokenizer.digest,
        num_cells=tokenizer.vocabulary.num_cells,
        rows=rows,
    )


def shared_folder() -> Path:
    """Where indices are kept for all runs of a user, unless a run is told otherwise."""
    return cache_folder() / "indices"


def recorded_folder(folder: Path) -> Path:
    """Where the indices of a run are, as its folder remembers.

    Args:
        folder: The run's; its ``run.json`` is there.
    """
    record = read_json(folder / "run.json")
    named = record.get("indices") if isinstance(record, dict) else None
    places = [Path(str(named))] if named else []
    # the run may be of another machine, or of a time when it kept its own
    found = [place for place in (*places, folder / "index") if place.is_dir()]
    return found[0] if found else shared_folder()


def folder_of_index(indices: Path, digest: str) -> Path:
    """Where the index of a digest is kept."""
    return indices / f"index-{digest[:32]}"


def open_index(
    stream: Stream, reader: ShardReader, tokenizer: Tokenizer, rows: RowConfig, indices: Path
) -> Index:
    """The index of a stream's data: the one that is there, or made now.

    Of several processes that want one that is not there, one makes it and the others wait.

    Args:
        stream: Name and error budget.
        reader: The shards.
        tokenizer: Words to ids.
        rows: How documents become rows.
        indices: Where indices are kept.

    Raises:
        DataError: If no document is usable or too much of them is not; they are listed beside the
            index all the same.
    """
    key = index_key(reader, tokenizer, rows)
    folder = folder_of_index(indices, config.digest(key))
    title = f"{stream.name} ({reader.folder})"
    if not folder.is_dir():
        with writing(folder, hint="KOSMOS_CACHE names another folder for indices"):
            indices.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):
            if not folder.is_dir():  # another process may have made it meanwhile
                with atomic_folder(folder) as scratch:
                    _Builder(reader, tokenizer, key, scratch).build(title)
    index = Index(folder)
    listed = f"they are listed with their errors in {folder / 'unusable.jsonl'}"
    budget = Budget(title, stream.max_unusable, f"streams.{stream.name}.")
    raise_first_error(unusable_rules(index.losses, budget, listed=listed))
    raise_first_error(cut_rules(index.losses, budget, rows), log=_log)
    return index


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
        self.num_cut = 0

    def build(self, title: str) -> None:
        numbers, lengths, ids, ends, image_starts = [], [0], [], [], []
        total = num_cut_tokens = 0
        with (
            open(self.folder / "tokens.bin", "wb") as file,
            Progress(f"index {title}", total=len(self.reader), unit="documents") as progress,
        ):
            for number in range(len(self.reader)):
                progress.advance()
                doc = self.reader[number]
                usable = self._encode(number, doc)
                if usable is None:
                    continue
                encoded = usable.encoded
                self.num_cut += usable.num_cut_tokens > 0
                num_cut_tokens += usable.num_cut_tokens
                flags = encoded.loss_mask * LOSS_BIT | encoded.image_slots * SLOT_BIT
                (encoded.token_ids.astype("<u4") | flags).tofile(file)
                numbers.append(number)
                ids.append(doc.id.encode("utf-8"))
                ends.append(total + usable.line_ends)
                image_starts.append(total + self._image_starts(encoded))
                total += len(encoded)
                lengths.append(len(encoded))
                self.num_images += len(encoded.images)
                self.dropped["boxes"] += encoded.num_dropped_boxes
                self.dropped["phrases"] += encoded.num_dropped_phrases
        offsets = np.cumsum(np.array(lengths, dtype=np.int64))
        made = self.key.rows
        rows = pack(offsets, _joined(ends), packing=made.packing, max_tokens=made.max_tokens)
        if made.packing == "full-sentence":  # rows bring their own <s>
            num_cut_tokens += total - len(numbers) - int((rows.stops - rows.starts).sum())
        self.dropped["tokens"] = num_cut_tokens
        images = _images_of_pieces(offsets, rows, _joined(image_starts))
        self._write(np.array(numbers, dtype=np.int64), offsets, ids, rows, images)

    def _encode(self, number: int, doc: Document) -> Usable | None:
        """The document as tokens; None if it is unusable, which is put on the list."""
        found = encode_usable(doc, self.tokenizer, self.key.rows)
        if isinstance(found, Usable):
            return found
        self.reasons[found.reason] += 1
        self.unusable.append({"document": number, "id": doc.id, **found._asdict()})
        return None

    def _image_starts(self, encoded: Encoded) -> Int64[np.ndarray, " images"]:
        slots: Int64[np.ndarray, " slots"] = np.flatnonzero(encoded.image_slots)
        return slots[:: self.key.rows.layout.num_image_tokens]

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
        starts_row = self.key.rows.packing == "full-sentence"
        write_jsonl(self.folder / "unusable.jsonl", self.unusable)
        write_json(
            self.folder / "index.json",
            {
                "of": str(self.reader.folder),
                "made_by": config.to_json(self.key),
                "bos_id": self.tokenizer.vocabulary.bos_id,
                "num_documents": len(numbers),
                "num_rows": num_rows,
                "num_tokens": int((rows.stops - rows.starts).sum()) + num_rows * starts_row,
                "num_images": self.num_images,
                "num_cut": self.num_cut,
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
