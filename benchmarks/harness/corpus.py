"""Documents of random ids in the papers' shapes, and our batches of them.

- :func:`texts`, :func:`captions`, :func:`pages`: documents, in the order in which they come
- :func:`full_row`: a row of text that is full
- :func:`pictures_of`: noise for every picture of some documents
- :func:`rows_of`: documents side by side in isolated rows
- :func:`batches_of`: rows to micro-batches, as the loader makes them

No value changes what there is to do, so nothing is read: ids, pictures and lengths are drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from kosmos.data.batch import Batch, collate
from kosmos.data.index import Row
from kosmos.data.packing import micro_batches, pack

PAD, BOS, EOS = 1, 0, 2
_FIRST_PIECE = 8
Pictures: TypeAlias = Mapping[tuple[int, int], np.ndarray]
"""Pixels by number of the document and number within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What documents are made for."""

    vocab_size: int
    """Ids are below it."""
    num_slots: int
    """Soft tokens of a picture."""
    image_size: int
    """Pixels along each side of a picture."""
    max_tokens: int
    """Longest document, and longest row."""


def texts(
    rng: np.random.Generator, shape: Shape, num_tokens: int, mean: float = 600.0
) -> list[Row]:
    """Texts, many short and few long, until there are enough tokens.

    Args:
        rng: Where lengths and ids come from.
        shape: What they are for.
        num_tokens: At least so many in all; the last text is cut to give no more.
        mean: About how many in one, before the longest are cut.
    """

    def draw() -> list[int | None]:
        # the mean of exp(N(m, 0.9)) is exp(m + 0.405)
        length = int(rng.lognormal(np.log(mean) - 0.405, 0.9))
        return [int(np.clip(length, 8, shape.max_tokens - 2))]

    return _documents(rng, shape, num_tokens, draw)


def captions(rng: np.random.Generator, shape: Shape, num_tokens: int) -> list[Row]:
    """A picture and about fourteen tokens each, as in KOSMOS-1 (500K tokens of 6,144 captions)."""
    return _documents(rng, shape, num_tokens, lambda: [None, int(rng.integers(6, 24))])


def pages(rng: np.random.Generator, shape: Shape, num_tokens: int) -> list[Row]:
    """Texts with one to five pictures in them."""

    def draw() -> list[int | None]:
        parts: list[int | None] = []
        for _ in range(int(rng.integers(1, 6))):
            parts += [int(rng.integers(10, 120)), None]
        return [*parts, int(rng.integers(10, 120))]

    return _documents(rng, shape, num_tokens, draw)


def _documents(
    rng: np.random.Generator,
    shape: Shape,
    num_tokens: int,
    draw: Callable[[], list[int | None]],
) -> list[Row]:
    """Documents of parts: numbers of tokens, and None where a picture stands."""
    found: list[Row] = []
    left = num_tokens
    while left > 0:
        row = _document(rng, shape, draw(), number=len(found))
        found.append(row)
        left -= len(row.token_ids)
    return found


def _document(
    rng: np.random.Generator, shape: Shape, parts: Sequence[int | None], *, number: int
) -> Row:
    slots, counts, images = [False], [False], []
    for part in parts:
        left = shape.max_tokens - 1 - len(slots)
        if part is not None:
            slots += [False] * min(part, left)
            counts += [True] * min(part, left)
        elif shape.num_slots + 2 <= left:
            images.append((number, len(images)))
            slots += [False, *[True] * shape.num_slots, False]
            counts += [False] * (shape.num_slots + 2)
    slots, counts = [*slots, False], [*counts, True]
    ids = rng.integers(_FIRST_PIECE, shape.vocab_size, len(slots))
    ids[0], ids[-1] = BOS, EOS
    return Row(
        token_ids=ids,
        image_slots=np.array(slots),
        loss_mask=np.array(counts),
        segments=np.zeros(len(slots), dtype=np.int64),
        documents=(number,),
        images=tuple(images),
    )


def full_row(rng: np.random.Generator, shape: Shape) -> Row:
    """A row of text without padding, in which every token counts."""
    row = _document(rng, shape, [shape.max_tokens], number=0)
    assert len(row.token_ids) == shape.max_tokens
    return row


def rows_of(documents: Sequence[Row], max_tokens: int) -> list[Row]:
    """Documents side by side in rows, none of which sees another."""
    lengths = [len(document.token_ids) for document in documents]
    offsets = np.cumsum([0, *lengths])
    none = np.empty(0, dtype=np.int64)
    bounds = pack(offsets, none, packing="isolated", max_tokens=max_tokens).offsets.tolist()
    return [_side_by_side(documents[start:stop]) for start, stop in pairwise(bounds)]


def _side_by_side(documents: Sequence[Row]) -> Row:
    lengths = [len(document.token_ids) for document in documents]
    return Row(
        token_ids=np.concatenate([document.token_ids for document in documents]),
        image_slots=np.concatenate([document.image_slots for document in documents]),
        loss_mask=np.concatenate([document.loss_mask for document in documents]),
        segments=np.repeat(np.arange(len(documents)), lengths),
        documents=tuple(number for document in documents for number in document.documents),
        images=tuple(image for document in documents for image in document.images),
    )


def pictures_of(documents: Sequence[Row], shape: Shape, rng: np.random.Generator) -> Pictures:
    """Noise for every picture of some documents."""
    size = (3, shape.image_size, shape.image_size)
    return {
        image: rng.standard_normal(size, dtype=np.float32)
        for document in documents
        for image in document.images
    }


def batches_of(
    rows: Sequence[Row], pictures: Pictures, *, stream: str, isolated: bool, max_tokens: int
) -> list[Batch]:
    """Rows in micro-batches of similar length.

    Args:
        rows: Of one stream.
        pictures: Those of its documents.
        stream: Its name.
        isolated: Whether documents of a row see each other not.
        max_tokens: Most positions of a micro-batch, padding included.
    """
    lengths = np.array([len(row.token_ids) for row in rows])
    batches = []
    for group in micro_batches(lengths - 1, max_tokens):
        chosen = [rows[number] for number in group]
        pixels = [pictures[image] for row in chosen for image in row.images]
        batches.append(
            collate(
                chosen,
                stream=stream,
                document_ids=tuple(str(number) for row in chosen for number in row.documents),
                pixels=np.stack(pixels) if pixels else None,
                isolated=isolated,
                pad_id=PAD,
            )
        )
    return batches
