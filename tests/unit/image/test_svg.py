"""Boxes as SVG: well formed whatever is said, with the places and colors of the PNG."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.errors import ConfigError, DataError
from kosmos.image.labels import PALETTE, Mark, lay_out
from kosmos.image.svg import svg_boxes
from tests.strategies import any_boxes

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
BLANK = PIL.Image.new("RGB", (400, 300), "#808080")


def embedded(root: ET.Element) -> PIL.Image.Image:
    """The picture inside."""
    href = root.find(f"{SVG}image").attrib[HREF]
    return PIL.Image.open(io.BytesIO(base64.b64decode(href.split(",")[1])))


def test_frames_and_labels_lie_where_the_png_has_them() -> None:
    marks = [Mark(Box(0.25, 0.5, 0.75, 0.9), "a dog"), Mark(Box(0.0, 0.0, 1.0, 1.0), "all")]
    scene = lay_out(BLANK.size, marks, min_side=384)
    root = ET.fromstring(svg_boxes(BLANK, marks))
    assert (int(root.get("width")), int(root.get("height"))) == scene.size == (800, 600)
    groups = root.findall(f"{SVG}g")
    assert [group.find(f"{SVG}title").text for group in groups] == ["all", "a dog"] * 2
    line = groups[1].findall(f"{SVG}rect")[1]
    x, y, width, height = (float(line.get(name)) for name in ("x", "y", "width", "height"))
    assert (x, y, x + width, y + height) == pytest.approx((200, 300, 600, 540), abs=1)
    assert line.get("stroke") == PALETTE[0]
    plate = groups[3].find(f"{SVG}rect")
    assert float(plate.get("x")) == scene.frames[1].label.place[0] + 0.5
    assert plate.get("fill") == PALETTE[0]
    assert [text.text for text in groups[3].findall(f"{SVG}text")] == ["a dog"]


def test_a_frame_at_the_border_is_not_cut() -> None:
    root = ET.fromstring(svg_boxes(BLANK, [Mark(Box(0.0, 0.0, 1.0, 1.0))]))
    rim = root.find(f"{SVG}g/{SVG}rect")
    x, width, stroke = (float(rim.get(name)) for name in ("x", "width", "stroke-width"))
    assert x - stroke / 2 >= 0
    assert x + width + stroke / 2 <= 800


def test_the_picture_inside_is_the_picture() -> None:
    small = PIL.Image.fromarray(np.eye(64, dtype=np.uint8).repeat(3).reshape(64, 64, 3) * 200)
    found = embedded(ET.fromstring(svg_boxes(small, [])))
    assert found.format == "PNG"
    assert found.size == (384, 384)
    assert np.array_equal(np.asarray(found)[::6, ::6], np.asarray(small))
    rng = np.random.default_rng(0)
    photo = PIL.Image.fromarray(rng.integers(0, 256, (400, 500, 3), dtype=np.uint8))
    found = embedded(ET.fromstring(svg_boxes(photo, [])))
    assert found.format == "JPEG"
    assert found.size == (500, 400)


def test_a_picture_may_be_linked_to() -> None:
    root = ET.fromstring(svg_boxes(BLANK, [], href='a&b "c".jpg'))
    assert root.find(f"{SVG}image").attrib[HREF] == 'a&b "c".jpg'


def test_it_has_a_name_for_those_who_do_not_see_it() -> None:
    root = ET.fromstring(svg_boxes(BLANK, [Mark(Box(0, 0, 1, 1), "a")], title="a <dog>"))
    assert root.get("role") == "img"
    assert root[0].tag == f"{SVG}title"
    assert root[0].text == "a <dog>"
    said = svg_boxes(BLANK, [Mark(Box(0, 0, 1, 1), "a")], titles=["a, 41% sure"])
    assert "<title>a, 41% sure</title>" in said


@settings(max_examples=40)
@given(marks=st.lists(st.tuples(any_boxes(), st.text(max_size=20)), max_size=4), title=st.text())
def test_anything_a_model_says_makes_a_well_formed_document(
    marks: list[tuple[Box, str]], title: str
) -> None:
    said = svg_boxes(BLANK, marks, title=title, href="dog.jpg").encode("utf-8")
    groups = ET.fromstring(said).findall(f"{SVG}g")
    assert len(groups) == len(marks) + sum(bool(text.strip()) for _, text in marks)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        svg_boxes(BLANK, [Mark(Box(float("nan"), 0, 1, 1))])
    with pytest.raises(ConfigError, match="titles"):
        svg_boxes(BLANK, [], titles=["a"])
