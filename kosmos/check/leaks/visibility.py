"""Who sees whom in a batch, as the model will have it."""

import numpy as np
import torch
from jaxtyping import Bool

from kosmos.data.batch import Batch
from kosmos.model.pattern import causal_pattern
from kosmos.train.step import as_tensor


def who_sees_whom(batch: Batch) -> Bool[np.ndarray, "batch positions length"]:
    """Whether each position attends to each, padding included.

    Asked of the function that every decoder layer gets its mask from, with what training gives it.
    """
    rows, tokens = batch.token_ids.shape
    like = torch.zeros(())
    pattern = causal_pattern(
        tokens,
        segments=None if batch.segments is None else as_tensor(batch.segments, like.device),
        valid=None,
        past=0,
        rotation=None,
        like=like,
    )
    return pattern.sees(rows, tokens).numpy()
