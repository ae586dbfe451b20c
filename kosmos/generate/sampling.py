"""One token per row from log-probabilities: the likeliest, or one drawn.

A draw inverts the cumulative distribution, likeliest token first, at a uniform number from the
row's own stream. What a row draws therefore depends on its seed and its log-probabilities only,
not on its neighbors in the batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kosmos.generate.config import Decoding


def choose(
    log_probs: Float[Tensor, "rows vocab"],
    decoding: Decoding,
    rngs: Sequence[np.random.Generator],
) -> list[int]:
    """The next token of each row.

    Args:
        log_probs: Of the next token; minus infinity where a token is forbidden.
        decoding: Temperature, top-k and top-p.
        rngs: One stream per row; one number is taken from each when tokens are drawn.
    """
    if not decoding.is_sampled:
        return [int(index) for index in log_probs.argmax(dim=-1).tolist()]
    uniform = torch.tensor([rng.random() for rng in rngs], dtype=torch.float64)
    return [int(index) for index in draw(log_probs, decoding, uniform).tolist()]


def draw(
    log_probs: Float[Tensor, "rows vocab"],
    decoding: Decoding,
    uniform: Float[Tensor, " rows"],
) -> Int[Tensor, " rows"]:
    """Invert each row's filtered cumulative distribution at a number in [0, 1).

    Temperature comes first, then top-k, then top-p, as in Hugging Face.
    """
    scaled = log_probs.detach().to("cpu", torch.float64) / decoding.temperature
    if decoding.top_k:
        scaled, order = scaled.topk(min(decoding.top_k, scaled.shape[-1]), dim=-1)
    else:
        scaled, order = scaled.sort(dim=-1, descending=True, stable=True)
    probs = scaled.softmax(dim=-1)
    # a token stays while those before it have not reached top_p; the first always stays
    before = probs.cumsum(dim=-1) - probs
    probs = torch.where(before < decoding.top_p, probs, 0.0)
    cumulative = probs.cumsum(dim=-1)
    total = cumulative[:, -1:]
    rank = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    # rounding may push the number past the last token that has any probability
    last = (probs > 0.0).sum(dim=-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(rank, last)).squeeze(1)
