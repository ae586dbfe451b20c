"""kosmos.data.batch: the unigram baseline."""

import math

import numpy as np
import pytest

from kosmos.data.batch import Batch, unigram_loss


def batch(targets: list[int], weights: list[float]) -> Batch:
    shape = (1, len(targets))
    return Batch(
        stream="a",
        token_ids=np.zeros(shape, dtype=np.int64),
        targets=np.array([targets]),
        loss_weights=np.array([weights], dtype=np.float32),
        positions=np.zeros(shape, dtype=np.int64),
        segments=None,
        image_slots=np.zeros(shape, dtype=np.bool_),
        pixels=None,
        document_ids=(),
        documents=np.full((1, len(targets) + 1), -1, dtype=np.int32),
    )


def test_unigram_loss_is_the_mean_surprise_with_one_added_to_every_count() -> None:
    counts = np.array([3, 0, 1, 0])  # with one added: 4 1 2 1 of 8
    loss = unigram_loss(counts, [batch([0, 1, 2], [1, 1, 0]), batch([2], [1])])
    assert loss == pytest.approx((math.log(2) + math.log(8) + math.log(4)) / 3)


def test_without_any_training_token_it_is_that_of_a_uniform_guess() -> None:
    assert unigram_loss(np.zeros(16, dtype=np.int64), [batch([5, 6], [1, 1])]) == pytest.approx(
        math.log(16)
    )
