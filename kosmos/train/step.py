"""One optimizer step, and the loss of held-out batches.

The gradient of a step is the sum over all its micro-batches of the summed loss, over the sum of
their loss weights: the mean over the step's tokens, however they are cut into micro-batches.

Source: fairseq's gradient scaling as the release uses it (spec: sum over workers and accumulation
steps, divided once by the number of loss tokens), then clipping by the global norm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kosmos.data.batch import Batch
from kosmos.errors import DataError
from kosmos.runtime import generator
from kosmos.train.objectives import Objective

_NUM_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step measured."""

    loss: float
    """Mean over the step's loss tokens, in nats."""
    losses: dict[str, float]
    """The same by stream."""
    num_tokens: int
    """Positions, image slots included and padding not."""
    num_loss_tokens: float
    """Sum of the loss weights."""
    grad_norm: float
    """Global norm of the gradient before clipping."""


def training_step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    learning_rate: float,
    clip_norm: float,
    seed: int,
    step: int,
) -> StepResult:
    """Move the weights once.

    Args:
        objective: What is minimized; its module is in training mode.
        optimizer: Over what learns; its rate is set here.
        batches: All micro-batches of the step.
        learning_rate: Of this step.
        clip_norm: Limit of the global gradient norm; 0 turns clipping off.
        seed: Dropout follows from it, the step and the micro-batch.
        step: Its number, for dropout and messages.

    Raises:
        DataError: If the loss or the gradient is not finite; the weights are as they were.
    """
    weights = [objective.weight(batch) for batch in batches]
    total = math.fsum(weights)
    sums = []
    for place, batch in enumerate(batches):
        torch.manual_seed(int(generator(seed, "dropout", step, place).integers(2**63)))
        loss = objective.loss(batch)
        (loss / total).backward()  # type: ignore[no-untyped-call]
        sums.append(loss.detach())
    _check_losses(batches, torch.stack(sums).tolist(), step)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    grad_norm = float(norm)
    if not math.isfinite(grad_norm):
        raise DataError(
            f"step {step}: expected a finite gradient, found norm {grad_norm} although every loss "
            f"is finite",
            hint="lower train.learning_rate, or resume from the last checkpoint",
        )
    if clip_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    losses = mean_losses(batches, weights, [float(loss) for loss in sums])
    return StepResult(
        loss=math.fsum(map(float, sums)) / total,
        losses=losses,
        num_tokens=sum(batch.num_tokens for batch in batches),
        num_loss_tokens=total,
        grad_norm=grad_norm,
    )


@torch.no_grad()
def heldout_losses(objective: Objective, batches: Sequence[Batch]) -> dict[str, float]:
    """Mean loss of each stream in batches that are not trained on."""
    was_training = objective.module.training
    objective.module.eval()
    sums = [float(objective.loss(batch)) for batch in batches]
    objective.module.train(was_training)
    return mean_losses(batches, [objective.weight(batch) for batch in batches], sums)


def mean_losses(
    batches: Sequence[Batch], weights: Sequence[float], sums: Sequence[float]
) -> dict[str, float]:
    """Mean loss of each stream from the weight and the summed loss of each micro-batch."""
    means = {}
    for stream in dict.fromkeys(batch.stream for batch in batches):
        of_stream = [place for place, batch in enumerate(batches) if batch.stream == stream]
        weight = math.fsum(weights[place] for place in of_stream)
        means[stream] = math.fsum(sums[place] for place in of_stream) / weight
    return means


def _check_losses(batches: Sequence[Batch], sums: Sequence[float], step: int) -> None:
    for batch, loss in zip(batches, sums, strict=True):
        if not math.isfinite(loss):
            ids = batch.document_ids
            more = f" and {len(ids) - _NUM_NAMED} more" if len(ids) > _NUM_NAMED else ""
            raise DataError(
                f"step {step}: expected a finite loss, found {loss} in stream {batch.stream!r}, "
                f"documents {', '.join(map(repr, ids[:_NUM_NAMED]))}{more}",
                hint="look at those documents; a lower train.learning_rate or a longer warm-up "
                "often helps; the last checkpoint is untouched",
            )
