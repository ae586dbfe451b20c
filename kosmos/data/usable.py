"""Whether a document can be trained on, how much of it, and under which name it is left out.

- *unreadable image*: a picture does not decode
- *cannot be encoded*: boxes outside their image, markup that does not parse, location tokens that
  were written for another grid or another crop, no words
- *too long*: what a row could hold of it teaches nothing, or it has a picture larger than a row
- *nothing to learn*: loss falls on no token

A document longer than a row is cut and closed with ``</s>``; of full-sentence rows that is a
document with pictures in a line longer than a row, other lines are cut by the packing. Nothing is
torn apart by it: a picture stays whole, and a phrase with its boxes.

Indexing before a run and `kosmos data check` before that ask here, so that one finds what the
other would refuse.

Source: unilm's example of interleaved reading (a document that overflows while text is being added
is cut and closed). Departure: there one that overflows at a picture is dropped; here it ends before
the picture.
"""

from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int64

from kosmos.data.config import RowConfig
from kosmos.document.encode import Encoded, encode
from kosmos.document.types import Document
from kosmos.errors import DataError, ImageError, MarkupError
from kosmos.image.codec import decode
from kosmos.image.config import ImageConfig
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import Vocabulary

Reason: TypeAlias = Literal["unreadable image", "cannot be encoded", "too long", "nothing to learn"]


class Objection(NamedTuple):
    """Why a document is of no use."""

    reason: Reason
    message: str


class Usable(NamedTuple):
    """What of a document can be trained on."""

    encoded: Encoded
    """Its tokens, as many as a row holds."""
    line_ends: Int64[np.ndarray, " lines"]
    """Places of them at which a full-sentence row may end, before the last."""
    num_cut_tokens: int
    """Tokens that were cut off."""


def encode_usable(
    doc: Document, tokenizer: Tokenizer, rows: RowConfig, *, decode_images: bool = True
) -> Usable | Objection:
    """The document as tokens, or why it cannot be trained on.

    Args:
        doc: The document.
        tokenizer: Words to ids.
        rows: How documents become rows.
        decode_images: Whether pictures are decoded, every pixel, or only their headers read.
    """
    layout, image, vocabulary = rows.layout, rows.image, tokenizer.vocabulary
    if layout.ground and (other := _other_places(doc, vocabulary.num_cells, image)):
        return Objection("cannot be encoded", f"document {doc.id!r}: {other}")
    try:
        whole = encode(doc, tokenizer, layout=layout, image=image, complete=True)
        for place, picture in enumerate(doc.images if decode_images else ()):
            where = f"document {doc.id!r}, image {place}"
            decode(picture.source, max_pixels=image.max_pixels, where=where)
    except ImageError as error:
        return Objection("unreadable image", str(error))
    except (DataError, MarkupError) as error:
        return Objection("cannot be encoded", str(error))
    found = _fit(whole, vocabulary, rows)
    # behind a cut, </s> alone teaches nothing
    learned = found.loss_mask[1:-1] if found is not whole else found.loss_mask[1:]
    if learned.any():
        ends = _line_ends(found, vocabulary, rows)
        return Usable(found, ends, len(whole) - len(found))
    if found is not whole:
        return Objection(
            "too long",
            f"expected at most {rows.max_tokens} tokens, found {len(whole)} and nothing to learn "
            "in the first",
        )
    return Objection("nothing to learn", "expected loss on some token, found it on none")


def _other_places(doc: Document, num_cells: int, image: ImageConfig) -> str:
    """What the location tokens of a document were written for, if that is not what they will mean.

    Boxes are laid out for each run; tokens that an import or the microcosm wrote are as they are,
    and such documents say for which grid, and over which part of the picture.
    """
    found = doc.meta.get("num_cells")
    if num_cells and found not in (None, num_cells):
        return (
            f"expected location tokens of a grid of {num_cells} cells a side, found one of {found}"
        )
    geometry = doc.meta.get("geometry")
    if num_cells and geometry not in (None, image.geometry):
        return (
            f"expected location tokens over pictures of image.geometry={image.geometry}, found "
            f"{geometry}"
        )
    return ""


