"""What a run minimizes: the next token, or region-word contrast for a vision tower.

An objective owns the module that is trained and checkpointed. It gives every micro-batch a weight
and a summed loss; the step divides once, by the weight of all its micro-batches.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kosmos.data.batch import Batch
from kosmos.model.kosmos import Kosmos
from kosmos.model.loss import token_loss
from kosmos.text.vocabulary import Vocabulary
from kosmos.train.config import TrainConfig
from kosmos.train.optimizer import freeze_vision
from kosmos.train.regions import RegionContrast
from kosmos.train.tensors import as_tensor


@runtime_checkable  # so that the shape checks of the tests can ask
class Objective(Protocol):
    """What the step and the checkpoint need to know."""

    @property
    def module(self) -> nn.Module:
        """What is trained and checkpointed."""

    @property
    def methods(self) -> tuple[str, ...]:
        """What of the module reads weights beside ``forward``."""

    def weight(self, batch: Batch) -> float:
        """How much a micro-batch counts; known before its loss is."""

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Summed loss of a micro-batch, in nats."""


def make_objective(model: Kosmos, config: TrainConfig, vocabulary: Vocabulary) -> Objective:
    """The objective a run asks for, with what does not learn frozen.

    Raises:
        ConfigError: If the model or the vocabulary lacks what the objective needs.
    """
    if config.objective == "regions":
        return RegionContrast(model, vocabulary)
    freeze_vision(model, config.vision)
    return NextToken(model)


class NextToken:
    """Predict every token that counts from those before it.

    Source: KOSMOS-1 section 2.3; loss on discrete tokens only, in float32.
    """

    def __init__(self, model: Kosmos) -> None:
        self.module = model
        self.methods = ("encode_images",)

    def weight(self, batch: Batch) -> float:
        """Sum of the loss weights of its tokens."""
        return batch.num_loss_tokens

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Summed loss of its tokens."""
        model = self.module
        device = model.head_weight.device
        soft_tokens, idle = None, None
        if batch.pixels is not None:
            soft_tokens = model.encode_images(as_tensor(batch.pixels, device))
        elif batch.needs_images:
            idle = self._idle_tower(device)
        isolated = batch.segments is not None
        hidden = model(
            as_tensor(batch.token_ids, device),
            image_slots=None if soft_tokens is None else as_tensor(batch.image_slots, device),
            image_embeddings=soft_tokens,
            # plain causal rows count from 0, which is what the model does by itself
            positions=as_tensor(batch.positions, device) if isolated else None,
            segments=as_tensor(batch.segments, device) if isolated else None,
        )
        loss = token_loss(
            hidden,
            model.head_weight,
            as_tensor(batch.targets, device),
            as_tensor(batch.loss_weights, device),
        )
        return loss if idle is None else loss + idle

    def _idle_tower(self, device: torch.device) -> Float[Tensor, ""]:
        """Zero, by way of the vision tower, which other processes run at this moment.

        Weights that are split over all processes are put together by all or by none.
        """
        config = self.module.config.vision
        assert config is not None
        blank = torch.zeros((1, 3, config.image_size, config.image_size), device=device)
        return self.module.encode_images(blank).float().sum() * 0.0
