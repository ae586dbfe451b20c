"""Index: a folder of document shards, tokenized and laid out in rows once, before training.

It is made offline and keyed by everything that made it (shards, tokenizer, layout, packing), so
that the same data under the same settings is never indexed twice and never mistaken for another.
The folder ``index-<digest>``::

    index.json       of what, what made it, how many of everything, how many documents under each
                     reason for being left out, how many boxes, phrases and tokens of the others
                     were, and how many documents were cut
    unusable.jsonl   {"document", "id", "reason", "message"} of each of those
    tokens.bin       uint32 little endian, one per token of the usable documents, in order:
                     bit 31 loss falls on it, bit 30 it is an image slot, bits 0-29 its id
    *.npy            see :data:`ARRAYS`

Tokens are kept, four bytes each, because a row may hold a few lines of a whole book: encoding the
book again for each of its rows would cost more than training on it. Pictures stay in the shards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from kosmos import config
from kosmos.data.config import RowConfig
from kosmos.errors import DataError
from kosmos.files import Json, read_json

VERSION = 5
ARRAYS = {
    "numbers": "int64 [documents], place of each usable document in its shards",
    "offsets": "int64 [documents + 1], its tokens",
    "ids": "uint8, ids of the usable documents in UTF-8, one after another",
    "id_offsets": "int64 [documents + 1], bytes of each id",
    "piece_documents": "int64 [pieces], document of each piece of a row",
    "piece_starts": "int64 [pieces], its first token",
    "piece_stops": "int64 [pieces], past its last token",
    "piece_images": "int64 [pieces 2], first picture of its document in it, and past the last",
    "row_offsets": "int64 [rows + 1], pieces of each row",
    "token_counts": "int64 [vocabulary], how often loss falls on each token",
}
"""The arrays of an index, each a file of its own that is mapped, not read."""

LOSS_BIT = np.uint32(1 << 31)
SLOT_BIT = np.uint32(1 << 30)
ID_BITS = np.uint32((1 << 30) - 1)

_SEARCHED_TOGETHER = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What of a corpus stands in no row."""

    num_documents: int
    """Documents, the unusable ones among them."""
    unusable: Mapping[str, int]
    """Those that are left out, by reason."""
    num_tokens: int
    """Tokens of the usable documents, those that are cut off among them."""
    num_cut_tokens: int
    """Ends of documents and lines longer than a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexKey:
    """Everything an index follows from; its digest names the index."""

    shards: str
    """Digest of the document shards."""
    tokenizer: str
    """Digest of the SentencePiece model."""
    num_cells: int
    """Cells along each side of the location grid."""
    rows: RowConfig
    """How documents become rows."""
    version: int = VERSION
    """Of the format and of the rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of an index."""

    token_ids: Int64[np.ndarray, " tokens"]
    """Ids."""
    image_slots: Bool[np.ndarray, " tokens"]
    """True where a soft image token stands."""
    loss_mask: Bool[np.ndarray, " tokens"]
    """True at tokens whose prediction counts."""
    segments: Int64[np.ndarray, " tokens"]
    """Number of the document within the row."""
    documents: tuple[int, ...]
    """Documents of the index it holds parts of, in order."""
    images: tuple[tuple[int, int], ...]
    """Document and number within the document of each picture, in the order of the slots."""


class Index:
    """An index that is there. Reading is safe from any number of threads.

    Args:
        folder: Where it is.

    Raises:
        DataError: If a file is missing or has another size than the report says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        report = read_json(folder / "index.json")
        assert isinstance(report, dict)
        self.report: dict[str, Json] = report
        self.key = config.from_json(IndexKey, report["made_by"], where=str(folder))
        self._bos_id = int(report["bos_id"])  # type: ignore[arg-type]
        self._arrays = {name: _map_array(folder / f"{name}.npy") for name in ARRAYS}
        tokens, num_tokens = folder / "tokens.bin", int(self._arrays["offsets"][-1])
        found = tokens.stat().st_size if tokens.is_file() else -1
        if found != 4 * num_tokens:
            raise _damaged(tokens, "nothing there" if found < 0 else f"{found} bytes")
        # an empty file cannot be mapped
        self._tokens = (
            np.memmap(tokens, dtype="<u4", mode="r") if num_tokens else np.empty(0, dtype="<u4")
        )

    def __reduce__(self) -> tuple[type["Index"], tuple[Path]]:
        # another process maps the files itself
        return (Index, (self.folder,))

    @property
    def digest(self) -> str:
        """Of everything that made it."""
        return config.digest(self.key)

    @property
    def num_rows(self) -> int:
        """Rows, which are the sequences of an epoch."""
        return len(self._arrays["row_offsets"]) - 1

    @property
    def num_positions(self) -> int:
        """Positions that all rows take together; a row's last token is a target and takes none."""
        return int(self.report["num_tokens"]) - self.num_rows  # type: ignore[arg-type]

    @property
    def num_images(self) -> int:
        """Pictures in the usable documents."""
        return int(self.report["num_images"])  # type: ignore[arg-type]

    @property
    def unusable(self) -> dict[str, int]:
        """Documents that were left out, by reason."""
        reasons = self.report["unusable"]
        assert isinstance(reasons, dict)
        return {reason: int(number) for reason, number in reasons.items()}  # type: ignore[arg-type]

    @property
    def losses(self) -> Losses:
        """What of its documents stands in no row."""
        num_cut = int(self.report["dropped"]["tokens"])  # type: ignore[arg-type, call-overload, index]
        num_bos = self.num_rows if self.key.rows.packing == "full-sentence" else 0
        return Losses(
            num_documents=len(self._arrays["numbers"]) + sum(self.unusable.values()),
            unusable=self.unusable,
            num_tokens=self.num_positions + self.num_rows - num_bos + num_cut,
            num_cut_tokens=num_cut,
        )

    @property
    def token_counts(self) -> Int64[np.ndarray, " vocab"]:
        """How often loss falls on each token of the vocabulary in the usable documents."""
        return self._arrays["token_counts"]

    @property
    def row_lengths(self) -> Int64[np.ndarray, " rows"]:
        """Tokens of every row."""
        return self.lengths(np.arange(self.num_rows, dtype=np.int64))

    def lengths(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Tokens of some rows, at a cost that does not depend on how many others there are."""
        pieces, firsts = self._pieces(rows)
        lengths = self._arrays["piece_stops"][pieces] - self._arrays["piece_starts"][pieces]
        sums: Int64[np.ndarray, " n"] = np.add.reduceat(lengths, firsts)
        return sums + (self.key.rows.packing == "full-sentence")

    def has_images(self, rows: Int64[np.ndarray, " n"]) -> bool:
        """Whether a picture stands in any of some rows; none is read."""
        if self.num_images == 0:
            return False
        images = self._arrays["piece_images"][self._pieces(rows)[0]]
        return bool((images[:, 1] > images[:, 0]).any())

    def _pieces(
        self, rows: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " pieces"], Int64[np.ndarray, " n"]]:
        """Pieces of some rows, one row after another, and where those of each begin."""
        begins, ends = self._arrays["row_offsets"][rows], self._arrays["row_offsets"][rows + 1]
        counts = ends - begins
        firsts = np.cumsum(counts) - counts
        pieces = np.arange(counts.sum(), dtype=np.int64) + np.repeat(begins - firsts, counts)
        return pieces, firsts

    def number(self, document: int) -> int:
        """Place in the shards of a document of the index."""
        return int(self._arrays["numbers"][document])

    def id(self, document: int) -> str:
        """Id of a document of the index."""
        start, stop = self._arrays["id_offsets"][document : document + 2]
        return self._arrays["ids"][start:stop].tobytes().decode("utf-8")

    def find(self, document_id: str) -> list[int]:
        """Documents of the index with an id: one, or none if it is not there or left out."""
        wanted = np.frombuffer(document_id.encode("utf-8"), dtype=np.uint8)
        ids, offsets = self._arrays["ids"], self._arrays["id_offsets"]
        found: list[int] = []
        for start in range(0, len(offsets) - 1 if len(wanted) else 0, _SEARCHED_TOGETHER):
            bounds = np.asarray(offsets[start : start + _SEARCHED_TOGETHER + 1])
            left = np.flatnonzero(np.diff(bounds) == len(wanted))
            for place in reversed(range(len(wanted))):  # the ends of ids differ most
                left = left[ids[bounds[left] + place] == wanted[place]]
                if not len(left):
                    break
            found += (left + start).tolist()
        return found

    def documents(self, row: int) -> list[int]:
        """Documents of the index of which a row holds something, in order."""
        pieces = slice(*self._arrays["row_offsets"][row : row + 2])
        numbers: list[int] = self._arrays["piece_documents"][pieces].tolist()
        return list(dict.fromkeys(numbers))

    def rows_of(self, document: int) -> list[int]:
        """Rows that hold something of a document of the index, in order."""
        pieces = np.arange(
            *np.searchsorted(self._arrays["piece_documents"], [document, document + 1])
        )
        rows = np.searchsorted(self._arrays["row_offsets"], pieces, side="right") - 1
        numbers: list[int] = np.unique(rows).tolist()
        return numbers

    def row(self, row: int) -> Row:
        """The tokens of a row, and which pictures stand in it."""
        pieces = slice(*self._arrays["row_offsets"][row : row + 2])
        documents = self._arrays["piece_documents"][pieces].tolist()
        starts = self._arrays["piece_starts"][pieces].tolist()
        stops = self._arrays["piece_stops"][pieces].tolist()
        parts = [self._tokens[start:stop] for start, stop in zip(starts, stops, strict=True)]
        lengths = [len(part) for part in parts]
        if self.key.rows.packing == "full-sentence":
            parts.insert(0, np.array([self._bos_id], dtype=np.uint32))
            lengths[0] += 1
        tokens = np.concatenate(parts)
        images = [
            (document, image)
            for document, (first, last) in zip(
                documents, self._arrays["piece_images"][pieces].tolist(), strict=True
            )
            for image in range(first, last)
        ]
        return Row(
            token_ids=(tokens & ID_BITS).astype(np.int64),
            image_slots=(tokens & SLOT_BIT) > 0,
            loss_mask=(tokens & LOSS_BIT) > 0,
            segments=np.repeat(np.arange(len(lengths), dtype=np.int64), lengths),
            documents=tuple(documents),
            images=tuple(images),
        )


def _map_array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    return array


def _damaged(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: expected a file of an index, found {found}",
        hint=f"delete {path.parent} and it is made again",
    )
