"""What a run minimizes: the next token, or region-word contrast for a vision tower.

An objective owns the module that is trained and checkpointed. It gives every micro-batch a weight
and a summed loss; the step divides once, by the weight of all its micro-batches.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from kosmos.data.batch import Batch
from kosmos.model.adapter_cost import flops_of
from kosmos.model.kosmos import Kosmos
from kosmos.model.loss import token_loss, token_losses
from kosmos.text.vocabulary import Vocabulary
from kosmos.train.config import TrainConfig
from kosmos.train.optimizer import freeze_vision
from kosmos.train.regions import RegionContrast
from kosmos.train.tensors import as_tensor

_EVERYTHING = TrainConfig(steps=1, warmup_steps=0, learning_rate=1.0, vision="all")


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

    def document_losses(self, batch: Batch) -> Float64[np.ndarray, "2 documents"]:
        """Summed loss and weight of each document of a micro-batch, without gradients."""

    def flops(self, batch: Batch) -> int:
        """Operations of the matrix products that a micro-batch needs, there and back.

        Those of what is real in it: neither padding nor what is computed twice counts, and a
        document that stands alone in a row is compared with itself only.
        """


def make_objective(model: Kosmos, config: TrainConfig, vocabulary: Vocabulary) -> Objective:
    """The objective a run asks for, with what does not learn frozen.

    Raises:
        ConfigError: If the model or the vocabulary lacks what the objective needs.
    """
    if config.objective == "regions":
        return RegionContrast(model, vocabulary)
    freeze_vision(model, config.vision)
    return NextToken(model, config)


class NextToken(nn.Module):
    """Predict every token that counts from those before it.

    Args:
        model: What learns of it is set already.
        config: Says what learns, for the count of operations; None: everything.

    Source: KOSMOS-1 section 2.3; loss on discrete tokens only, in float32.
    """

    def __init__(self, model: Kosmos, config: TrainConfig | None = None) -> None:
        super().__init__()
        self.model = model
        self._config = config or _EVERYTHING

    @property
    def module(self) -> nn.Module:
        """The model, and around it the whole way from a batch to its loss.

        One call for all of it, so that split weights are put together and gradients summed in the
        same order in every process, whether a process has pictures or not.
        """
        return self

    @property
    def methods(self) -> tuple[str, ...]:
        """It has no ``forward``; these read the model's weights."""
        return ("loss", "document_losses")

    def weight(self, batch: Batch) -> float:
        """Sum of the loss weights of its tokens."""
        return batch.num_loss_tokens

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Summed loss of its tokens."""
        hidden, idle = self._read(batch)
        device = hidden.device
        loss = token_loss(
            hidden,
            self.model.head_weight,
            as_tensor(batch.targets, device),
            as_tensor(batch.loss_weights, device),
        )
        return loss if idle is None else loss + idle

    @torch.no_grad()
    def document_losses(self, batch: Batch) -> Float64[np.ndarray, "2 documents"]:
        """Summed loss and loss weight of each document."""
        hidden, _ = self._read(batch)
        device = hidden.device
        losses = token_losses(
            hidden,
            self.model.head_weight,
            as_tensor(batch.targets, device),
            as_tensor(batch.loss_weights, device),
        )
        owners = batch.documents[:, 1:]
        counts = (owners >= 0) & (batch.loss_weights > 0)
        measured = (losses.double().cpu().numpy(), batch.loss_weights)
        size = len(batch.document_ids)
        return np.stack([np.bincount(owners[counts], m[counts], size) for m in measured])

    def flops(self, batch: Batch) -> int:
        """Operations of a forward pass and of the gradients of what learns."""
        if batch.is_filler:
            return 0
        lengths = _lengths(batch)
        return flops_of(
            self.model.config,
            adapter=self._config.adapter,
            vision=self._config.vision,
            tokens=int(lengths.sum()),
            pairs=int((lengths**2).sum()),
            images=0 if batch.pixels is None else len(batch.pixels),
            loss_tokens=int((batch.loss_weights > 0).sum()),
        )

    def _read(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "batch tokens width"], Float[Tensor, ""] | None]:
        """What the decoder makes of its rows; and zero by way of a vision tower that is idle."""
        model = self.model
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
        return hidden, idle

    def _idle_tower(self, device: torch.device) -> Float[Tensor, ""]:
        """Zero, by way of the vision tower, which other processes run at this moment.

        Weights that are split over all processes are put together by all or by none.
        """
        config = self.model.config.vision
        assert config is not None
        blank = torch.zeros((1, 3, config.image_size, config.image_size), device=device)
        return self.model.encode_images(blank).float().sum() * 0.0


def _lengths(batch: Batch) -> Int64[np.ndarray, " sequences"]:
    """Tokens of everything that attends to itself alone: rows, or the documents in them."""
    if batch.segments is None:
        # padding is on the right, and belongs to no document
        lengths: Int64[np.ndarray, " sequences"] = (batch.documents[:, 1:] >= 0).sum(axis=1)
        return lengths
    rows = np.arange(len(batch.segments))[:, None] * (batch.segments.shape[1] + 1)
    counts = np.bincount((rows + batch.segments)[batch.segments >= 0])
    return counts[counts > 0]
