"""One optimizer step: what it minimizes, and how it moves the weights; and held-out losses.

An objective owns the module that is trained and checkpointed. It gives every micro-batch a weight
and a summed loss; the step divides once, by the weight of all its micro-batches. The next token's
is here, region-word contrast for a vision tower in regions.py.

The gradient of a step is the sum over all its micro-batches, of all processes, of the summed loss,
over the sum of their loss weights: the mean over the step's tokens, however they are cut into
micro-batches and dealt to processes.

Source: fairseq's gradient scaling as the release uses it (spec: sum over workers and accumulation
steps, divided once by the number of loss tokens), then clipping by the global norm.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from kosmos.data.batch import Batch
from kosmos.model.cost import training_flops
from kosmos.model.kosmos import Kosmos
from kosmos.model.loss import token_loss, token_losses
from kosmos.runtime import generator
from kosmos.train.config import TrainConfig
from kosmos.train.parallel import ALONE, Processes, whole

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What was not finite in a step."""

    what: str
    """The quantity and what it was."""
    stream: str
    """Stream of the micro-batch; empty if it is of the whole step."""
    document_ids: tuple[str, ...]
    """Documents in the micro-batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step measured, over all processes."""

    loss: float
    """Mean over the step's loss tokens, in nats."""
    losses: dict[str, float]
    """The same by stream."""
    num_tokens: int
    """Positions, image slots included and padding not."""
    num_loss_tokens: float
    """Sum of the loss weights."""
    num_positions: int
    """Positions that were computed, padding and fillers included."""
    num_fillers: int
    """Micro-batches without loss that only kept processes in step."""
    flops: int
    """Operations that the step needed, see :meth:`Objective.flops`."""
    grad_norm: float
    """Global norm of the gradient before clipping."""
    problems: tuple[Problem, ...] = field(default=())
    """Why the weights did not move; empty if they did."""


def training_step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    learning_rate: float,
    clip_norm: float,
    seed: int,
    step: int,
    processes: Processes = ALONE,
) -> StepResult:
    """Move the weights once, unless the loss or the gradient is not finite.

    Args:
        objective: What is minimized; its module is in training mode.
        optimizer: Over what learns; its rate is set here.
        batches: The micro-batches of the step that are this process's.
        learning_rate: Of this step.
        clip_norm: Limit of the global gradient norm; 0 turns clipping off.
        seed: Dropout follows from it, the step and the micro-batch.
        step: Its number, for dropout.
        processes: All that take this step together.
    """
    weights = [objective.weight(batch) for batch in batches]
    (total,) = processes.sum([math.fsum(weights)])
    sums = []
    for batch in batches:
        # by its place among all processes' micro-batches: dropout does not depend on their number
        torch.manual_seed(int(generator(seed, "dropout", step, batch.place).integers(2**63)))
        summed = objective.loss(batch)
        if summed.requires_grad:  # not where adapters see pictures alone and there is none
            (summed / total).backward()  # type: ignore[no-untyped-call]
        sums.append(summed.detach())
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    numbers = torch.stack(sums).tolist()  # here the process waits for its device, once
    grad_norm = float(norm)
    losses, loss = _mean_losses(batches, weights, numbers, processes)
    problems = _problems(batches, numbers, loss, grad_norm, processes)
    if not problems:
        if clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    counts = [
        (batch.num_tokens, batch.num_positions, batch.is_filler, objective.flops(batch))
        for batch in batches
    ]
    sums_of_counts = processes.sum([sum(column) for column in zip(*counts, strict=True)])
    num_tokens, num_positions, num_fillers, flops = map(int, sums_of_counts)
    return StepResult(
        loss=loss,
        losses=losses,
        num_tokens=num_tokens,
        num_loss_tokens=total,
        num_positions=num_positions,
        num_fillers=num_fillers,
        flops=flops,
        grad_norm=grad_norm,
        problems=problems,
    )


@torch.no_grad()
def heldout_losses(objective: Objective, batches: Sequence[Batch]) -> dict[str, float]:
    """Mean loss of each stream in batches that are not trained on, the same in every process."""
    was_training = objective.module.training
    objective.module.eval()
    sums = [float(objective.loss(batch)) for batch in batches]
    objective.module.train(was_training)
    weights = [objective.weight(batch) for batch in batches]
    return _mean_losses(batches, weights, sums, ALONE)[0]


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
        return training_flops(
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


def as_tensor(array: np.ndarray | None, device: torch.device) -> Tensor:
    """A copy of an array, not a view of it.

    Matrix kernels round by the alignment of their operands, and only memory of torch's own is
    always aligned the same; a view would make a resumed run differ in the last bit.
    """
    assert array is not None
    return torch.tensor(array).to(device, non_blocking=True)


def _mean_losses(
    batches: Sequence[Batch],
    weights: Sequence[float],
    sums: Sequence[float],
    processes: Processes,
) -> tuple[dict[str, float], float]:
    """Mean loss of each stream and of all, from each micro-batch's weight and summed loss."""
    # every process has micro-batches of the same streams in the same order
    streams = list(dict.fromkeys(batch.stream for batch in batches))
    of_streams = []
    for numbers in (weights, sums):
        for stream in streams:
            of_stream = (n for n, b in zip(numbers, batches, strict=True) if b.stream == stream)
            of_streams.append(_sum(of_stream))
    together = processes.sum(of_streams)
    totals, losses = together[: len(streams)], together[len(streams) :]
    means = {
        stream: loss / total
        for stream, loss, total in zip(streams, losses, totals, strict=True)
        if total > 0
    }
    return means, _sum(losses) / _sum(totals)


def _sum(numbers: Iterable[float]) -> float:
    """Exact, and NaN or infinity where one of them is."""
    values = list(numbers)
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


def _problems(
    batches: Sequence[Batch],
    sums: Sequence[float],
    loss: float,
    grad_norm: float,
    processes: Processes,
) -> tuple[Problem, ...]:
    """What is not finite, in any process; the same in all."""
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return ()
    mine = [
        Problem(what=f"a loss of {number}", stream=batch.stream, document_ids=batch.document_ids)
        for batch, number in zip(batches, sums, strict=True)
        if not math.isfinite(number)
    ]
    problems = [problem for found in processes.gather(mine) for problem in found]
    if not problems:
        what = f"a gradient of norm {grad_norm} although every loss is finite"
        problems = [Problem(what=what, stream="", document_ids=())]
    return tuple(problems)


def _lengths(batch: Batch) -> Int64[np.ndarray, " sequences"]:
    """Tokens of everything that attends to itself alone: rows, or the documents in them."""
    if batch.segments is None:
        # padding is on the right, and belongs to no document
        lengths: Int64[np.ndarray, " sequences"] = (batch.documents[:, 1:] >= 0).sum(axis=1)
        return lengths
    rows = np.arange(len(batch.segments))[:, None] * (batch.segments.shape[1] + 1)
    counts = np.bincount((rows + batch.segments)[batch.segments >= 0])
    return counts[counts > 0]
