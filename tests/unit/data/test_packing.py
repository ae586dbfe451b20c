"""kosmos.data.packing."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.data import packing
from kosmos.data.packing import Rows, fill, micro_batches, pack


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths])


def rows_of(rows: Rows) -> list[list[tuple[int, int, int]]]:
    pieces = list(
        zip(rows.documents.tolist(), rows.starts.tolist(), rows.stops.tolist(), strict=True)
    )
    bounds = rows.offsets.tolist()
    return [pieces[a:b] for a, b in itertools.pairwise(bounds)]


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(9, 20))
def test_filling_is_what_a_loop_would_do(lengths: list[int], capacity: int) -> None:
    expected, used = [0], 0
    for item, length in enumerate(lengths):
        if used + length > capacity:
            expected.append(item)
            used = 0
        used += length
    if lengths:
        expected.append(len(lengths))
    assert fill(np.array(lengths, dtype=np.int64), capacity).tolist() == expected


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3000),
    st.integers(6, 40),
    st.integers(1, 60),
    st.sampled_from([0, 1, 3]),
)
def test_lanes_fill_rows_as_one_after_another_does_or_give_up(
    seed: int, num_items: int, capacity: int, depth: int, shortest: int
) -> None:
    lengths = np.random.default_rng(seed).integers(shortest, 7, num_items)
    found = packing._fill_in_lanes(lengths, capacity, depth)
    if found is not None:
        assert found.tolist() == packing._fill_in_order(lengths, capacity).tolist()


@pytest.mark.parametrize("capacity", [2048, 1 << 15])
def test_lanes_are_what_fills_rows_of_many_documents(
    capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.8, 1.0, 300_000).astype(np.int64), 2, 2047) * (capacity >> 11)
    expected = packing._fill_in_order(lengths, capacity)
    monkeypatch.delattr(packing, "_fill_in_order")
    assert np.array_equal(fill(lengths, capacity), expected)


def test_lengths_that_never_meet_are_filled_all_the_same() -> None:
    lengths = np.full(300_000, 700, dtype=np.int64)
    assert fill(lengths, 2047).tolist() == [*range(0, 300_000, 2), 300_000]


def test_single_gives_a_document_a_row() -> None:
    rows = pack(offsets_of([3, 5]), np.array([], dtype=np.int64), packing="single", max_tokens=8)
    assert rows_of(rows) == [[(0, 0, 3)], [(1, 3, 8)]]


def test_isolated_puts_whole_documents_side_by_side() -> None:
    rows = pack(
        offsets_of([3, 5, 4]), np.array([], dtype=np.int64), packing="isolated", max_tokens=8
    )
    assert rows_of(rows) == [[(0, 0, 3), (1, 3, 8)], [(2, 8, 12)]]


def test_full_sentence_breaks_rows_at_lines_and_leaves_the_documents_own_starts_out() -> None:
    # <s> a a | b b b    <s> c    <s> d d d d      rows of seven tokens, <s> the first
    offsets = offsets_of([6, 2, 5])
    rows = pack(offsets, np.array([3]), packing="full-sentence", max_tokens=7)
    assert rows_of(rows) == [[(0, 1, 6), (1, 7, 8)], [(2, 9, 13)]]
    # one token fewer: the line of document 1 starts the next row
    rows = pack(offsets, np.array([3]), packing="full-sentence", max_tokens=6)
    assert rows_of(rows) == [[(0, 1, 6)], [(1, 7, 8), (2, 9, 13)]]


def test_a_line_longer_than_a_row_is_cut_and_loses_its_end() -> None:
    rows = pack(offsets_of([10, 3]), np.array([7]), packing="full-sentence", max_tokens=5)
    assert rows_of(rows) == [[(0, 1, 5)], [(0, 7, 10)], [(1, 11, 13)]]


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=12),
    st.integers(3, 16),
)
def test_full_sentence_loses_and_repeats_nothing_but_cut_ends(
    documents: list[list[int]], max_tokens: int
) -> None:
    capacity = max_tokens - 1
    offsets = offsets_of([1 + sum(lines) for lines in documents])
    ends = [
        int(start) + 1 + int(end)
        for start, lines in zip(offsets[:-1], documents, strict=True)
        for end in np.cumsum(lines)[:-1]
    ]
    rows = pack(
        offsets, np.array(ends, dtype=np.int64), packing="full-sentence", max_tokens=max_tokens
    )
    taken = []
    for row in rows_of(rows):
        assert sum(stop - start for _, start, stop in row) <= capacity
        for document, start, stop in row:
            assert offsets[document] < start < stop <= offsets[document + 1]
            taken += range(start, stop)
    expected = []
    for start, lines in zip(offsets[:-1].tolist(), documents, strict=True):
        begin = start + 1
        for length in lines:
            expected += range(begin, begin + min(length, capacity))
            begin += length
    assert taken == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_micro_batches_hold_every_row_once_within_the_limit(
    lengths: list[int], max_tokens: int
) -> None:
    groups = micro_batches(np.array(lengths), max_tokens)
    order = np.concatenate(groups).tolist()
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths)
    for group in groups:
        assert len(group) == 1 or len(group) * lengths[group[-1]] <= max_tokens


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), max_tokens=st.integers(1, 90))
def test_no_other_cut_has_fewer_positions_and_groups(lengths: list[int], max_tokens: int) -> None:
    def cost(groups: Sequence[Sequence[int]]) -> int:
        return sum(len(group) * group[-1] + max_tokens // 8 for group in groups)

    def is_allowed(group: Sequence[int]) -> bool:
        return len(group) == 1 or len(group) * group[-1] <= max_tokens

    ascending = sorted(lengths)
    found = [[lengths[i] for i in group] for group in micro_batches(np.array(lengths), max_tokens)]
    for number in range(len(lengths)):
        for cuts in itertools.combinations(range(1, len(lengths)), number):
            other = [ascending[i:j] for i, j in itertools.pairwise((0, *cuts, len(lengths)))]
            if all(map(is_allowed, other)):
                assert cost(found) <= cost(other)


def test_rows_of_very_different_lengths_are_not_filled_up_to_each_other() -> None:
    groups = micro_batches(np.array([2047, 450, 2000, 430]), 4096)
    assert [group.tolist() for group in groups] == [[3, 1], [2, 0]]


def test_packing_a_million_lines_takes_a_moment() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, 200_000)
    rows = pack(
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array([], dtype=np.int64),
        packing="full-sentence",
        max_tokens=2048,
    )
    filled = (rows.stops - rows.starts).sum() / (len(rows.offsets) - 1) / 2047
    assert filled > 0.97
