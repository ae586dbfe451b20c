"""kosmos.check.boxlint and kosmos.check.boxwords."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.check.boxlint import BoxLint, BoxVerdict
from kosmos.files import read_jsonl

Wrong = Callable[[Box, int, int], tuple[float, float, float, float]]
Row = tuple[Box, int, int, str]


def true_boxes(seed: int, *, count: int = 300, whole_pixels: bool = False) -> list[Row]:
    """Boxes as detectors give them: any size, some at the edges, in pictures of many sizes."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(count):
        width, height = (int(side) for side in rng.integers(200, 1200, 2))
        w, h = rng.beta(1.2, 2.0, 2) * 0.9 + 0.05
        x0, y0 = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
        x1, y1 = x0 + w, y0 + h
        x0, y0 = (0.0 if rng.random() < 0.15 else v for v in (x0, y0))
        x1, y1 = (1.0 if rng.random() < 0.15 else v for v in (x1, y1))
        if whole_pixels:
            x0, y0 = np.floor(x0 * width) / width, np.floor(y0 * height) / height
            x1, y1 = np.ceil(x1 * width) / width, np.ceil(y1 * height) / height
        rows.append((Box(float(x0), float(y0), float(x1), float(y1)), width, height, ""))
    return rows


def lint(rows: Iterable[Row], wrong: Wrong | None = None, every: int = 1) -> BoxVerdict | None:
    found = BoxLint()
    for number, (box, width, height, phrase) in enumerate(rows):
        if wrong is not None and number % every == 0:
            given = Box(*wrong(box, width, height))
        else:
            given = box
        found.add(given, width=width, height=height, phrase=phrase)
    return found.verdict()


def _scaled(by_x: float, by_y: float, b: Box) -> tuple[float, float, float, float]:
    return b.x0 * by_x, b.y0 * by_y, b.x1 * by_x, b.y1 * by_y


def _whole(values: tuple[float, ...]) -> tuple[float, float, float, float]:
    return tuple(float(round(v)) for v in values)  # type: ignore[return-value]


WRONG: dict[tuple[str, str], Wrong] = {
    ("pixels", "x0 y0 x1 y1"): lambda b, w, h: _scaled(w, h, b),
    ("percent", "x0 y0 x1 y1"): lambda b, w, h: _scaled(100, 100, b),
    ("grid", "x0 y0 x1 y1"): lambda b, w, h: _whole(_scaled(1000, 1000, b)),
    ("fractions", "x y width height"): lambda b, w, h: (b.x0, b.y0, b.x1 - b.x0, b.y1 - b.y0),
    ("pixels", "x y width height"): lambda b, w, h: (
        *(b.x0 * w, b.y0 * h),
        *((b.x1 - b.x0) * w, (b.y1 - b.y0) * h),
    ),
    ("fractions", "center-x center-y width height"): lambda b, w, h: (
        *b.center,
        *(b.x1 - b.x0, b.y1 - b.y0),
    ),
    ("grid", "center-x center-y width height"): lambda b, w, h: (
        *(1000 * v for v in b.center),
        *(1000 * (b.x1 - b.x0), 1000 * (b.y1 - b.y0)),
    ),
    ("pixels", "y0 x0 y1 x1"): lambda b, w, h: (b.y0 * h, b.x0 * w, b.y1 * h, b.x1 * w),
    ("fractions", "x0 x1 y0 y1"): lambda b, w, h: (b.x0, b.x1, b.y0, b.y1),
    ("fractions", "x1 y1 x0 y0"): lambda b, w, h: (b.x1, b.y1, b.x0, b.y0),
    ("pixels", "x1 y1 x0 y0"): lambda b, w, h: (b.x1 * w, b.y1 * h, b.x0 * w, b.y0 * h),
    ("fractions", "y from below"): lambda b, w, h: (b.x0, 1 - b.y0, b.x1, 1 - b.y1),
    ("pixels", "y from below"): lambda b, w, h: (
        *(b.x0 * w, h - b.y0 * h),
        *(b.x1 * w, h - b.y1 * h),
    ),
}


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=60)
def test_right_boxes_give_no_finding(seed: int, whole_pixels: bool) -> None:
    assert lint(true_boxes(seed, whole_pixels=whole_pixels)) is None


@pytest.mark.parametrize("convention", WRONG, ids=" ".join)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25)
def test_boxes_written_in_a_wrong_convention_are_called_by_it(
    convention: tuple[str, str], seed: int
) -> None:
    verdict = lint(true_boxes(seed), WRONG[convention])
    assert verdict is not None
    assert (verdict.scale, verdict.order, verdict.severity) == (*convention, "error")
    assert verdict.share == 1.0


@pytest.mark.parametrize("convention", WRONG, ids=" ".join)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10)
def test_a_tenth_in_a_wrong_convention_is_called_by_it(
    convention: tuple[str, str], seed: int
) -> None:
    verdict = lint(true_boxes(seed, count=1000), WRONG[convention], every=10)
    assert verdict is not None
    assert (verdict.scale, verdict.order) == convention
    # of boxes as x y width height some happen to be ordered and inside: those do not show
    assert 0.03 < verdict.share <= 0.1


