"""Multi-head attention: the only file that calls the attention kernel.

- :class:`Pattern`, :func:`causal_pattern`: who attends to whom, worked out once per forward pass
- :class:`SelfAttention`: the decoder's, with MAGNETO's extra norm
- :class:`Attention`: the plain one of the vision tower and the connectors

Four tokens of two sequences packed into one row, isolated (left), and one sequence padded on the
left by two (right); ``x`` attends. Padding attends to itself, so that no row of a softmax is empty
and no output is NaN, whatever the kernel; nothing else attends to it::

      a b | c d          - - | a b
    a x                - x
    b x x              -   x
    c       x          a       x
    d       x x        b       x x

On a CPU isolated sequences are cut out of their rows and attended to one after the other, which
skips what the mask would hide: rows of 2,048 with twenty sequences take a tenth of the time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kosmos.model.cache import KVCache
from kosmos.model.config import DecoderConfig
from kosmos.model.positions import Rotation, rotate


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What every decoder layer of one forward pass shares."""

    mask: Float[Tensor, "#batch 1 tokens length"] | None
    """Added to the scores: 0 or -inf. None: nothing but causality."""
    is_causal: bool
    """Plain causal attention, for which kernels have a path that skips half of the work."""
    rotation: Rotation | None
    """xPos, if that is how the decoder knows positions."""
    lengths: Int[Tensor, " sequences"] | None = None
    """Of the sequences that lie side by side, row after row, each of which attends to itself
    alone, causally; None: they are not cut apart. A tensor, so that a compiled layer does not
    depend on the numbers."""

    def sees(self, batch: int, tokens: int) -> Bool[Tensor, "batch tokens length"]:
        """Whether each new token attends to each; without a cache."""
        if self.mask is not None:
            return (self.mask[:, 0] == 0).expand(batch, tokens, -1)
        causal = torch.ones(batch, tokens, tokens, dtype=torch.bool).tril()
        if self.lengths is None:
            return causal
        numbers = torch.arange(len(self.lengths)).repeat_interleave(self.lengths)
        numbers = numbers.view(batch, tokens)
        return causal & (numbers[:, :, None] == numbers[:, None, :])


def causal_pattern(
    tokens: int,
    *,
    segments: Int[Tensor, "batch tokens"] | None,
    valid: Bool[Tensor, "batch length"] | None,
    past: int,
    rotation: Rotation | None,
    like: Tensor,
    visible: Bool[Tensor, "batch tokens length"] | None = None,
) -> Pattern:
    """Work out who attends to whom.

    Args:
        tokens: New tokens of each row.
        segments: Sequence each token belongs to; None: all of a row is one.
        valid: False on padding, for past and new tokens; None: nothing is padding.
        past: Cached tokens before the new ones.
        rotation: Passed through.
        like: Gives dtype and device.
        visible: What each new token attends to, itself included; None: what causality allows.
    """
    if visible is not None:
        return Pattern(mask=_scores(visible, like), is_causal=False, rotation=rotation)
    if segments is None and valid is None:
        if past == 0:
            return Pattern(mask=None, is_causal=True, rotation=rotation)
        if tokens == 1:
            return Pattern(mask=None, is_causal=False, rotation=rotation)
    if segments is not None and valid is None and past == 0 and like.device.type == "cpu":
        lengths = None if torch.compiler.is_compiling() else _lengths(segments)
        if lengths is not None:
            return Pattern(mask=None, is_causal=True, rotation=rotation, lengths=lengths)
    steps = torch.arange(past + tokens, device=like.device)
    rows = steps[past:, None]
    allowed = (steps <= rows)[None]  # [1 tokens length]
    if segments is not None:
        allowed = allowed & (segments[:, :, None] == segments[:, None, :])
    if valid is not None:
        allowed = (allowed & valid[:, None, :]) | (steps == rows)
    return Pattern(mask=_scores(allowed, like), is_causal=False, rotation=rotation)


def _lengths(segments: Int[Tensor, "batch tokens"]) -> Int[Tensor, " sequences"] | None:
    """Lengths of the sequences of all rows; None if one of them comes in two parts."""

    def begins(numbers: Tensor) -> Tensor:
        return F.pad(numbers[:, 1:] != numbers[:, :-1], (1, 0), value=True)

    starts = begins(segments)
    if int(starts.sum()) != int(begins(segments.sort(dim=1).values).sum()):
        return None
    places = starts.flatten().nonzero().squeeze(1)
    return places.diff(append=places.new_tensor([segments.numel()]))


def _scores(
    allowed: Bool[Tensor, "#batch tokens length"], like: Tensor
) -> Float[Tensor, "#batch 1 tokens length"]:
    # a float mask once, or the kernel would turn a bool one into it in every layer
    mask = torch.zeros_like(allowed, dtype=like.dtype).masked_fill(~allowed, float("-inf"))
    return mask.unsqueeze(1)


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
        heads = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=pattern.is_causal,
        )
        joined: Tensor = self.out(self.inner_norm(heads.transpose(1, 2).flatten(2)))
        return joined


@torch.compiler.disable  # type: ignore[untyped-decorator]  # as many kernels as sequences
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
