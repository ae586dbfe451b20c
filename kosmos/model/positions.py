"""Where a token stands: fixed sinusoids added at the input, or xPos applied to queries and keys.

- :func:`sinusoids`: the released checkpoint's absolute positions
- :func:`rotation_of`, :func:`xpos`, :func:`rotate`: the papers' relative positions
- :func:`count_positions`: where tokens stand if nobody says so

Both are computed from the positions asked for, once per forward pass, and shared by all layers.
There is no table to size, to store in a checkpoint or to lose when a model is built on the meta
device; any position exists. For a row of 2,048 tokens the cost is that of one small elementwise
operation (below 1% of a pass).

Positions count from 0; -1 stands for padding.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kosmos.errors import ConfigError
from kosmos.model.config import DecoderConfig

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


class Blocks(NamedTuple):
    """Positions of queries and keys by block, where there is more than the first."""

    of_queries: tuple[int, ...]
    """Numbers of the blocks in which there are queries."""
    queries: Int[Tensor, "#batch tokens"]
    """Block of each new token."""
    keys: Int[Tensor, "#batch length"]
    """Block of each token that may be attended to."""
    turns: Float[Tensor, "blocks pairs 2"]
    """What a key is multiplied by for a query so many blocks after it."""


class Rotation(NamedTuple):
    """What xPos multiplies queries and keys by: a complex number, as two reals, for each pair."""

    query: Float[Tensor, "#batch tokens 1 pairs 2"]
    key: Float[Tensor, "#batch tokens 1 pairs 2"]
    blocks: Blocks | None = None
    """None: all positions lie in the first block."""


def count_positions(
    tokens: int,
    valid: Bool[Tensor, "batch tokens"] | None,
    *,
    past: Int[Tensor, "#batch 1"] | None,
    device: torch.device,
) -> Int[Tensor, "#batch tokens"]:
    """Positions that count real tokens only.

    Args:
        tokens: New tokens of each row.
        valid: False on padding; None: nothing is.
        past: Real tokens before them; None: there are none.
        device: Of the result.
    """
    begin = torch.zeros((1, 1), dtype=torch.long, device=device) if past is None else past
    if valid is None:
        return begin + torch.arange(tokens, device=device)
    return torch.where(valid, valid.cumsum(1) - 1 + begin, -1)


def block_positions(
    config: DecoderConfig, positions: Int[Tensor, "#batch tokens"], most: int | None
) -> Int[Tensor, "#batch tokens"] | None:
    """The block of xPos that each position lies in, padding in the first; None: all lie there.

    Args:
        config: The decoder.
        positions: Of each token.
        most: Positions there can be; None: as many as ``positions`` says. A graph that is being
            compiled or recorded cannot stop to look: there all lie in the first block.
    """
    if config.positions != "xpos":
        return None
    if most is None:
        is_recorded = positions.is_cuda and torch.cuda.is_current_stream_capturing()
        is_fixed = torch.compiler.is_compiling() or is_recorded or positions.numel() == 0
        most = 0 if is_fixed else int(positions.max()) + 1
    return positions.clamp(min=0) // config.xpos_block if most > config.xpos_block else None


def rotation_of(
    config: DecoderConfig,
    positions: Int[Tensor, "#batch tokens"],
    *,
    blocks: Int[Tensor, "#batch tokens"] | None,
    keys: Int[Tensor, "#batch length"] | None,
    dtype: torch.dtype,
) -> Rotation:
    """What a decoder's xPos multiplies queries and keys by.

    Factors of distant positions exceed what a float can hold, and angles its precision. So a
    position is told within its block, and a query of block ``n`` meets keys of block ``m`` after
    they have been turned by the ``n - m`` blocks between, which only makes them smaller. The first
    block holds all positions that a model is trained on.

    Args:
        config: The decoder.
        positions: Of the new tokens.
        blocks: Of the new tokens, from :func:`block_positions`; None: all lie in the first.
        keys: Blocks of all tokens that may be attended to; None: those of the new ones.
        dtype: float32 or float64.
    """
    head_dim, block = config.width // config.num_heads, config.xpos_block
    center = min(config.max_tokens, block) // 2
    table = partial(xpos, head_dim=head_dim, scale_base=config.xpos_scale_base)
    if blocks is None:
        return table(positions, center=center, dtype=dtype)
    keys = blocks if keys is None else keys.clamp(min=0)
    numbers = sorted(set(blocks.flatten().tolist()))
    # in float64, which not every device has, since angles grow with the distance
    between = -block * torch.arange(numbers[-1] + 1).unsqueeze(0)
    turns = table(between, center=0, dtype=torch.float64).key[0, :, 0]
    return table(positions - blocks * block, center=center, dtype=dtype)._replace(
        blocks=Blocks(tuple(numbers), blocks, keys, turns.to(positions.device, dtype))
    )


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
    table: Float[Tensor, "#batch #tokens #heads pairs 2"],
    *,
    reuse: bool = False,
) -> Float[Tensor, "batch tokens heads head"]:
    """Multiply neighbouring pairs of features by a table of :class:`Rotation`.

    One complex multiplication; half-precision states pass through float32.

    Args:
        states: Queries or keys.
        table: What they are multiplied by, float32 or float64: 8 bits are not enough for an angle.
        reuse: Whether the result may take the place of ``states`` where no gradient is asked for:
            a fifth of the time, for states that nobody else holds.

    Raises:
        ConfigError: If something that wraps the layers has rounded the table.
    """
    if table.dtype not in (torch.float32, torch.float64):
        raise ConfigError(f"xpos: expected float32 or float64 tables, found {table.dtype}")
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
