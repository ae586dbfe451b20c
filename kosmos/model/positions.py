"""Where a token stands: fixed sinusoids added at the input, or xPos applied to queries and keys.

- :func:`sinusoids`: the released checkpoint's absolute positions
- :func:`xpos`, :func:`rotate`: the papers' relative positions

Both are computed from the positions asked for, once per forward pass, and shared by all layers.
There is no table to size, to store in a checkpoint or to lose when a model is built on the meta
device; any position exists. For a row of 2,048 tokens the cost is that of one small elementwise
operation (below 1% of a pass).

Positions count from 0; -1 stands for padding.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

FIRST_ROW = 2
"""Row of the sinusoid table that a sequence's first token takes; row 1 belongs to padding."""

XPOS_GAMMA = 0.4
"""Smoothing of xPos's decay rates."""


def sinusoids(
    positions: Int[Tensor, "*batch tokens"], width: int
) -> Float[Tensor, "*batch tokens width"]:
    """Absolute position vectors: all sines, then all cosines; zeros for padding.

    Position 0 is row 2 of the released table. Frequencies fall from 1 to 1/10000 inclusive, so the
    exponent divides by half the width *minus one*. Always float32, as the release computes it.

    Source: fairseq's SinusoidalPositionalEmbedding, which the KOSMOS-2 release uses.
    """
    half = width // 2
    step = math.log(10000.0) / max(half - 1, 1)
    powers = torch.arange(half, dtype=torch.float32, device=positions.device) * -step
    angles = (positions + FIRST_ROW).float().unsqueeze(-1) * powers.exp()
    table = torch.cat([angles.sin(), angles.cos()], dim=-1)
    if width % 2:
        table = torch.nn.functional.pad(table, (0, 1))
    return table.masked_fill((positions < 0).unsqueeze(-1), 0.0)


class Rotation(NamedTuple):
    """What xPos multiplies queries and keys by: a complex number, as two reals, for each pair."""

    query: Float[Tensor, "#batch tokens 1 pairs 2"]
    key: Float[Tensor, "#batch tokens 1 pairs 2"]


def xpos(
    positions: Int[Tensor, "#batch tokens"],
    *,
    head_dim: int,
    scale_base: int,
    center: int,
    dtype: torch.dtype = torch.float32,
) -> Rotation:
    """Rotate by the position and let attention decay with distance.

    Pair ``i`` turns by ``10000^(-i/pairs)`` radians a position, and is multiplied by
    ``zeta_i^((position - center) / scale_base)`` in queries and by the inverse in keys, where
    ``zeta_i = (2i + 0.4 d) / (1.4 d)``. The product of a query and a key depends on the difference
    of their positions alone, so ``center`` changes nothing but the size of the factors.

    Args:
        positions: Of each token; the same for all rows if the first dimension is 1.
        head_dim: Features of a head, even.
        scale_base: Positions for one power of zeta.
        center: Where the factors are 1. It must be the same for all parts of a sequence: keys are
            cached already rotated. TorchScale takes the middle of the window at hand instead,
            and must therefore rotate every cached key again at every step.
        dtype: Precision, float32 or float64.

    Source: xPos (arXiv:2212.10554), eq. 4 and algorithm 1; torchscale
    ``xpos_relative_position.py`` for the constants.
    """
    pairs = torch.arange(head_dim // 2, dtype=dtype, device=positions.device)
    frequencies = torch.exp(pairs * (-2.0 * math.log(10000.0) / head_dim))
    angles = positions.to(dtype).unsqueeze(-1) * frequencies
    log_zeta = torch.log((2 * pairs + XPOS_GAMMA * head_dim) / ((1 + XPOS_GAMMA) * head_dim))
    decay = torch.exp((positions - center).to(dtype).unsqueeze(-1) * (log_zeta / scale_base))
    turn = torch.stack([angles.cos(), angles.sin()], dim=-1)
    decay = decay.unsqueeze(-1)
    return Rotation(query=(turn * decay).unsqueeze(-3), key=(turn / decay).unsqueeze(-3))


def rotate(
    states: Float[Tensor, "batch tokens heads head"],
    table: Float[Tensor, "#batch tokens 1 pairs 2"],
    *,
    reuse: bool = False,
) -> Float[Tensor, "batch tokens heads head"]:
    """Multiply neighbouring pairs of features by a table of :class:`Rotation`.

    One complex multiplication; half-precision states pass through float32.

    Args:
        states: Queries or keys.
        table: What they are multiplied by.
        reuse: Whether the result may take the place of ``states`` where no gradient is asked for:
            a fifth of the time, for states that nobody else holds.
    """
    exact = states if states.dtype == torch.float64 else states.float()
    pairs = exact.view(*exact.shape[:-1], -1, 2)
    if torch.compiler.is_compiling():  # inductor has no complex kernels
        even, odd = pairs.unbind(-1)
        cos, sin = table.unbind(-1)
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    else:
        numbers, factors = torch.view_as_complex(pairs), torch.view_as_complex(table)
        wants_gradient = torch.is_grad_enabled() and states.requires_grad
        turned = torch.view_as_real(
            numbers.mul_(factors) if reuse and not wants_gradient else numbers * factors
        )
    return turned.flatten(-2).to(states.dtype)
