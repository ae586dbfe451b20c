"""The training loss: negative log-likelihood where it counts, and all logits nowhere.

Image slots, prompts and padding carry no loss, so their rows never meet the vocabulary. The rest
goes through the head a chunk at a time, and each chunk leaves its gradient behind instead of its
logits: one pass through the head forward and two back, as without chunks, and no recomputation.

The price: the gradient of the head exists from the forward pass on, and there is no second
derivative. ``benchmarks/head_loss.py`` prints time and memory against all logits at once.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from kosmos.model.config import CHUNK_TOKENS

_BLOCK_TOKENS = 512
"""Tokens of the vocabulary that a product on a CPU takes at once: 84 GFLOP/s where all 65,037 at
once reach 61 and a large square product 95 (256 and 512 rows, one thread, MKL on an AMD EPYC)."""


def token_loss(
    hidden: Float[Tensor, "*batch width"],
    head_weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "*batch"],
    weights: Float[Tensor, "*batch"],
    *,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Float[Tensor, ""]:
    """Sum of the weighted negative log-likelihoods of the targets, in nats.

    Divide by the sum of weights over all workers and micro-batches for the mean per token, as the
    release does. The products run in the dtype of ``hidden`` (or autocast's), everything after
    them in float32 at least.

    Args:
        hidden: After the final norm.
        head_weight: The output head.
        targets: Token that follows each position; read only where the weight is positive.
        weights: How much each position counts; 0 for not at all.
        chunk_tokens: Positions that go through the head together.

    Returns:
        A scalar, 0 with zero gradients if no weight is positive.
    """
    rows = (weights.flatten() > 0).nonzero().squeeze(1)
    chosen = hidden.flatten(0, -2).index_select(0, rows)
    loss: Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        chosen,
        head_weight,
        targets.flatten()[rows],
        weights.flatten()[rows],
        chunk_tokens,
    )
    return loss


@torch.no_grad()
def token_losses(
    hidden: Float[Tensor, "*batch width"],
    head_weight: Float[Tensor, "vocab width"],
    targets: Int[Tensor, "*batch"],
    weights: Float[Tensor, "*batch"],
    *,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Float[Tensor, "*batch"]:
    """What each position adds to :func:`token_loss`, in float32, without gradients.

    Args:
        hidden: After the final norm.
        head_weight: The output head.
        targets: Token that follows each position.
        weights: How much each position counts; where 0, so is the result.
        chunk_tokens: Positions that go through the head together.
    """
    rows = (weights.flatten() > 0).nonzero().squeeze(1)
    losses = hidden.new_zeros(weights.numel(), dtype=torch.float32)
    for start in range(0, len(rows), chunk_tokens):
        chunk = rows[start : start + chunk_tokens]
        logits = (hidden.flatten(0, -2)[chunk] @ head_weight.T).float()
        chosen = logits.gather(1, targets.flatten()[chunk].unsqueeze(1)).squeeze(1)
        losses[chunk] = logits.logsumexp(1) - chosen
    return losses.view(weights.shape) * weights


class _ChunkedLoss(torch.autograd.Function):
    """Loss of selected rows, whose gradients are computed on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        weights: Tensor,
        chunk_tokens: int,
    ) -> Tensor:
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        device = hidden.device.type
        dtype = hidden.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_head = torch.zeros_like(head, dtype=exact) if wants_head else None
        total = hidden.new_zeros((), dtype=exact)
        with torch.autocast(device, enabled=False):
            matrix = head.to(dtype)
            shape = min(chunk_tokens, len(hidden)), len(head)
            room = hidden.new_empty(shape, dtype=exact)  # new pages would cost as much as writing
            for start in range(0, len(hidden), chunk_tokens):
                chunk = slice(start, start + chunk_tokens)
                states, weight = hidden[chunk].to(dtype), weights[chunk].to(exact)
                logits = _products(states, matrix, out=room[: len(states)])
                target = targets[chunk].unsqueeze(1)
                highest, chosen = logits.amax(1, keepdim=True), logits.gather(1, target)
                slopes = torch.softmax(logits, 1, out=logits)
                # the highest is divided by the sum, which gives the sum without a pass of its own
                norms = highest - slopes.amax(1, keepdim=True).log()
                total += torch.dot((norms - chosen).squeeze(1), weight)
                if not wants_hidden and not wants_head:
                    continue
                # d loss / d logits = weight * (softmax - onehot); the weight goes to the smaller
                # factor of each product
                slopes.scatter_add_(1, target, slopes.new_full((), -1.0).expand_as(target))
                slopes, weight = slopes.to(dtype), weight.unsqueeze(1)
                if grad_hidden is not None:
                    grad_hidden[chunk] = (slopes @ matrix) * weight
                if grad_head is not None and dtype == exact:
                    grad_head.addmm_(slopes.T, states * weight)
                elif grad_head is not None:
                    grad_head += slopes.T @ (states * weight).to(dtype)
        ctx.save_for_backward(grad_hidden, grad_head)
        ctx.head_dtype = head.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        grad_hidden, grad_head = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = (grad_hidden * slope).to(grad_hidden.dtype)
        if grad_head is not None:
            grad_head = (grad_head * slope).to(ctx.head_dtype)
        return grad_hidden, grad_head, None, None, None


def _products(
    states: Float[Tensor, "tokens width"],
    matrix: Float[Tensor, "vocab width"],
    *,
    out: Float[Tensor, "tokens vocab"],
) -> Float[Tensor, "tokens vocab"]:
    """Logits of a chunk, in the precision of ``out``."""
    if out.dtype != states.dtype:
        return out.copy_(states @ matrix.T)
    if out.device.type != "cpu":
        return torch.mm(states, matrix.T, out=out)
    for start in range(0, len(matrix), _BLOCK_TOKENS):
        block = slice(start, start + _BLOCK_TOKENS)
        torch.mm(states, matrix[block].T, out=out[:, block])
    return out
