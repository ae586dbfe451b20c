"""One optimizer step, and the loss of held-out batches.

The gradient of a step is the sum over all its micro-batches, of all processes, of the summed loss,
over the sum of their loss weights: the mean over the step's tokens, however they are cut into
micro-batches and dealt to processes.

Source: fairseq's gradient scaling as the release uses it (spec: sum over workers and accumulation
steps, divided once by the number of loss tokens), then clipping by the global norm.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from kosmos.data.batch import Batch
from kosmos.errors import DataError
from kosmos.runtime import generator
from kosmos.train.objectives import Objective
from kosmos.train.parallel import ALONE, Processes, whole


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


def nonfinite_error(problems: Sequence[Problem], step: int) -> DataError:
    """The error that ends a run whose step was not finite."""
    first = problems[0]
    where = ""
    if first.stream:
        ids = first.document_ids
        more = f" and {len(ids) - _NUM_NAMED} more" if len(ids) > _NUM_NAMED else ""
        named = ", ".join(map(repr, ids[:_NUM_NAMED]))
        where = f" in stream {first.stream!r}, documents {named}{more}"
    return DataError(
        f"step {step}: expected finite numbers, found {first.what}{where}",
        hint="look at those documents in events.jsonl; a lower train.learning_rate or a longer "
        "warm-up often helps; the last checkpoint is untouched",
    )


_NUM_NAMED = 5


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
