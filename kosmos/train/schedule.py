"""The learning rate: linear from zero to the peak, then linear to zero.

Source: KOSMOS-1 (arXiv:2302.14045) Table 18 and KOSMOS-2 (arXiv:2306.14824) Table 7; the formula is
that of the release (fairseq's polynomial decay with power 1).
"""

from kosmos.train.config import TrainConfig


def learning_rate(update: int, config: TrainConfig) -> float:
    """Rate of an update, ``peak * n / warmup`` and then ``peak * (steps - n) / (steps - warmup)``.

    The last update, at ``n = steps``, has rate zero, as the formula says.

    Args:
        update: Its number n, counted from 1.
        config: Peak, warm-up and length.
    """
    if update <= config.warmup_steps:
        return config.learning_rate * update / config.warmup_steps
    left = (config.steps - update) / (config.steps - config.warmup_steps)
    return config.learning_rate * max(0.0, left)
