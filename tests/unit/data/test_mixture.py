"""kosmos.data.mixture."""

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.data.config import Corpus, Stream
from kosmos.data.mixture import Mixture, StreamOrder, data_step, optimizer_step


def stream(name: str, count: int, weights: tuple[float, ...] = ()) -> Stream:
    corpora = tuple(Corpus(name=f"c{n}", weight=weight) for n, weight in enumerate(weights))
    return Stream(name=name, corpora=corpora, sequences_per_step=count, tokens_per_sequence=1.0)


def skipped(bounds: list[tuple[int, int]]) -> tuple[range, ...]:
    """Ranges ascending and apart, from gaps and lengths."""
    ranges, at = [], 0
    for gap, length in bounds:
        ranges.append(range(at + gap, at + gap + length))
        at += gap + length
    return tuple(ranges)


SKIPPED = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=5).map(skipped)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_each_epoch_takes_every_row_once(num_rows: int, per_step: int, seed: int) -> None:
    mixture = Mixture([stream("a", per_step)], {"a": [num_rows]}, seed=seed)
    steps = -(-3 * num_rows // per_step)
    order = np.concatenate([mixture.sequences(step)["a"].rows for step in range(steps)])
    for epoch in range(3):
        rows = order[epoch * num_rows : (epoch + 1) * num_rows]
        assert np.array_equal(np.sort(rows), np.arange(num_rows))


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(0, 9),
)
def test_each_epoch_of_each_corpus_takes_every_row_once(
    corpora: list[tuple[int, int]], per_step: int, seed: int
) -> None:
    weights, num_rows = zip(*corpora, strict=True)
    mixture = Mixture([stream("a", per_step, weights)], {"a": num_rows}, seed=seed)
    seen: dict[tuple[int, int], list[int]] = {}
    for step in range(40):
        taken = mixture.sequences(step)["a"]
        assert len(taken) == per_step
        for corpus, row, epoch in zip(taken.corpora, taken.rows, taken.epochs, strict=True):
            seen.setdefault((int(corpus), int(epoch)), []).append(int(row))
    last = {corpus: max(e for c, e in seen if c == corpus) for corpus, _ in seen}
    for (corpus, epoch), rows in seen.items():
        assert len(set(rows)) == len(rows)
        if epoch < last[corpus]:
            assert sorted(rows) == list(range(num_rows[corpus]))


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=5),
    st.integers(0, 9),
)
def test_the_place_of_a_row_is_found_without_looking_for_it(
    corpora: list[tuple[int, int]], seed: int
) -> None:
    weights, num_rows = zip(*corpora, strict=True)
    order = StreamOrder(stream("a", 1, weights), num_rows, seed=seed)
    taken = order(10**9, 10**9 + 50)
    for n, (corpus, row, epoch) in enumerate(
        zip(taken.corpora, taken.rows, taken.epochs, strict=True)
    ):
        assert order.places(int(corpus), np.array([row]), int(epoch)).tolist() == [10**9 + n]


def test_every_step_holds_the_same_share_of_every_stream() -> None:
    mixture = Mixture([stream("a", 3), stream("b", 5)], {"a": [7], "b": [100]}, seed=0)
    for step in range(20):
        taken = mixture.sequences(step)
        assert list(taken) == ["a", "b"]
        assert [len(taken[name]) for name in taken] == [3, 5]


def test_epochs_streams_and_corpora_of_one_size_have_different_orders() -> None:
    mixture = Mixture(
        [stream("a", 50), stream("b", 50), stream("c", 100, (1, 1))],
        {"a": [50], "b": [50], "c": [50, 50]},
        seed=0,
    )
    first, second = mixture.sequences(0), mixture.sequences(1)
    assert not np.array_equal(first["a"].rows, second["a"].rows)
    assert not np.array_equal(first["a"].rows, first["b"].rows)
    of_first = first["c"].corpora == 0
    assert not np.array_equal(first["c"].rows[of_first], first["c"].rows[~of_first])


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    mixture = Mixture([stream("a", 4)], {"a": [9]}, seed=5)
    late = mixture.sequences(12345)["a"]
    again = Mixture([stream("a", 4)], {"a": [9]}, seed=5).sequences(12345)["a"]
    assert np.array_equal(late.rows, again.rows)
    places = StreamOrder(stream("a", 4), [9], seed=5)(4 * 12345, 4 * 12346)
    assert np.array_equal(late.rows, places.rows)


def test_a_late_step_of_a_large_mixture_takes_milliseconds() -> None:
    mixture = Mixture([stream("a", 512, (3.7, 1.2))], {"a": [90_000_000, 10_000_000]}, seed=0)
    began_s = time.perf_counter()
    taken = mixture.sequences(1_000_000)["a"]
    assert time.perf_counter() - began_s < 0.5  # measured: 0.004
    assert taken.epochs.max() > 0


@given(SKIPPED)
def test_what_is_skipped_is_read_by_no_step_and_everything_else_by_one(
    left_out: tuple[range, ...],
) -> None:
    read = [data_step(step, left_out) for step in range(120)]
    assert read == [step for step in range(read[-1] + 1) if not any(step in r for r in left_out)]
    for step in range(read[-1] + 1):
        expected = read.index(step) if step in read else None
        assert optimizer_step(step, left_out) == expected
