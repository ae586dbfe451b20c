"""A canvas painted and written: the same shapes at the same places."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import PIL.Image
import pytest

from kosmos.image.canvas import (
    Bitmap,
    Canvas,
    Polygon,
    Rectangle,
    TextRun,
    Words,
    merged,
    shortened,
    words_width,
)

SVG = "{http://www.w3.org/2000/svg}"
CHECKS = PIL.Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8))
CANVAS = Canvas(
    width=40,
    height=30,
    background="#fbfaf6",
    shapes=(
        Rectangle(x=2, y=3, width=10, height=5, fill="#ff0000", title="a <red> one"),
        Polygon(points=((20, 0), (30, 0), (30, 10), (20, 10)), fill="#00ff00"),
        Bitmap(x=2, y=20, width=8, height=4, image=CHECKS, smooth=False),
        Words(x=20, y=24, size=8, runs=(TextRun("ab", "#000000"), TextRun("\x00é", "#0000ff"))),
    ),
)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_shapes_are_painted_where_they_lie(scale: int) -> None:
    image = CANVAS.to_image(scale=scale)
    assert image.size == (40 * scale, 30 * scale)

    def at(x: float, y: float) -> tuple[int, ...]:
        return image.getpixel((int(x * scale), int(y * scale)))

    assert at(0, 0) == (251, 250, 246)
    assert at(2, 3) == at(11.9, 7.9) == (255, 0, 0)
    assert at(12.1, 5) == at(5, 8.1) == (251, 250, 246)
    assert at(25, 5) == (0, 255, 0)
    assert at(3, 21) == (0, 0, 0)
    assert at(9, 23) == (255, 255, 255)


def test_words_are_painted_in_their_colors_one_run_after_the_other() -> None:
    pixels = np.asarray(CANVAS.to_image(scale=4)).astype(int)
    dark = np.argwhere(pixels[60:100, 80:].sum(-1) < 100)
    blue = np.argwhere((pixels[60:100, 80:, 2] > 200) & (pixels[60:100, 80:, 0] < 60))
    assert dark[:, 1].max() < blue[:, 1].min()


def test_svg_is_well_formed_whatever_is_said_and_has_every_shape() -> None:
    root = ET.fromstring(CANVAS.to_svg(title="a & b"))
    assert root.find(f"{SVG}title").text == "a & b"
    ground, rectangle = root.findall(f"{SVG}rect")
    assert ground.get("fill") == "#fbfaf6"
    assert [float(rectangle.get(n)) for n in ("x", "y", "width", "height")] == [2, 3, 10, 5]
    assert rectangle.find(f"{SVG}title").text == "a <red> one"
    assert root.find(f"{SVG}polygon").get("points").startswith("20.00,0.00 30.00,0.00")
    spans = root.findall(f"{SVG}text/{SVG}tspan")
    assert [(span.text, span.get("fill")) for span in spans] == [
        ("ab", "#000000"),
        ("\ufffdé", "#0000ff"),
    ]
    href = root.find(f"{SVG}image").get("{http://www.w3.org/1999/xlink}href")
    inside = PIL.Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2])))
    assert np.array_equal(np.asarray(inside), np.asarray(CHECKS))
    assert root.find(f"{SVG}image").get("image-rendering") == "pixelated"


def test_what_is_thinner_than_a_pixel_is_painted_all_the_same() -> None:
    line = Rectangle(x=5, y=0, width=0.1, height=10, fill="#000000")
    canvas = Canvas(width=10, height=10, background="#ffffff", shapes=(line,))
    assert canvas.to_image(scale=1).getpixel((5, 5)) == (0, 0, 0)


def test_words_are_shortened_to_what_fits() -> None:
    assert shortened("short", 10, 100) == "short"
    cut = shortened("a very long name of a document", 10, 60)
    assert cut.endswith("\u2026")
    assert 40 < words_width(cut, 10) <= 60
    assert words_width("\u201cno\u201d \u2013 1 \u00d7 2\u2026", 10) == words_width(
        '"no" - 1 x 2\u2026', 10
    )


def test_neighbors_of_one_color_are_one_run() -> None:
    runs = [TextRun("a", "x"), TextRun("b", "x"), TextRun("", "y"), TextRun("c", "z")]
    assert merged(runs) == (TextRun("ab", "x"), TextRun("c", "z"))
