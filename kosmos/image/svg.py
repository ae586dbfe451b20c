"""Boxes and their phrases on a picture as SVG: sharp at any size, its words can be read aloud.

The same places and colors as draw.py. One file holds all: the picture is in it, or linked to. Each
box is a group with a title, which browsers show as a tooltip and screen readers read.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import PIL.Image
from PIL.Image import Resampling

from kosmos.boxes import Box
from kosmos.errors import ConfigError
from kosmos.image.codec import encode_jpeg, encode_png
from kosmos.image.labels import INK, Frame, Label, Mark, Scene, lay_out

FONTS = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
"""Whichever of them the one who looks has."""
FONT_SCALE = 0.88
"""Letters of DejaVu Sans, the widest of the usual fonts, are 1.12 times as wide as those of
Pillow's, for which the plates are made. (``textLength`` would be exact, and many programs that
print or convert ignore it.)"""

# what XML 1.0 cannot hold, not even escaped
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg_boxes(
    image: PIL.Image.Image,
    marks: Sequence[Mark | tuple[Box, str] | tuple[Box, str, str | None]],
    *,
    title: str = "",
    titles: Sequence[str] | None = None,
    href: str | None = None,
    min_side: int = 384,
) -> str:
    """A picture with labelled boxes as an SVG document.

    Args:
        image: The picture.
        marks: Boxes, each with a label and perhaps a color.
        title: What the picture is, for those who do not see it.
        titles: What to say of each mark; None: its label.
        href: Address of the picture to link to, as seen from the SVG; None puts the picture
            itself in, as PNG, or as JPEG where that is less than half as large, as for photos; an
            enlarged one as PNG at its new size, since many programs would smooth it.
        min_side: As of :func:`~kosmos.image.draw.draw_boxes`; pixels stay squares.

    Raises:
        ConfigError: If there are not as many titles as marks.
        DataError: If a corner of a box is not finite.
    """
    named = [Mark(*mark) for mark in marks]
    said = [mark.label for mark in named] if titles is None else list(titles)
    if len(said) != len(named):
        raise ConfigError(f"titles: expected one for each of {len(named)} marks, found {len(said)}")
    scene = lay_out(image.size, named, min_side=min_side)
    width, height = scene.size
    source = _data_uri(image.convert("RGB"), scene) if href is None else href
    rendering = ' image-rendering="pixelated"' if scene.factor > 1 else ""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{xml_text(title or 'A picture with boxes')}</title>",
        # plain href is newer, and unknown to some programs that print
        f'<image width="{width}" height="{height}" preserveAspectRatio="none"{rendering} '
        f"xlink:href={xml_attribute(source)}/>",
    ]
    for frame in scene.frames:
        lines += [f"<g>{_title(said[frame.mark_index])}", *_frame(frame, scene.line_px), "</g>"]
    for frame in scene.frames:
        if frame.label is not None:
            lines += [
                f"<g>{_title(said[frame.mark_index])}",
                *_label(frame.label, frame.color),
                "</g>",
            ]
    return "\n".join([*lines, "</svg>", ""])


def _frame(frame: Frame, line_px: int) -> Iterator[str]:
    """The line with its rims: a dark one, and a colored one inside it."""
    left, top, right, bottom = frame.rim
    half = line_px / 2 + 1  # rims are inclusive pixels, their line lies inside them
    x, y = left + half, top + half
    wide, high = max(right + 1 - left - 2 * half, 0), max(bottom + 1 - top - 2 * half, 0)
    shape = f'x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" fill="none"'
    yield f'<rect {shape} stroke="{INK}" stroke-width="{line_px + 2}"/>'
    yield f'<rect {shape} stroke={xml_attribute(frame.color)} stroke-width="{line_px}"/>'


def _label(label: Label, color: str) -> Iterator[str]:
    left, top, right, bottom = label.place
    yield (
        f'<rect x="{left + 0.5:g}" y="{top + 0.5:g}" width="{right - left - 1}" '
        f'height="{bottom - top - 1}" rx="{label.radius}" fill={xml_attribute(color)} '
        f'stroke="{INK}"/>'
    )
    middle = (left + right) / 2
    for line in label.lines:
        # half of the height that the smaller letters lack, so that they stay in the middle
        baseline = line.baseline - 0.36 * label.font_px * (1 - FONT_SCALE)
        yield (
            f'<text x="{middle:g}" y="{baseline:.1f}" text-anchor="middle" font-family="{FONTS}" '
            f'font-size="{label.font_px * FONT_SCALE:.1f}" fill="{label.ink}">'
            f"{xml_text(line.text)}</text>"
        )


def _title(words: str) -> str:
    return f"<title>{xml_text(words)}</title>" if words.strip() else ""


def xml_text(words: str) -> str:
    """Words as XML can hold them."""
    return escape(_NOT_XML.sub("\ufffd", words))


def xml_attribute(value: str) -> str:
    """The same as the value of an attribute, with its quotes."""
    return quoteattr(_NOT_XML.sub("\ufffd", value))


def _data_uri(image: PIL.Image.Image, scene: Scene) -> str:
    kind, data = "png", encode_png(image.resize(scene.size, Resampling.NEAREST))
    if scene.factor == 1:
        photo = encode_jpeg(image)
        if len(photo) * 2 < len(data):
            kind, data = "jpeg", photo
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
