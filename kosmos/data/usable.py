"""Whether a document can be trained on, and under which name it is left out if it cannot.

- *unreadable image*: a picture does not decode
- *cannot be encoded*: boxes outside their image, markup that does not parse, location tokens that
  were written for another grid or another crop, no words
- *too long*: more tokens than a row; in full-sentence rows a line with pictures, which is not cut
- *nothing to learn*: loss falls on no token

Indexing before a run and `kosmos data check` before that ask here, so that one finds what the
other would refuse.
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int64

from kosmos.data.config import Packing
from kosmos.document.encode import Encoded, encode
from kosmos.document.layout import Layout
from kosmos.document.types import Document
from kosmos.errors import DataError, ImageError, MarkupError
from kosmos.image.codec import decode
from kosmos.image.config import ImageConfig
from kosmos.text.tokenizer import Tokenizer

Reason: TypeAlias = Literal["unreadable image", "cannot be encoded", "too long", "nothing to learn"]


class Objection(NamedTuple):
    """Why a document is of no use."""

    reason: Reason
    message: str


def encode_usable(
    doc: Document,
    tokenizer: Tokenizer,
    *,
    layout: Layout,
    image: ImageConfig,
    packing: Packing,
    max_tokens: int,
    decode_images: bool = True,
) -> Encoded | Objection:
    """The document as tokens, or why it cannot be trained on.

    Args:
        doc: The document.
        tokenizer: Words to ids.
        layout: Layout of tokens.
        image: Preprocessing of pictures.
        packing: How documents fill rows.
        max_tokens: Longest row.
        decode_images: Whether pictures are decoded, every pixel, or only their headers read.
    """
    if layout.ground and (other := _other_places(doc, tokenizer.vocabulary.num_cells, image)):
        return Objection("cannot be encoded", f"document {doc.id!r}: {other}")
    try:
        encoded = encode(doc, tokenizer, layout=layout, image=image, complete=True)
        for place, picture in enumerate(doc.images if decode_images else ()):
            where = f"document {doc.id!r}, image {place}"
            decode(picture.source, max_pixels=image.max_pixels, where=where)
    except ImageError as error:
        return Objection("unreadable image", str(error))
    except (DataError, MarkupError) as error:
        return Objection("cannot be encoded", str(error))
    ends = line_ends(encoded, tokenizer)
    longest = _longest(encoded, ends) if packing == "full-sentence" else len(encoded)
    if longest > max_tokens:
        return Objection("too long", f"expected at most {max_tokens} tokens, found {longest}")
    if not encoded.loss_mask[1:].any():
        return Objection("nothing to learn", "expected loss on some token, found it on none")
    return encoded


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


def line_ends(encoded: Encoded, tokenizer: Tokenizer) -> Int64[np.ndarray, " lines"]:
    """Past each ``</line>`` of a document."""
    return np.flatnonzero(encoded.token_ids == tokenizer.vocabulary.line_end_id) + 1


def _longest(encoded: Encoded, ends: Int64[np.ndarray, " lines"]) -> int:
    """Tokens of the longest line with pictures, with ``<s>``; other lines may be cut."""
    if not encoded.images:
        return 0
    starts = np.concatenate([[1], ends])
    lengths = np.diff(np.append(starts, len(encoded)))
    slots = np.add.reduceat(np.append(encoded.image_slots, False), starts)
    return 1 + int(lengths[slots > 0].max(initial=0))
