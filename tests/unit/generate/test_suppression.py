"""Of boxes that say the same place, the surest stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.errors import ConfigError
from kosmos.generate.suppression import suppress
from tests.strategies import boxes

# few values, so that boxes coincide and confidences tie
_CORNERS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@st.composite
def coarse_boxes(draw: st.DrawFn) -> Box:
    (x0, x1), (y0, y1) = (sorted((draw(_CORNERS), draw(_CORNERS))) for _ in range(2))
    return Box(x0, y0, x1, y1)


def rated() -> st.SearchStrategy[list[tuple[Box, float]]]:
    confidence = st.sampled_from([0.1, 0.5, 0.9]) | st.floats(-5.0, 1.0)
    return st.lists(st.tuples(coarse_boxes() | boxes(), confidence), max_size=12)


THRESHOLDS = st.sampled_from([0.0, 0.3, 0.5, 1.0]) | st.floats(0.0, 1.0)


def kept_of(items: list[tuple[Box, float]], threshold: float) -> list[tuple[Box, float]]:
    indices = suppress([box for box, _ in items], [rate for _, rate in items], threshold)
    return [items[index] for index in indices]


@given(rated(), THRESHOLDS)
def test_boxes_that_stay_overlap_no_more_than_allowed(
    items: list[tuple[Box, float]], threshold: float
) -> None:
    kept = kept_of(items, threshold)
    assert all(
        box.iou(other) <= threshold
        for index, (box, _) in enumerate(kept)
        for other, _ in kept[index + 1 :]
    )


@given(rated(), THRESHOLDS)
def test_each_box_that_goes_overlaps_a_surer_one_that_stays(
    items: list[tuple[Box, float]], threshold: float
) -> None:
    boxes_given, rates = [box for box, _ in items], [rate for _, rate in items]
    kept = suppress(boxes_given, rates, threshold)
    for index in set(range(len(items))) - set(kept):
        assert any(
            boxes_given[index].iou(boxes_given[other]) > threshold and rates[other] >= rates[index]
            for other in kept
        )


@given(rated().filter(bool), THRESHOLDS)
def test_the_surest_box_stays_and_comes_first(
    items: list[tuple[Box, float]], threshold: float
) -> None:
    kept = kept_of(items, threshold)
    rates = [rate for _, rate in kept]
    assert rates[0] == max(rate for _, rate in items)
    assert rates == sorted(rates, reverse=True)


@given(rated(), THRESHOLDS)
def test_suppressing_again_changes_nothing(
    items: list[tuple[Box, float]], threshold: float
) -> None:
    kept = kept_of(items, threshold)
    assert kept_of(kept, threshold) == kept


@given(st.data(), rated(), THRESHOLDS)
def test_the_order_given_does_not_matter(
    data: st.DataObject, items: list[tuple[Box, float]], threshold: float
) -> None:
    shuffled = data.draw(st.permutations(items))
    assert kept_of(shuffled, threshold) == kept_of(items, threshold)


def test_of_equal_boxes_the_first_stays() -> None:
    box = Box(0.0, 0.0, 0.5, 0.5)
    assert suppress([box, box, box], [0.5, 0.5, 0.9], 0.5) == [2]
    assert suppress([box, box], [0.5, 0.5], 1.0) == [0, 1]


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_an_overlap(threshold: float) -> None:
    with pytest.raises(ConfigError, match="in \\[0, 1\\]"):
        suppress([], [], threshold)


def test_a_confidence_is_a_number() -> None:
    with pytest.raises(ConfigError, match="confidence 0"):
        suppress([Box(0.0, 0.0, 1.0, 1.0)], [float("nan")], 0.5)
