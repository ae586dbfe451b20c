"""What trains, the optimizer that moves it, and how fast.

- :func:`freeze_vision`: which part of the vision tower learns
- :func:`make_optimizer`: AdamW over what learns
- :func:`learning_rate`: linear from zero to the peak, then linear to zero
"""

import torch
from torch import nn

from kosmos.errors import ConfigError
from kosmos.model.cost import VisionTraining
from kosmos.model.kosmos import Kosmos
from kosmos.train.config import TrainConfig


def freeze_vision(model: Kosmos, rule: VisionTraining) -> None:
    """Set which parameters of the vision tower learn; the decoder and the connector always do.

    ``last-layer`` is the tower's last transformer block and nothing else: embeddings, earlier
    blocks and the norms around them stay as they were.

    Source: KOSMOS-1 section 3.2 (frozen "except for the last layer"), KOSMOS-2 section 3.3 (all);
    the release always freezes all of it, whatever its flags say.
    """
    if model.vision is None:
        return
    model.vision.requires_grad_(rule == "all")
    if rule == "last-layer":
        model.vision.layers[-1].requires_grad_(True)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with decoupled decay.

    With ``decay_all`` there is one group and every parameter decays, norms, biases and embeddings
    too, as fairseq's optimizer does. Otherwise those three do not.

    Args:
        model: Frozen where it does not learn; frozen parameters get no state.
        config: Rate, moments, epsilon and decay.

    Raises:
        ConfigError: If no parameter learns.
    """
    no_decay = set() if config.decay_all else _no_decay(model)
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name not in no_decay].append(parameter)
    if not groups[True] and not groups[False]:
        raise ConfigError("train: expected parameters that learn, found none")
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": config.weight_decay if decays else 0.0}
            for decays, parameters in groups.items()
            if parameters
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        # one pass over memory instead of one per operation
        fused=True,
    )


def learning_rate(update: int, config: TrainConfig) -> float:
    """Rate of an update: ``peak * n / warmup``, then ``peak * (steps - n + 1) / (steps - warmup)``.

    The first update behind the warm-up has the peak again, the last still moves the weights, by
    ``peak / (steps - warmup)``; the rate would be zero one update later.

    Args:
        update: Its number n, counted from 1.
        config: Peak, warm-up and length.

    Source: KOSMOS-1 (arXiv:2302.14045) Table 18 and KOSMOS-2 (arXiv:2306.14824) Table 7; the
    formula is that of the release, fairseq's polynomial decay with power 1, which sets the rate of
    an update by how many are done: n - 1. Departure: there the warm-up counts so too, and the first
    update of a run has rate zero; here it counts n, and no update is lost.
    """
    if update <= config.warmup_steps:
        return config.learning_rate * update / config.warmup_steps
    left = (config.steps - update + 1) / (config.steps - config.warmup_steps)
    return config.learning_rate * max(0.0, left)


def _no_decay(model: nn.Module) -> set[str]:
    """Names of biases, and of norms' and embeddings' parameters."""
    names = set()
    for path, module in model.named_modules():
        whole = isinstance(module, nn.LayerNorm | nn.Embedding)
        for key, _ in module.named_parameters(recurse=False):
            if whole or key == "bias" or key.endswith("embedding") or key == "latents":
                names.add(f"{path}.{key}")
    return names
