"""Where boxes and their labels go on a picture, for those who paint them: draw.py and svg.py.

Legible before pretty: small pictures are enlarged by a whole factor. A label is wrapped and, if it
must be, set smaller, never cut off by an edge, and kept off the other labels while there is room;
one that would fill more than the whole picture ends in an ellipsis. Widths are those of fonts.py:
of words in ASCII the same on every machine.

- :class:`Mark`: what to draw
- :func:`lay_out`, :class:`Scene`: where it goes
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

import PIL.ImageColor

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.image.fonts import Face, face_for

PALETTE = (
    "#ff5a5f",
    "#2ec4b6",
    "#ffb703",
    "#5b8def",
    "#c77dff",
    "#80d651",
    "#ff8fab",
    "#4cc9f0",
    "#f28e2b",
    "#d4c5a9",
)
"""Colors of the first ten different labels; then they repeat."""

INK = "#111318"
"""Rims, and words on bright labels."""

_SMALLEST_FONT_PX = 9
_LONGEST_ENLARGED_PX = 4096

Rectangle: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the canvas."""


class Mark(NamedTuple):
    """A box to draw.

    Args:
        box: Fractions of the picture; corners in any order, parts outside are cut.
        label: The phrase; empty for a bare box.
        color: Anything Pillow reads, ``"#ff5a5f"``; None picks one from the palette, the same for
            equal labels.
    """

    box: Box
    label: str = ""
    color: str | None = None


class Line(NamedTuple):
    """Words of a label in one line."""

    text: str
    baseline: int
    """Pixels from the top of the canvas."""


class Label(NamedTuple):
    """Words on a plate."""

    place: Rectangle
    """The plate; its right and bottom edges are exclusive."""
    radius: int
    """Of its corners."""
    lines: tuple[Line, ...]
    left: int
    """Where lines begin."""
    face: Face
    font_px: int
    ink: str


class Frame(NamedTuple):
    """A box on the canvas."""

    rectangle: Rectangle
    """Its edge, in the middle of the line; inclusive."""
    rim: Rectangle
    """Outermost pixels of the line and its dark rim; an edge of the canvas does not swallow it."""
    color: str
    label: Label | None
    mark_index: int
    """Which mark it is."""


class Scene(NamedTuple):
    """Where everything goes on a canvas."""

    size: tuple[int, int]
    """Width and height of the canvas."""
    factor: int
    """How much larger it is than the picture."""
    line_px: int
    """Width of a frame's line, without its rims of a pixel."""
    frames: tuple[Frame, ...]
    """In the order of painting, the largest first: a box inside another lies over it. Labels are
    painted behind all frames."""


