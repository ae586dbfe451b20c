"""Boxes and their phrases drawn on a picture, for people.

Places are labels.py's. Every line has a dark rim so that it shows on any background. Words are set
in a font of fonts.py; svg.py leaves that to who shows it.
"""

from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw
from PIL.Image import Resampling

from kosmos.boxes import Box
from kosmos.image.labels import INK, Frame, Label, Mark, lay_out


def draw_boxes(
    image: PIL.Image.Image,
    marks: Sequence[Mark | tuple[Box, str] | tuple[Box, str, str | None]],
    *,
    min_side: int = 384,
) -> PIL.Image.Image:
    """A copy of the picture with labelled boxes.

    Args:
        image: The picture.
        marks: Boxes, each with a label and perhaps a color.
        min_side: A picture whose shorter side is below this is enlarged to reach it, by a whole
            factor and without smoothing, so that its pixels stay what they are.

    Returns:
        An RGB picture.

    Raises:
        DataError: If a corner of a box is not finite.
    """
    scene = lay_out(image.size, marks, min_side=min_side)
    canvas = image.convert("RGB").resize(scene.size, Resampling.NEAREST)
    draw = PIL.ImageDraw.Draw(canvas)
    for frame in scene.frames:
        _draw_frame(draw, frame, scene.line_px)
    for frame in scene.frames:
        if frame.label is not None:
            _draw_label(draw, frame.label, frame.color)
    return canvas


def _draw_frame(draw: PIL.ImageDraw.ImageDraw, frame: Frame, line_px: int) -> None:
    """A colored frame on the box's edge with a dark rim on both sides."""
    outer = frame.rim
    draw.rectangle(outer, outline=INK, width=line_px + 2)
    inner = (outer[0] + 1, outer[1] + 1, outer[2] - 1, outer[3] - 1)
    if inner[0] <= inner[2] and inner[1] <= inner[3]:
        draw.rectangle(inner, outline=frame.color, width=line_px)


def _draw_label(draw: PIL.ImageDraw.ImageDraw, label: Label, color: str) -> None:
    left, top, right, bottom = label.place
    plate = (left, top, right - 1, bottom - 1)
    draw.rounded_rectangle(plate, label.radius, fill=color, outline=INK)
    font = label.face.at(label.font_px)
    for line in label.lines:
        words = label.face.painted(line.text)
        draw.text((label.left, line.baseline), words, label.ink, font, anchor="ls")
