"""Drawn boxes: visible on any picture, labels whole and apart."""

import numpy as np
import PIL.Image
import PIL.ImageColor
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.image import labels
from kosmos.image.draw import draw_boxes
from kosmos.image.labels import PALETTE, Mark, Rectangle, lay_out
from tests.strategies import any_boxes


def blank(width: int, height: int, color: str = "#808080") -> PIL.Image.Image:
    return PIL.Image.new("RGB", (width, height), color)


def where(picture: PIL.Image.Image, color: str) -> tuple[int, int, int, int] | None:
    """Bounding box of a color, ends exclusive."""
    mask = (np.asarray(picture) == PIL.ImageColor.getrgb(color)).all(-1)
    return PIL.Image.fromarray(mask).getbbox()


def test_a_frame_lies_on_its_box() -> None:
    picture = draw_boxes(blank(400, 400), [Mark(Box(0.25, 0.5, 0.75, 0.9))])
    x0, y0, x1, y1 = where(picture, PALETTE[0])
    assert (x0, y0, x1, y1) == pytest.approx((100, 200, 300, 360), abs=2)
    assert picture.getpixel((200, 280)) == (128, 128, 128)


@pytest.mark.parametrize("color", ["#000000", "#ffffff", "#808080", *PALETTE])
def test_a_frame_shows_on_any_background(color: str) -> None:
    before = blank(400, 400, color)
    after = draw_boxes(before, [(Box(0.2, 0.2, 0.8, 0.8), "a dog")])
    assert where(after, PALETTE[0]) is not None
    difference = np.abs(np.asarray(after).astype(int) - np.asarray(before)).max(-1)
    row = difference[300]
    assert row.max() > 100  # the rim or the line stands out


def test_the_picture_given_is_left_as_it_was() -> None:
    picture = blank(400, 400)
    before = picture.tobytes()
    assert draw_boxes(picture, [(Box(0.0, 0.0, 1.0, 1.0), "all")]).tobytes() != before
    assert picture.tobytes() == before


def test_small_pictures_are_enlarged_by_a_whole_factor() -> None:
    picture = blank(64, 48)
    picture.putpixel((10, 7), (255, 0, 255))
    enlarged = draw_boxes(picture, [])
    assert enlarged.size == (64 * 8, 48 * 8)
    assert where(enlarged, "#ff00ff") == (80, 56, 88, 64)
    assert draw_boxes(picture, [], min_side=1).size == (64, 48)
    assert draw_boxes(blank(2000, 1), []).size == (4000, 2)


def test_equal_labels_share_a_color_and_others_do_not() -> None:
    marks = [
        Mark(Box(0.0, 0.0, 0.2, 0.2), "a dog"),
        Mark(Box(0.5, 0.5, 0.9, 0.9), "a cat"),
        Mark(Box(0.3, 0.0, 0.4, 0.2), "a dog "),
        Mark(Box(0.6, 0.0, 0.8, 0.2), "a bird", "#010203"),
    ]
    picture = draw_boxes(blank(500, 500), marks)
    assert where(picture, "#010203") is not None
    x0, _, x1, _ = where(picture, PALETTE[0])
    assert x0 < 5  # from the first dog
    assert x1 > 195  # to the second
    assert where(picture, PALETTE[2]) is None  # the given color did not push the palette on


def tags_of(
    size: tuple[int, int], marks: list[tuple[Box, str]]
) -> list[tuple[Rectangle, list[str]]]:
    """The place and lines of every label, as they are painted on a picture of that size."""
    scene = lay_out(size, marks, min_side=384)
    assert scene.size == draw_boxes(blank(*size), marks).size
    return [
        (frame.label.place, [line.text for line in frame.label.lines])
        for frame in scene.frames
        if frame.label is not None
    ]


@settings(max_examples=25)
@given(
    marks=st.lists(st.tuples(any_boxes(), st.text("abc gj W\u4e00", max_size=60)), max_size=5),
    size=st.tuples(st.integers(40, 200), st.integers(40, 200)),
)
def test_labels_are_whole_and_inside_whatever_the_box(
    marks: list[tuple[Box, str]], size: tuple[int, int]
) -> None:
    width, height = lay_out(size, [], min_side=384).size
    texts = []
    for (x0, y0, x1, y1), lines in tags_of(size, marks):
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        texts.append("".join(lines).replace(" ", ""))
    assert sorted(texts) == sorted(filter(None, (text.replace(" ", "") for _, text in marks)))


def test_labels_of_boxes_side_by_side_do_not_cover_each_other() -> None:
    marks = [(Box(0.4 + i / 50, 0.4, 0.6 + i / 50, 0.6), f"thing number {i}") for i in range(6)]
    places = [place for place, _ in tags_of((600, 400), marks)]
    assert len(places) == 6
    for i, a in enumerate(places):
        assert all(labels._overlap(a, b) == 0 for b in places[:i])


def test_a_label_hides_no_box_while_there_is_room() -> None:
    whole = (Box(0.0, 0.0, 1.0, 1.0), "all that is to be seen")
    small = (Box(0.45, 0.02, 0.5, 0.05), "")
    (place, _), *_ = tags_of((600, 400), [whole])
    hidden = (270, 8, 300, 20)
    assert labels._overlap(place, hidden) == labels._area(hidden)
    (place, _), *_ = tags_of((600, 400), [whole, small])
    assert labels._overlap(place, hidden) == 0


def test_what_no_picture_can_hold_ends_in_an_ellipsis() -> None:
    (((x0, y0, x1, y1), lines),) = tags_of((100, 100), [(Box(0.0, 0.0, 1.0, 1.0), "word " * 900)])
    assert lines[-1].endswith("...")
    assert 0 <= x0 < x1 <= 400
    assert 0 <= y0 < y1 <= 400


@pytest.mark.parametrize("color", [*PALETTE, "#000000", "#ffffff", "#000080", "#ffff00"])
def test_words_contrast_with_their_label(color: str) -> None:
    def luminance(name: str) -> float:
        weights = (0.2126, 0.7152, 0.0722)
        values = (labels._linear(v / 255) for v in PIL.ImageColor.getrgb(name))
        return sum(w * v for w, v in zip(weights, values, strict=True))

    dark, light = sorted((luminance(color), luminance(labels._ink_on(color))))
    assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG AA


@pytest.mark.parametrize("corner", [float("nan"), float("inf")])
def test_boxes_that_are_nowhere_are_refused(corner: float) -> None:
    with pytest.raises(DataError, match="finite"):
        draw_boxes(blank(400, 400), [(Box(corner, 0.0, 1.0, 1.0), "a ghost")])
