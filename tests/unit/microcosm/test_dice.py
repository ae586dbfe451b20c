from collections import Counter

from kosmos.microcosm.dice import BLOCK, Dice


def test_draws_follow_from_seed_and_keys_alone():
    def draws(*keys):
        dice = Dice(*keys)
        return [dice.uniform() for _ in range(2 * BLOCK + 1)]

    assert draws(0, "a", 1) == draws(0, "a", 1)
    assert len({tuple(draws(*keys)) for keys in [(0, "a", 1), (1, "a", 1), (0, "a", 2)]}) == 3


def test_whole_numbers_include_both_ends_equally_often():
    dice = Dice(0, "ends")
    counts = Counter(dice.between(2, 5) for _ in range(8000))
    assert set(counts) == {2, 3, 4, 5}
    assert min(counts.values()) > 1800


def test_samples_and_shuffles_lose_nothing():
    dice = Dice(0, "shuffle")
    assert sorted(dice.shuffled(range(20))) == list(range(20))
    assert len(set(dice.sample(range(20), 7))) == 7


def test_every_order_of_a_shuffle_is_as_likely():
    dice = Dice(0, "orders")
    counts = Counter(tuple(dice.shuffled("abc")) for _ in range(6000))
    assert len(counts) == 6
    assert min(counts.values()) > 850
