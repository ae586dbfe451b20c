"""Intervals hold what they promise; derangements leave nobody in place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import DataError
from kosmos.evaluate.metrics.interval import bootstrap, derangement, wilson


def test_wilson_has_the_textbook_numbers() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.0, 0.27753), abs=1e-5)
    assert wilson(5, 10) == pytest.approx((0.5, 0.23659, 0.76341), abs=1e-5)
    assert wilson(81, 263) == pytest.approx((0.30798, 0.25528, 0.36619), abs=2e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_inside_the_unit_and_around_the_share(case: tuple[int, int]) -> None:
    value, low, high = wilson(*case)
    assert 0.0 <= low <= value <= high <= 1.0
    assert high - low > 0.0


def test_bootstrap_is_close_to_the_normal_interval_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400).tolist()
    found = bootstrap(values, seed=1, name="a")
    half = 1.96 * np.std(values) / 20
    assert found.low == pytest.approx(found.value - half, abs=0.03)
    assert found.high == pytest.approx(found.value + half, abs=0.03)
    assert bootstrap(values, seed=1, name="a") == found
    assert bootstrap(values, seed=1, name="b") != found


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(100):
        found = bootstrap(rng.exponential(1.0, 60).tolist(), seed=trial, name="x")
        covered += found.low <= 1.0 <= found.high
    assert 86 <= covered <= 100


@given(st.integers(2, 60), st.integers(0, 1000))
def test_derangement_is_an_order_in_which_nothing_stays(count: int, seed: int) -> None:
    order = derangement(count, np.random.default_rng(seed))
    assert sorted(order) == list(range(count))
    assert all(index != other for index, other in enumerate(order))


def test_nothing_to_count_is_an_error() -> None:
    for call in (
        lambda: wilson(0, 0),
        lambda: bootstrap([], seed=0, name=""),
        lambda: derangement(1, np.random.default_rng(0)),
    ):
        with pytest.raises(DataError, match="expected at least"):
            call()