@given(st.integers(0, 2**32))
@settings(max_examples=25)
def test_pixels_counted_from_one_are_told_from_pixels(seed: int) -> None:
    rows = true_boxes(seed, whole_pixels=True)
    ours = lint(rows, lambda b, w, h: _whole(_scaled(w, h, b)))
    theirs = lint(rows, lambda b, w, h: _whole((b.x0 * w + 1, b.y0 * h + 1, b.x1 * w, b.y1 * h)))
    assert ours is not None
    assert theirs is not None
    assert (ours.scale, ours.from_one) == ("pixels", False)
    assert (theirs.scale, theirs.from_one) == ("pixels", True)


@given(st.integers(0, 2**32))
@settings(max_examples=25)
def test_fractions_of_pixels_counted_from_one_are_a_warning(seed: int) -> None:
    verdict = lint(
        true_boxes(seed, whole_pixels=True),
        lambda b, w, h: ((b.x0 * w + 1) / w, (b.y0 * h + 1) / h, b.x1, b.y1),
    )
    assert verdict is not None
    assert (verdict.severity, verdict.from_one) == ("warning", True)


@given(st.integers(0, 2**32))
@settings(max_examples=25)
def test_fractions_with_x_for_y_are_told_by_whole_pixels(seed: int) -> None:
    verdict = lint(true_boxes(seed, whole_pixels=True), lambda b, w, h: (b.y0, b.x0, b.y1, b.x1))
    assert verdict is not None
    assert (verdict.severity, verdict.order) == ("warning", "y0 x0 y1 x1")


def test_a_grid_that_ends_at_999_is_called_so() -> None:
    verdict = lint(true_boxes(0), lambda b, w, h: _whole(_scaled(999, 999, b)))
    assert verdict is not None
    assert "a grid of 0 to 999" in verdict.what
    assert "divide by 999" in verdict.hint


def test_pixels_of_a_resized_picture_are_called_by_their_reach() -> None:
    verdict = lint(true_boxes(0), lambda b, w, h: _scaled(336, 336, b))
    assert verdict is not None
    assert "a grid of 0 to 336" in verdict.what


def test_a_few_boxes_are_no_evidence() -> None:
    assert lint(true_boxes(0, count=19), WRONG["pixels", "x0 y0 x1 y1"]) is None
    assert lint(true_boxes(0, count=20), WRONG["pixels", "x0 y0 x1 y1"]) is not None


def test_boxes_of_no_convention_are_shown_with_their_range() -> None:
    rng = np.random.default_rng(0)
    rows = [(Box(*rng.uniform(-5000, 5000, 4)), 640, 480, "") for _ in range(100)]
    verdict = lint(rows)
    assert verdict is not None
    assert (verdict.scale, verdict.order, verdict.severity) == (None, None, "error")
    assert "640 x 480" in verdict.evidence[1]


def test_a_sample_of_many_says_the_same_as_all() -> None:
    rows = true_boxes(3, count=2000)
    small = BoxLint(capacity=100)
    for box, width, height, _ in rows:
        small.add(Box(*_scaled(100, 100, box)), width=width, height=height)
    verdict = small.verdict()
    assert small.num_boxes == 2000
    assert verdict is not None
    assert verdict.scale == "percent"


def test_boxes_that_are_all_one_are_told() -> None:
    found = BoxLint()
    for _ in range(30):
        found.add(Box(0.0, 0.0, 1.0, 1.0), width=640, height=480)
    assert found.verdict() is None
    assert (
        found.repeated() == "expected boxes that differ, found 100% of them to be the whole picture"
    )


def coco(shared_data: Path) -> list[Row]:
    rows: list[Row] = []
    for fields in read_jsonl(shared_data / "grounding/coco_grit_schema_dev.jsonl"):
        assert isinstance(fields, dict)
        for start, end, *corners, _ in fields["noun_chunks"]:
            phrase = fields["caption"][int(start) : int(end)]
            rows.append((Box(*map(float, corners)), fields["width"], fields["height"], phrase))
    return rows


def test_boxes_of_coco_are_right_and_each_wrong_writing_of_them_is_called_by_it(
    shared_data: Path,
) -> None:
    rows = coco(shared_data)
    assert lint(rows) is None
    for convention, wrong in WRONG.items():
        verdict = lint(rows, wrong)
        assert verdict is not None
        assert (verdict.scale, verdict.order) == convention


def test_fractions_with_x_for_y_are_told_by_persons(shared_data: Path) -> None:
    verdict = lint(coco(shared_data), lambda b, w, h: (b.y0, b.x0, b.y1, b.x1))
    assert verdict is not None
    assert (verdict.severity, verdict.order) == ("warning", "y0 x0 y1 x1")
    assert "persons" in verdict.evidence[0]


def test_boxes_upside_down_are_told_by_sky_and_floor() -> None:
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for _ in range(15):
        depth = rng.uniform(0.2, 0.5)
        rows.append((Box(0.0, 0.0, 1.0, depth), 640, 480, "a blue sky"))
        rows.append((Box(0.1, 1 - depth, 0.9, 1.0), 640, 480, "the floor"))
    assert lint(rows) is None
    below = lint(rows, lambda b, w, h: (b.x0, 1 - b.y1, b.x1, 1 - b.y0))
    swapped = lint(rows, lambda b, w, h: (b.y0, b.x0, b.y1, b.x1))
    assert below is not None
    assert swapped is not None
    assert (below.order, swapped.order) == ("y from below", "y0 x0 y1 x1")
