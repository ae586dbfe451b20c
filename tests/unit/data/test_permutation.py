"""kosmos.data.permutation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kosmos.data.permutation import Permutation


@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(0, 5))
def test_every_element_comes_exactly_once(size: int, seed: int, epoch: int) -> None:
    images = Permutation(size, seed, "text", epoch)(np.arange(size))
    assert np.array_equal(np.sort(images), np.arange(size))


@given(st.integers(1, 10**15), st.integers(0, 2**32), st.data())
def test_large_ranges_cost_no_memory_and_stay_inside(
    size: int, seed: int, data: st.DataObject
) -> None:
    indices = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8, unique=True))
    images = Permutation(size, seed)(np.array(indices))
    assert len(set(images.tolist())) == len(indices)
    assert images.min() >= 0
    assert images.max() < size


def test_an_element_does_not_depend_on_the_others_asked_for() -> None:
    permutation = Permutation(1000, 7, "a")
    one_by_one = [int(permutation(np.array([index]))[0]) for index in range(50)]
    assert permutation(np.arange(50)).tolist() == one_by_one


def test_seeds_and_keys_give_other_orders_and_equal_ones_the_same() -> None:
    orders = [
        Permutation(500, seed, *keys)(np.arange(500)).tolist()
        for seed, keys in ((0, ("a", 0)), (0, ("a", 1)), (0, ("b", 0)), (1, ("a", 0)))
    ]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))
    assert Permutation(500, 0, "a", 0)(np.arange(500)).tolist() == orders[0]


def test_small_permutations_are_uniform_enough() -> None:
    # 24 orders of four elements, 1,200 seeds: each is expected 50 times, deviation 7
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(1200):
        order = tuple(Permutation(4, seed)(np.arange(4)).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert min(counts.values()) > 20
    assert max(counts.values()) < 85


def test_order_is_pinned_so_that_old_runs_can_be_resumed() -> None:
    order = Permutation(10, 0, "text", 0)(np.arange(10))
    assert order.tolist() == [2, 3, 5, 4, 6, 0, 9, 7, 1, 8]


@given(st.integers(1, 3000), st.integers(0, 5))
def test_the_inverse_finds_where_each_value_comes_from(size: int, seed: int) -> None:
    permutation = Permutation(size, seed, "a")
    indices = np.arange(size, dtype=np.int64)
    assert np.array_equal(permutation.inverse(permutation(indices)), indices)
