"""Multi-head attention: the only file that calls the attention kernel.

- :class:`SelfAttention`: the decoder's, with MAGNETO's extra norm
- :class:`Attention`: the plain one of the vision tower and the connectors
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from kosmos.model.cache import KVCache
from kosmos.model.config import DecoderConfig
from kosmos.model.pattern import Pattern
from kosmos.model.positions import Blocks, rotate


class SelfAttention(nn.Module):
    """Causal attention with a norm on the joined heads, before the output projection.

    The extra norm keeps the variance of the residual stream bounded as depth grows.

    Source: MAGNETO (arXiv:2210.06423), Sub-LayerNorm.
    """

    def __init__(self, config: DecoderConfig, layer_index: int) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.layer_index = layer_index
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.inner_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens width"],
        pattern: Pattern,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Attend within the tokens given and, with a cache, to those before them."""
        query, key, value = (
            projection(hidden).unflatten(-1, (self.num_heads, -1))
            for projection in (self.query, self.key, self.value)
        )
        if pattern.rotation is not None:
            query = rotate(query, pattern.rotation.query, reuse=True)
            key = rotate(key, pattern.rotation.key, reuse=True)
        dropout = self.dropout if self.training else 0.0
        if pattern.lengths is not None:
            heads = _attend_apart(query, key, value, pattern.lengths, dropout)
            isolated: Tensor = self.out(self.inner_norm(heads.flatten(2)))
            return isolated
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        if cache is not None:
            past_key, past_value = cache.append(self.layer_index, key, value)
            if not pattern.is_causal:  # else the new tokens are all there is
                key, value = past_key, past_value
        mask = None if pattern.mask is None else pattern.mask.to(query.dtype)
        attend = partial(
            F.scaled_dot_product_attention,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=pattern.is_causal,
        )
        blocks = None if pattern.rotation is None else pattern.rotation.blocks
        heads = (
            attend(query, key, value)
            if blocks is None
            else _attend_by_block(attend, query, key, value, blocks)
        )
        joined: Tensor = self.out(self.inner_norm(heads.transpose(1, 2).flatten(2)))
        return joined


def _attend_by_block(
    attend: Callable[..., Tensor],
    query: Float[Tensor, "batch heads tokens head"],
    key: Float[Tensor, "batch heads length head"],
    value: Float[Tensor, "batch heads length head"],
    blocks: Blocks,
) -> Float[Tensor, "batch heads tokens head"]:
    """Attention where positions lie in several blocks of xPos: once for each block of queries."""
    heads = torch.zeros_like(query)
    for number in blocks.of_queries:
        # what comes later is hidden; it only has to stay finite
        back = (number - blocks.keys).clamp(min=0)
        turned = rotate(key, blocks.turns[back].unsqueeze(1))
        is_here = (blocks.queries == number)[:, None, :, None]
        heads = torch.where(is_here, attend(query, turned, value), heads)
    return heads


# as many kernels as sequences; torch.compiler.disable would import the compiler here (1.4 s)
@_disable_dynamo
def _attend_apart(
    query: Float[Tensor, "batch tokens heads head"],
    key: Float[Tensor, "batch tokens heads head"],
    value: Float[Tensor, "batch tokens heads head"],
    lengths: Int[Tensor, " sequences"],
    dropout: float,
) -> Float[Tensor, "batch tokens heads head"]:
    """Causal attention within each sequence of rows that hold several."""
    sizes = lengths.tolist()
    queries, keys, values = (
        torch.split(states.flatten(0, 1).transpose(0, 1).unsqueeze(0), sizes, dim=2)
        for states in (query, key, value)
    )
    heads = [
        F.scaled_dot_product_attention(*one, dropout_p=dropout, is_causal=True).transpose(1, 2)
        for one in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(heads, dim=1).view_as(query)


class Attention(nn.Module):
    """Plain multi-head attention from one sequence to another, without a mask."""

    def __init__(self, width: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        readers: Float[Tensor, "batch queries width"],
        sources: Float[Tensor, "batch keys width"],
    ) -> Float[Tensor, "batch queries width"]:
        """Let every reader attend to every source."""
        query, key, value = (
            projection(states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, states in (
                (self.query, readers),
                (self.key, sources),
                (self.value, sources),
            )
        )
        heads = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        joined: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return joined
