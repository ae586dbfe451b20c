"""The unigram baseline: what a model must beat to have learned anything but token frequencies."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Real

from kosmos.data.batch import Batch


def unigram_loss(token_counts: Real[np.ndarray, " vocab"], batches: Sequence[Batch]) -> float:
    """Mean negative log-likelihood, in nats, of the tokens of some batches on which loss falls.

    Args:
        token_counts: How often loss falls on each token in training; one is added to each, so
            that a token never seen has a probability.
        batches: Held-out batches of the same stream.
    """
    counts = token_counts + 1.0
    surprise = np.log(counts.sum()) - np.log(counts)
    total = sum(float((surprise[batch.targets] * batch.loss_weights).sum()) for batch in batches)
    return total / sum(batch.num_loss_tokens for batch in batches)
