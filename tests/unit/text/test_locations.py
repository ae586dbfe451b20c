"""Boxes and locations agree with both published programs."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.text.locations import (
    WHOLE,
    best_iou,
    box_to_locations,
    guaranteed_iou,
    locations_to_box,
    quantization_ceiling,
)
from tests.strategies import boxes

# computed with the release's and the Hugging Face port's own functions
PUBLISHED = [
    ((0.0, 0.0, 1.0, 1.0), (0, 1023), (0, 1023)),
    ((0.0, 0.0, 0.5, 0.5), (0, 495), (0, 528)),
    ((0.25, 0.25, 0.5, 0.75), (264, 751), (264, 784)),
    ((0.5, 0.5, 0.53125, 0.53125), (528, 528), (528, 561)),
    ((0.1, 0.2, 0.3, 0.4), (195, 393), (195, 393)),
    ((0.39, 0.04, 0.98, 0.82), (44, 863), (44, 863)),
    ((0.4375, 0.09375, 0.65625, 0.78125), (110, 788), (110, 821)),
    ((0.25, 0.09375, 0.84375, 0.6875), (104, 698), (104, 731)),
    (
        (0.13436424411240122, 0.2550690257394217, 0.8474337369372327, 0.763774618976614),
        (260, 795),
        (260, 795),
    ),
]
DECODED = [
    ((0, 0), (0.0, 0.0, 0.03125, 0.03125)),
    ((0, 31), (0.0, 0.0, 1.0, 0.03125)),
    ((0, 992), (0.0, 0.0, 0.03125, 1.0)),
    ((0, 1023), (0.015625, 0.015625, 0.984375, 0.984375)),
    ((44, 863), (0.390625, 0.046875, 0.984375, 0.828125)),
    ((5, 911), (0.171875, 0.015625, 0.484375, 0.890625)),
    ((863, 44), (0.984375, 0.828125, 0.390625, 0.046875)),
    ((33, 32), (0.03125, 0.03125, 0.03125, 0.0625)),
    ((1023, 1023), (0.96875, 0.96875, 1.0, 1.0)),
]


@pytest.mark.parametrize(("box", "hf", "release"), PUBLISHED)
def test_both_roundings_are_the_published_ones(
    box: tuple[float, float, float, float], hf: tuple[int, int], release: tuple[int, int]
) -> None:
    assert box_to_locations(Box(*box), rounding="hf") == hf
    assert box_to_locations(Box(*box), rounding="release") == release
    assert box_to_locations(Box(*box)) == release


@pytest.mark.parametrize(("locations", "box"), DECODED)
def test_locations_decode_to_the_published_boxes(
    locations: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    assert locations_to_box(*locations) == Box(*box)


def test_all_golden_boxes_are_reproduced(shared_data: Path) -> None:
    path = shared_data.parent / "spec" / "golden" / "boxes.json"
    if not path.exists():
        pytest.skip("golden boxes are not staged")
    golden = json.loads(path.read_text())
    for case in golden["forward"]:
        box = Box(*case["box"])
        assert list(box_to_locations(box, rounding="hf")) == case["hf"]
        assert list(box_to_locations(box, rounding="release")) == case["unilm"]
    for case in golden["inverse"]:
        assert locations_to_box(case["ul"], case["lr"]) == Box(*case["xyxy"])
    assert (len(golden["forward"]), len(golden["inverse"])) == (295, 72)


def test_real_boxes_get_the_releases_tokens(shared_data: Path) -> None:
    path = shared_data / "grounding" / "golden" / "boxes_dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        locations = box_to_locations(Box(*row["bbox_norm"]))
        assert locations == (row["ul"], row["lr"])
        assert locations_to_box(*locations) == Box(*row["decoded_norm"])
    assert len(rows) == 352


def test_real_grounded_captions_get_the_releases_tokens(shared_data: Path) -> None:
    path = shared_data / "grounding" / "golden" / "grit_to_tokens_dev.json"
    spans = [
        span
        for row in json.loads(path.read_text())
        for form in ("centercrop", "square")
        for span in row[form]
    ]
    for span in spans:
        assert [list(box_to_locations(Box(*box))) for box in span["boxes"]] == span["pairs"]
    assert spans


def test_the_release_clips_what_reaches_outside() -> None:
    assert box_to_locations(Box(-0.1, -0.1, 0.2, 0.2)) == (0, 198)
    assert box_to_locations(Box(0.1, 0.1, 1.2, 1.2)) == (99, 1023)


@pytest.mark.parametrize(
    ("box", "rounding"),
    [
        (Box(-0.1, 0.5, 0.2, 0.7), "hf"),  # would be cell 508, in the row above
        (Box(0.1, 0.1, 1.2, 1.2), "hf"),
        (Box(1.0, 0.0, 1.2, 0.5), "release"),
        (Box(-0.5, 0.2, -0.1, 0.5), "release"),
        (Box(10.0, 20.0, 200.0, 300.0), "release"),
    ],
)
def test_a_cell_outside_the_grid_is_refused(box: Box, rounding: str) -> None:
    with pytest.raises(DataError, match="inside the image"):
        box_to_locations(box, rounding=rounding)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [Box(0.5, 0.1, 0.5, 0.2), Box(0.6, 0.1, 0.5, 0.2)])
def test_hf_refuses_empty_boxes_and_the_release_does_not(box: Box) -> None:
    with pytest.raises(DataError, match="x0 < x1"):
        box_to_locations(box, rounding="hf")
    assert len(box_to_locations(box, rounding="release")) == 2


@pytest.mark.parametrize("rounding", ["hf", "release"])
def test_a_box_of_almost_no_size_lies_in_the_first_cell(rounding: str) -> None:
    tiny = Box(0.0, 0.0, 1e-80, 1e-80)
    assert box_to_locations(tiny, rounding=rounding) == (0, 0)  # type: ignore[arg-type]


def test_corners_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        box_to_locations(Box(float("nan"), 0.0, 1.0, 1.0))


@pytest.mark.parametrize("pair", [(0, 1024), (-1, 5)])
def test_locations_outside_the_grid_have_no_box(pair: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="expected 0 to 1023"):
        locations_to_box(*pair)


@given(st.sampled_from([2, 5, 16, 32, 100]), st.data())
def test_a_pair_wider_and_taller_than_a_cell_survives_a_round_trip(
    num_cells: int, data: st.DataObject
) -> None:
    cells = st.tuples(*[st.integers(0, num_cells - 1)] * 2)
    x0, x1 = sorted(data.draw(cells))
    y0, y1 = sorted(data.draw(cells))
    pair = (y0 * num_cells + x0, y1 * num_cells + x1)
    box = locations_to_box(*pair, num_cells)
    assert 0.0 <= box.x0 < box.x1 <= 1.0
    assert 0.0 <= box.y0 < box.y1 <= 1.0
    if x0 < x1 and y0 < y1:
        assert box_to_locations(box, num_cells, "release") == pair
        assert box_to_locations(box, num_cells, "hf") == pair


@given(boxes(min_side=0.1))
def test_a_box_decodes_to_within_a_cell_of_itself(box: Box) -> None:
    decoded = locations_to_box(*box_to_locations(box))
    pairs = zip(
        (box.x0, box.y0, box.x1, box.y1),
        (decoded.x0, decoded.y0, decoded.x1, decoded.y1),
        strict=True,
    )
    assert all(abs(a - b) <= 1 / 32 for a, b in pairs)


@given(boxes(min_side=0.02), st.sampled_from([1, 2, 3, 4]))
def test_best_iou_is_the_best_over_all_pairs(box: Box, num_cells: int) -> None:
    every = itertools.product(range(num_cells**2), repeat=2)
    best = max(locations_to_box(a, b, num_cells).iou(box) for a, b in every)
    assert best_iou(box, num_cells) == pytest.approx(best, abs=1e-12)


def test_best_iou_is_one_on_cell_centers_and_low_for_small_boxes() -> None:
    assert best_iou(locations_to_box(44, 863)) == 1.0
    assert best_iou(Box(0.5, 0.5, 0.51, 0.51)) == pytest.approx(0.01**2 * 32**2)


def test_best_iou_refuses_an_empty_box() -> None:
    with pytest.raises(DataError, match="x0 < x1"):
        best_iou(Box(0.5, 0.5, 0.5, 0.6))


@given(boxes(min_side=0.02), boxes(min_side=0.2), st.sampled_from([1, 2, 3]))
def test_a_grid_over_a_part_of_the_picture_reaches_what_it_shows(
    box: Box, shown: Box, num_cells: int
) -> None:
    def in_picture(inside: Box) -> Box:
        across, down = shown.x1 - shown.x0, shown.y1 - shown.y0
        return Box(
            shown.x0 + inside.x0 * across,
            shown.y0 + inside.y0 * down,
            shown.x0 + inside.x1 * across,
            shown.y0 + inside.y1 * down,
        )

    every = itertools.product(range(num_cells**2), repeat=2)
    best = max(in_picture(locations_to_box(a, b, num_cells)).iou(box) for a, b in every)
    assert best_iou(box, num_cells, shown=shown) == pytest.approx(best, abs=1e-9)


def test_nothing_is_reached_where_nothing_is_shown() -> None:
    assert best_iou(Box(0.0, 0.0, 0.2, 1.0), shown=Box(0.25, 0.0, 0.75, 1.0)) == 0.0
    assert best_iou(Box(0.0, 0.0, 1.0, 1.0), shown=WHOLE) == best_iou(Box(0.0, 0.0, 1.0, 1.0))


def test_the_ceiling_of_a_set_is_the_mean_and_the_share_found() -> None:
    sure, small = locations_to_box(44, 863), Box(0.5, 0.5, 0.51, 0.51)
    ceiling = quantization_ceiling([sure, sure, small])
    assert ceiling.mean_iou == pytest.approx((2 + 0.01**2 * 32**2) / 3)
    assert ceiling.reachable == pytest.approx(2 / 3)
    assert quantization_ceiling([sure, small], threshold=0.1).reachable == 1.0
    with pytest.raises(DataError, match="at least one"):
        quantization_ceiling([])


def test_small_real_boxes_have_a_lower_ceiling_than_large_ones(shared_data: Path) -> None:
    path = shared_data / "grounding" / "golden" / "boxes_dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    truths = sorted((Box(*row["bbox_norm"]) for row in rows), key=lambda box: box.area)
    small, large = quantization_ceiling(truths[:50]), quantization_ceiling(truths[-50:])
    assert small.mean_iou < large.mean_iou
    assert large.reachable == 1.0


@given(st.sampled_from([2, 5, 32]), st.data())
def test_no_truth_in_the_cells_overlaps_less_than_guaranteed(
    num_cells: int, data: st.DataObject
) -> None:
    cell = st.integers(0, num_cells - 1)
    (x0, x1), (y0, y1) = (sorted((data.draw(cell), data.draw(cell))) for _ in range(2))
    pair = (y0 * num_cells + x0, y1 * num_cells + x1)
    part = st.floats(0.0, 1.0)
    truth = Box(*((c + data.draw(part)) / num_cells for c in (x0, y0, x1, y1)))
    floor = guaranteed_iou(*pair, num_cells)
    assert locations_to_box(*pair, num_cells).iou(truth) >= floor - 1e-9
    assert (floor > 0.0) == (x1 - x0 > 1 and y1 - y0 > 1)


def test_large_boxes_are_guaranteed_more() -> None:
    assert guaranteed_iou(0, 8 * 32 + 8) == pytest.approx((7 / 8) ** 2)
    assert guaranteed_iou(0, 2 * 32 + 2) == pytest.approx(0.25)
    assert guaranteed_iou(0, 1023) == pytest.approx((30 / 31) ** 2)