def _fit(encoded: Encoded, vocabulary: Vocabulary, rows: RowConfig) -> Encoded:
    """The document, cut and closed where it would not fit a row."""
    if rows.packing != "full-sentence":
        if len(encoded) <= rows.capacity:
            return encoded
        return _closed(encoded, _break(encoded, vocabulary, 1, rows.capacity - 1), vocabulary)
    start = 1
    for stop in (*_line_ends(encoded, vocabulary, rows).tolist(), len(encoded)):
        if stop - start > rows.capacity and encoded.image_slots[start:stop].any():
            last = _break(encoded, vocabulary, start, start + rows.capacity - 1)
            return _closed(encoded, last, vocabulary)
        start = stop
    return encoded


def _closed(encoded: Encoded, stop: int, vocabulary: Vocabulary) -> Encoded:
    """The tokens before one, and ``</s>``."""
    ids, slots = encoded.token_ids[:stop], encoded.image_slots[:stop]
    num_images = int(((ids == vocabulary.image_end_id) & ~slots).sum())
    return replace(
        encoded,
        token_ids=np.append(ids, vocabulary.eos_id),
        image_slots=np.append(slots, False),
        loss_mask=np.append(encoded.loss_mask[:stop], encoded.loss_mask[-1]),
        images=encoded.images[:num_images],
        image_sizes=encoded.image_sizes[:num_images],
    )


def _line_ends(
    encoded: Encoded, vocabulary: Vocabulary, rows: RowConfig
) -> Int64[np.ndarray, " lines"]:
    """Past each ``</line>``; and where a line that is carried on is taken apart."""
    ends: Int64[np.ndarray, " lines"]
    ends = np.flatnonzero(encoded.token_ids == vocabulary.line_end_id) + 1
    if rows.packing != "full-sentence" or rows.long_lines == "cut":
        return ends
    places, start = [], 1
    for stop in (*ends.tolist(), len(encoded)):
        while stop - start > rows.capacity:
            place = _break(encoded, vocabulary, start, start + rows.capacity)
            if place == start:  # a phrase longer than a row; a picture is for _fit to refuse
                if encoded.image_slots[start : start + rows.capacity].any():
                    break
                place += rows.capacity
            places.append(start := place)
        places.append(start := stop)
    return np.array(places[:-1], dtype=np.int64)


def _break(encoded: Encoded, vocabulary: Vocabulary, start: int, stop: int) -> int:
    """The last place up to one where tokens may be torn apart.

    ::

        <image> slots </image> | <grounding> a | <phrase> dog </phrase><object> .. </object> | .

    Args:
        encoded: The document.
        vocabulary: Which id is which token.
        start: A place where they may; nothing before it is looked at.
        stop: Where they had better be.
    """
    ids = encoded.token_ids
    closing = {vocabulary.image_id: vocabulary.image_end_id}
    if vocabulary.num_cells:
        closing[vocabulary.phrase_id] = vocabulary.phrase_end_id
        closing[vocabulary.object_id] = vocabulary.object_end_id
    marks = np.isin(ids[start:stop], [*closing, *closing.values()])
    opened, awaited = stop, -1
    for place in (start + np.flatnonzero(marks & ~encoded.image_slots[start:stop])).tolist():
        if opened == stop:
            opened, awaited = (place, closing[ids[place]]) if ids[place] in closing else (stop, -1)
        elif ids[place] == awaited:
            # boxes go with the phrase before them
            goes_on = vocabulary.num_cells > 0 and ids[place + 1] == vocabulary.object_id
            opened, awaited = (opened, vocabulary.object_end_id) if goes_on else (stop, -1)
    while vocabulary.num_cells and opened > start and ids[opened - 1] == vocabulary.grounding_id:
        opened -= 1
    return opened
