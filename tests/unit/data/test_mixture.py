"""kosmos.data.mixture."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kosmos.data.config import Stream
from kosmos.data.mixture import Mixture, rows_of_sequences


def stream(name: str, count: int) -> Stream:
    return Stream(name=name, path="", sequences_per_step=count, tokens_per_sequence=1.0)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_each_epoch_takes_every_row_once(num_rows: int, per_step: int, seed: int) -> None:
    mixture = Mixture([stream("a", per_step)], {"a": num_rows}, seed=seed)
    steps = -(-3 * num_rows // per_step)
    order = np.concatenate([mixture.rows(step)["a"] for step in range(steps)])
    for epoch in range(3):
        rows = order[epoch * num_rows : (epoch + 1) * num_rows]
        assert np.array_equal(np.sort(rows), np.arange(num_rows))


def test_every_step_holds_the_same_share_of_every_stream() -> None:
    mixture = Mixture([stream("a", 3), stream("b", 5)], {"a": 7, "b": 100}, seed=0)
    for step in range(20):
        rows = mixture.rows(step)
        assert list(rows) == ["a", "b"]
        assert [len(rows[name]) for name in rows] == [3, 5]


def test_epochs_and_streams_of_one_size_have_different_orders() -> None:
    mixture = Mixture([stream("a", 50), stream("b", 50)], {"a": 50, "b": 50}, seed=0)
    first, second = mixture.rows(0), mixture.rows(1)
    assert not np.array_equal(first["a"], second["a"])
    assert not np.array_equal(first["a"], first["b"])


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    mixture = Mixture([stream("a", 4)], {"a": 9}, seed=5)
    late = mixture.rows(12345)["a"]
    again = Mixture([stream("a", 4)], {"a": 9}, seed=5).rows(12345)["a"]
    assert np.array_equal(late, again)
    places = rows_of_sequences(4 * 12345, 4 * 12346, num_rows=9, seed=5, stream="a")
    assert np.array_equal(late, places)
