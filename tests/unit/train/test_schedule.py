"""kosmos.train.schedule."""

import dataclasses

import pytest

from kosmos.train.config import TrainConfig
from kosmos.train.schedule import learning_rate

PAPER = TrainConfig(steps=60_000, warmup_steps=375, learning_rate=2e-4)


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (1, 2e-4 / 375),
        (100, 2e-4 * 100 / 375),
        (375, 2e-4),
        (376, 2e-4 * 59_624 / 59_625),
        (30_000, 2e-4 * 30_000 / 59_625),
        (60_000, 0.0),
    ],
)
def test_rates_are_those_of_the_release(update: int, expected: float) -> None:
    assert learning_rate(update, PAPER) == pytest.approx(expected, rel=1e-12)


def test_without_warmup_the_first_step_is_just_below_the_peak() -> None:
    config = dataclasses.replace(PAPER, warmup_steps=0, steps=10)
    assert learning_rate(1, config) == pytest.approx(2e-4 * 0.9)


def test_a_run_that_is_all_warmup_ends_at_the_peak() -> None:
    config = dataclasses.replace(PAPER, warmup_steps=10, steps=10)
    assert learning_rate(10, config) == pytest.approx(2e-4)
