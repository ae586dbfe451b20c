"""Canvas: a picture of a few kinds of shapes, painted as pixels or written as SVG.

Shapes are laid out once, in units that are pixels at scale 1; both ways show the same places. Words
are measured and painted in a font of fonts.py; SVG writes what is said.
"""

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import PIL.Image
import PIL.ImageDraw
from PIL.Image import Resampling

from kosmos.image.codec import encode_png
from kosmos.image.fonts import face_for
from kosmos.image.svg import FONT_SCALE, FONTS, xml_attribute, xml_text

SCALE = 2
"""Pixels of a unit along each side, unless one asks for more."""


class TextRun(NamedTuple):
    """Words of one color."""

    text: str
    color: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """An area; what it stands for is shown where the pointer rests on it, in SVG."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    radius: float = 0.0
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polygon:
    """An area between points."""

    points: tuple[tuple[float, float], ...]
    fill: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Words on one line, run after run."""

    x: float
    y: float
    """Baseline."""
    size: float
    runs: tuple[TextRun, ...]
    anchor: Literal["start", "middle", "end"] = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """Pixels, stretched to a place."""

    x: float
    y: float
    width: float
    height: float
    image: PIL.Image.Image
    smooth: bool
    """Whether pixels are blended where they are not a pixel of the picture each."""
    title: str = ""


Shape = Rectangle | Polygon | Words | Bitmap


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """Shapes, the first at the bottom."""

    width: float
    height: float
    background: str
    shapes: tuple[Shape, ...]

    def to_image(self, *, scale: int = SCALE) -> PIL.Image.Image:
        """Paint it.

        Args:
            scale: Pixels of a unit along each side.
        """
        size = (math.ceil(self.width * scale), math.ceil(self.height * scale))
        image = PIL.Image.new("RGB", size, self.background)
        draw = PIL.ImageDraw.Draw(image)
        for shape in self.shapes:
            _paint(image, draw, shape, scale)
        return image

    def to_svg(self, *, title: str) -> str:
        """Write it as an SVG document.

        Args:
            title: What it is, for those who do not see it.
        """
        head = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'role="img" width="{self.width:g}" height="{self.height:g}" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="{FONTS}">'
        )
        ground = f'<rect width="100%" height="100%" fill={xml_attribute(self.background)}/>'
        lines = [head, f"<title>{xml_text(title)}</title>", ground]
        for shape in self.shapes:
            lines += _write(shape)
        return "\n".join([*lines, "</svg>", ""])


def words_width(text: str, size: float) -> float:
    """Width of words in units.

    Args:
        text: On one line.
        size: Of the font, in units.
    """
    # at the size of painting, since Pillow rounds what a letter takes to whole pixels
    face = face_for(text)
    return face.at(size * SCALE).getlength(face.painted(text)) / SCALE


def shortened(text: str, size: float, width: float) -> str:
    """Words that fit into a width, with an ellipsis where they had to be cut."""
    if words_width(text, size) <= width:
        return text
    while text and words_width(text + "\u2026", size) > width:
        text = text[:-1]
    return text + "\u2026"


def _paint(image: PIL.Image.Image, draw: PIL.ImageDraw.ImageDraw, shape: Shape, scale: int) -> None:
    if isinstance(shape, Words):
        total = sum(words_width(run.text, shape.size) for run in shape.runs)
        x = shape.x - total * {"start": 0.0, "middle": 0.5, "end": 1.0}[shape.anchor]
        for run in shape.runs:
            face = face_for(run.text)
            start, font = (x * scale, shape.y * scale), face.at(shape.size * scale)
            draw.text(start, face.painted(run.text), run.color, font, anchor="ls")
            x += words_width(run.text, shape.size)
        return
    if isinstance(shape, Polygon):
        draw.polygon([(x * scale, y * scale) for x, y in shape.points], fill=shape.fill)
        return
    left, top = round(shape.x * scale), round(shape.y * scale)
    # never nothing: what is thinner than a pixel is still there
    right = max(round((shape.x + shape.width) * scale), left + 1)
    bottom = max(round((shape.y + shape.height) * scale), top + 1)
    if isinstance(shape, Rectangle):
        place = (left, top, right - 1, bottom - 1)
        draw.rounded_rectangle(place, shape.radius * scale, fill=shape.fill)
        return
    resampling = Resampling.NEAREST
    if shape.smooth:
        is_smaller = shape.image.width > right - left
        resampling = Resampling.BOX if is_smaller else Resampling.BICUBIC
    image.paste(shape.image.resize((right - left, bottom - top), resampling), (left, top))


def _write(shape: Shape) -> Iterator[str]:
    if isinstance(shape, Words):
        spans = "".join(
            f"<tspan fill={xml_attribute(run.color)}>{xml_text(run.text)}</tspan>"
            for run in shape.runs
        )
        yield (
            f'<text x="{shape.x:.2f}" y="{shape.y:.2f}" font-size="{shape.size * FONT_SCALE:.2f}" '
            f'text-anchor="{shape.anchor}" xml:space="preserve">{spans}</text>'
        )
    elif isinstance(shape, Polygon):
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
        yield f'<polygon points="{points}" fill={xml_attribute(shape.fill)}/>'
    else:
        place = (
            f'x="{shape.x:.2f}" y="{shape.y:.2f}" width="{shape.width:.2f}" '
            f'height="{shape.height:.2f}"'
        )
        title = f"<title>{xml_text(shape.title)}</title>" if shape.title else ""
        if isinstance(shape, Rectangle):
            look = f'rx="{shape.radius:g}" fill={xml_attribute(shape.fill)}'
            yield f"<rect {place} {look}>{title}</rect>"
        else:
            rendering = "" if shape.smooth else ' image-rendering="pixelated"'
            yield (
                f'<image {place} preserveAspectRatio="none"{rendering} '
                f"xlink:href={xml_attribute(_data_uri(shape.image))}>{title}</image>"
            )


def _data_uri(image: PIL.Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode('ascii')}"


def merged(runs: Sequence[TextRun]) -> tuple[TextRun, ...]:
    """Runs of which no two neighbors have one color, and none is empty."""
    joined: list[TextRun] = []
    for run in runs:
        if joined and joined[-1].color == run.color:
            joined[-1] = TextRun(joined[-1].text + run.text, run.color)
        elif run.text:
            joined.append(run)
    return tuple(joined)