def lay_out(
    size: tuple[int, int],
    marks: Sequence[Mark | tuple[Box, str] | tuple[Box, str, str | None]],
    *,
    min_side: int,
) -> Scene:
    """Find places for marks.

    Args:
        size: Width and height of the picture.
        marks: Boxes, each with a label and perhaps a color.
        min_side: A picture whose shorter side is below this is enlarged to reach it, by a whole
            factor.

    Raises:
        DataError: If a corner of a box is not finite.
    """
    factor = math.ceil(min_side / min(size))
    factor = max(1, min(factor, _LONGEST_ENLARGED_PX // max(size)))
    canvas = (size[0] * factor, size[1] * factor)
    named = [Mark(*mark) for mark in marks]
    colors = _colors(named)
    rectangles = [_rectangle(mark.box, canvas) for mark in named]
    line_px = max(2, round(min(canvas) / 160))
    frames: list[Frame] = []
    taken: list[Rectangle] = []
    for index in sorted(range(len(named)), key=lambda i: -_area(rectangles[i])):
        label = None
        if named[index].label.strip():
            tag = _Tag(named[index].label, canvas)
            label = tag.label(tag.place(index, rectangles, line_px, taken), colors[index])
            taken.append(label.place)
        rim = _rim(rectangles[index], line_px, canvas)
        frames.append(Frame(rectangles[index], rim, colors[index], label, index))
    return Scene(canvas, factor, line_px, tuple(frames))


class _Tag:
    """Words set in lines, and the places they could go."""

    def __init__(self, words: str, canvas: tuple[int, int]) -> None:
        self._canvas = canvas
        font_px = max(12, round(min(canvas) / 26))
        text = " ".join(words.split())
        self._face = face_for(text)
        while True:
            self._font_px = font_px
            self._font = self._face.at(font_px)
            self._pad = max(2, round(font_px * 0.3))
            lines = self._wrap(text, canvas[0] - 2 * self._pad)
            if self._height(lines) <= canvas[1] // 2 or font_px <= _SMALLEST_FONT_PX:
                break
            font_px = max(_SMALLEST_FONT_PX, round(font_px * 0.85))
        self._lines = self._cut(lines, canvas)
        self.height = self._height(self._lines)
        self.width = math.ceil(max(map(self._length, self._lines))) + 2 * self._pad

    def place(
        self, index: int, boxes: Sequence[Rectangle], line_px: int, taken: Sequence[Rectangle]
    ) -> Rectangle:
        """Where the tag covers least of the others; of equals above its box, then inside it."""
        x0, y0, x1, y1 = boxes[index]
        rim = line_px // 2 + 1
        above = y0 - self.height - rim + 1
        rows = [above, y0 + rim, y1 + rim, y1 - self.height - rim]
        rows += [row for other in taken for row in (other[1] - self.height, other[3])]
        columns = (x0 - rim, x1 + rim - self.width, (x0 + x1 - self.width) // 2)
        best, least = (0, 0, self.width, self.height), math.inf
        for (number, row), column in product(enumerate(rows), columns):
            left = min(max(column, 0), max(0, self._canvas[0] - self.width))
            top = min(max(row, 0), max(0, self._canvas[1] - self.height))
            place = (left, top, left + self.width, top + self.height)
            covered = sum(_overlap(place, other) for other in taken)
            hidden = sum(_overlap(place, box) > 0.8 * _area(box) for box in boxes)
            # being pushed in from an edge costs a little, a place stacked on another label what
            # it is away from the box, hiding a box more than any distance, and a label even more
            away = abs(row - above) if number >= 4 else 0
            cost = covered * 10_000 + hidden * 5_000 + abs(top - row) + abs(left - column) + away
            if cost < least:
                best, least = place, cost
        return best

    def label(self, place: Rectangle, color: str) -> Label:
        """The label at a place."""
        left, top = place[:2]
        first = top + self._pad + self._ascent
        lines = (
            Line(text, first + number * self._line_height)
            for number, text in enumerate(self._lines)
        )
        return Label(
            place=place,
            radius=max(2, self._pad),
            lines=tuple(lines),
            left=left + self._pad,
            face=self._face,
            font_px=self._font_px,
            ink=_ink_on(color),
        )

    @property
    def _ascent(self) -> int:
        return math.ceil(-self._font.getbbox("Ag", anchor="ls")[1])

    @property
    def _line_height(self) -> int:
        top, bottom = self._font.getbbox("Agpj|", anchor="ls")[1::2]
        return math.ceil(bottom - top)

    def _height(self, lines: Sequence[str]) -> int:
        return len(lines) * self._line_height + 2 * self._pad

    def _length(self, text: str) -> float:
        return self._font.getlength(self._face.painted(text))

    def _wrap(self, text: str, width: int) -> list[str]:
        """Lines no wider than that; words longer than a line are broken."""
        lines = [""]
        for word in text.split(" "):
            joined = f"{lines[-1]} {word}".strip()
            if self._length(joined) <= width:
                lines[-1] = joined
                continue
            lines.append("")
            for character in word:
                if lines[-1] and self._length(lines[-1] + character) > width:
                    lines.append("")
                lines[-1] += character
        return [line for line in lines if line]

    def _cut(self, lines: list[str], canvas: tuple[int, int]) -> list[str]:
        """What the picture has room for, the rest an ellipsis."""
        room = max(1, (canvas[1] - 2 * self._pad) // self._line_height)
        if len(lines) <= room:
            return lines
        last = lines[room - 1]
        while last and self._length(last + "...") > canvas[0] - 2 * self._pad:
            last = last[:-1]
        return [*lines[: room - 1], last + "..."]


def _rim(rectangle: Rectangle, line_px: int, canvas: tuple[int, int]) -> Rectangle:
    x0, y0, x1, y1 = rectangle
    beyond = line_px // 2 + 1
    return (
        max(x0 - beyond, 0),
        max(y0 - beyond, 0),
        min(x1 + beyond, canvas[0] - 1),
        min(y1 + beyond, canvas[1] - 1),
    )


def _rectangle(box: Box, size: tuple[int, int]) -> Rectangle:
    """The box in pixels of the canvas, ordered and inside it."""
    if not all(map(math.isfinite, (box.x0, box.y0, box.x1, box.y1))):
        raise DataError(f"marks: expected finite box corners, found {box}")
    # clipped corner by corner, so that a box in the wrong order is not emptied
    xs, ys = (
        [min(max(v, 0.0), 1.0) for v in pair] for pair in ((box.x0, box.x1), (box.y0, box.y1))
    )
    x0, x1 = sorted(min(round(x * size[0]), size[0] - 1) for x in xs)
    y0, y1 = sorted(min(round(y * size[1]), size[1] - 1) for y in ys)
    return x0, y0, x1, y1


def _colors(marks: Sequence[Mark]) -> list[str]:
    """A color for each mark; equal labels share theirs, bare boxes each have one."""
    by_label: dict[str, str] = {}
    colors = []
    for index, mark in enumerate(marks):
        label = mark.label.strip() or f"\0{index}"
        by_label.setdefault(label, PALETTE[len(by_label) % len(PALETTE)])
        colors.append(mark.color or by_label[label])
    return colors


def _ink_on(color: str) -> str:
    """Black or white, whichever contrasts more, by WCAG's relative luminance."""
    red, green, blue = (_linear(v / 255) for v in PIL.ImageColor.getrgb(color)[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return INK if luminance > 0.18 else "#ffffff"


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _area(rectangle: Rectangle) -> int:
    return (rectangle[2] - rectangle[0]) * (rectangle[3] - rectangle[1])


def _overlap(a: Rectangle, b: Rectangle) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)
