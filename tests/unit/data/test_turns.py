"""kosmos.data.turns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.data.turns import MAX_PERIOD, Turns, whole_weights

WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)
TABLE_20 = [21.8, 17.7, 16.2, 14.7, 10.6, 10.2, 5.4, 1.1, 1.0, 1.0, 0.2]


@given(WEIGHTS, st.integers(0, 9))
def test_before_any_place_a_corpus_is_less_than_two_turns_from_its_share(
    weights: list[int], seed: int
) -> None:
    turns = Turns(weights, seed, "text")
    corpora, _ = turns(np.arange(3 * turns.period, dtype=np.int64))
    taken = np.cumsum(corpora[:, None] == np.arange(len(weights)), axis=0)
    shares = np.outer(np.arange(1, len(corpora) + 1), np.array(weights) / sum(weights))
    assert np.abs(taken - shares).max() < 2.0


@given(WEIGHTS, st.integers(0, 9))
def test_each_period_holds_exactly_the_weights(weights: list[int], seed: int) -> None:
    turns = Turns(weights, seed, "text")
    corpora, _ = turns(np.arange(4 * turns.period, dtype=np.int64))
    for period in corpora.reshape(4, turns.period):
        counts = np.bincount(period, minlength=len(weights))
        assert np.array_equal(counts * sum(weights), np.array(weights) * turns.period)


@given(WEIGHTS, st.integers(0, 9), st.integers(0, 10**12))
def test_a_corpus_takes_its_turns_in_order_and_places_finds_them(
    weights: list[int], seed: int, start: int
) -> None:
    turns = Turns(weights, seed, "text")
    places = np.arange(start, start + 2 * turns.period + 1, dtype=np.int64)
    corpora, numbers = turns(places)
    for corpus in range(len(weights)):
        of_corpus = corpora == corpus
        assert (np.diff(numbers[of_corpus]) == 1).all()
        assert np.array_equal(turns.places(corpus, numbers[of_corpus]), places[of_corpus])


def test_a_place_is_the_same_whatever_is_asked_with_it() -> None:
    turns = Turns(TABLE_20, 3, "text")
    corpora, numbers = turns(np.arange(5000, 6000, dtype=np.int64))
    alone = [turns(np.array([place])) for place in range(5000, 6000)]
    assert np.array_equal(corpora, np.concatenate([corpus for corpus, _ in alone]))
    assert np.array_equal(numbers, np.concatenate([number for _, number in alone]))


def test_periods_and_seeds_differ() -> None:
    turns = Turns(TABLE_20, 0, "text")
    first, second = turns(np.arange(2 * turns.period, dtype=np.int64))[0].reshape(2, -1)
    other = Turns(TABLE_20, 1, "text")(np.arange(turns.period, dtype=np.int64))[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_table_20_has_a_period_of_999() -> None:
    assert whole_weights(TABLE_20) == [218, 177, 162, 147, 106, 102, 54, 11, 10, 10, 2]
    assert Turns(TABLE_20, 0, "text").period == 999


@pytest.mark.parametrize(
    ("weights", "whole"),
    [([1.0], [1]), ([3, 6], [1, 2]), ([0.1, 0.2], [1, 2]), ([1e-5, 1e-5], [1, 1])],
)
def test_weights_are_the_smallest_whole_numbers(weights: list[float], whole: list[int]) -> None:
    assert whole_weights(weights) == whole


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_rounded_weights_are_off_by_less_than_one_part_in_the_longest_period(
    weights: list[float],
) -> None:
    whole = whole_weights(weights)
    assert min(whole) >= 1
    # tiny weights are raised to one part, which the sum may feel
    assert sum(whole) <= MAX_PERIOD + len(weights)
    for number, weight in zip(whole, weights, strict=True):
        assert abs(number / sum(whole) - weight / sum(weights)) < (1 + len(weights)) / MAX_PERIOD
