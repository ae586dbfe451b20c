import math

import pytest
from hypothesis import given

from kosmos.boxes import Box
from kosmos.errors import DataError
from tests.strategies import boxes


@given(boxes(), boxes())
def test_iou_is_symmetric_and_between_zero_and_one(first: Box, second: Box) -> None:
    assert first.iou(second) == pytest.approx(second.iou(first))
    assert 0.0 <= first.iou(second) <= 1.0 + 1e-9


@given(boxes())
def test_iou_with_itself_is_one(box: Box) -> None:
    assert box.iou(box) == pytest.approx(1.0)


@given(boxes())
def test_pixels_and_back_is_the_same_box(box: Box) -> None:
    corners = box.to_pixels(width=640, height=480)
    again = Box.from_pixels(*corners, width=640, height=480)
    assert again.iou(box) == pytest.approx(1.0)


@given(boxes())
def test_a_box_inside_the_image_passes_the_check_and_clipping_unchanged(box: Box) -> None:
    assert box.checked("here") is box
    assert box.clipped() == box


def test_half_overlap_counts_a_third() -> None:
    assert Box(0, 0, 0.5, 1).iou(Box(0.25, 0, 0.75, 1)) == pytest.approx(1 / 3)


def test_a_reversed_box_has_no_area_and_no_overlap() -> None:
    assert Box(0.9, 0.9, 0.1, 0.1).area == 0.0
    assert Box(0.9, 0.9, 0.1, 0.1).iou(Box(0, 0, 1, 1)) == 0.0


@pytest.mark.parametrize(
    "box",
    [
        Box(-0.1, 0, 0.5, 0.5),
        Box(0, 0, 0.5, 1.5),
        Box(0.5, 0, 0.5, 1),
        Box(0.6, 0, 0.5, 1),
        Box(math.nan, 0, 0.5, 1),
        Box(0, 0, math.inf, 1),
        Box(10, 20, 300, 400),
    ],
)
def test_a_box_outside_the_image_or_inverted_is_refused_by_name(box: Box) -> None:
    with pytest.raises(DataError, match="photo 7"):
        box.checked("photo 7")
