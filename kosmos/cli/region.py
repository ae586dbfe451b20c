"""``--box``: a region of a picture that a question is about, in pixels of the picture as it is."""

import math
from typing import TYPE_CHECKING, TypeAlias

import click

from kosmos.boxes import Box
from kosmos.document.types import Document, Grounded, Text
from kosmos.errors import DataError
from kosmos.generate.request_file import Entry
from kosmos.image.codec import image_size
from kosmos.text.vocabulary import GROUNDING, PHRASE, PHRASE_END

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator

Corners: TypeAlias = tuple[float, float, float, float]

EXPRESSION = f"{PHRASE}It{PHRASE_END} is"
"""What the papers ask of a region; the answer completes the sentence."""


def ask_about(corners: Corners, words: str, engine: "Generator", entry: Entry) -> Document:
    """A prompt about a region of the last picture.

    Args:
        corners: Of the region, in pixels.
        words: The prompt, with a phrase that is what lies there.
        engine: Who is asked.
        entry: With at least one picture.

    Raises:
        DataError: If the region does not lie in the picture, or not in what the model sees of it.
    """
    width, height = image_size(entry.images[-1])
    x0, y0, x1, y1 = corners
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise DataError(
            f"--box: expected x0 < x1 and y0 < y1 in the {width} x {height} pixels of "
            f"{entry.names[-1]}, found {', '.join(f'{corner:g}' for corner in corners)}"
        )
    before, _, rest = words.partition(PHRASE)
    phrase, _, after = rest.partition(PHRASE_END)
    box = Box.from_pixels(*corners, width=width, height=height)
    doc = entry.document(
        Text(GROUNDING + before.removeprefix(GROUNDING)), Grounded(phrase, [box]), Text(after)
    )
    if engine.encode(doc).num_dropped_boxes:
        raise DataError(
            f"--box: expected a region that the model sees, found one outside of the middle of "
            f"{entry.names[-1]}, which is all that it looks at"
        )
    return doc


def _corners(ctx: click.Context, param: click.Parameter, value: str | None) -> Corners | None:
    if value is None:
        return None
    try:
        x0, y0, x1, y1 = map(float, value.split(","))
    except ValueError:
        x0 = y0 = x1 = y1 = math.nan
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise click.BadParameter(f"expected four numbers, found {value!r}", ctx, param)
    return x0, y0, x1, y1


box_option = click.option(
    "--box",
    "corners",
    metavar="X0,Y0,X1,Y1",
    callback=_corners,
    help="Ask about what lies there, in pixels of the picture as it is; a question says what it is "
    "in <phrase>...</phrase>.",
)
"""``--box``, given as ``corners``."""
