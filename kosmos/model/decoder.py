"""The language model: a causal MAGNETO transformer, pre-LN with sub-LN.

One layer, on the residual stream ``x``::

    x = x + dropout(out(inner_norm(heads(attention_norm(x)))))
    x = x + dropout(fc2(norm(gelu(fc1(ffn_norm(x))))))

Dropout acts there and on the input, nowhere else (attention weights have their own rate).

Source: MAGNETO (arXiv:2210.06423); KOSMOS-1 (arXiv:2302.14045) Table 17; torchscale as bundled with
the KOSMOS-2 release for the order of operations.
"""

import math
from collections.abc import Callable
from typing import assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kosmos.model.attention import SelfAttention
from kosmos.model.cache import KVCache
from kosmos.model.config import DecoderConfig, VisionConfig
from kosmos.model.pattern import Pattern, causal_pattern
from kosmos.model.positions import block_positions, count_positions, rotation_of, sinusoids


def _quick_gelu(hidden: Tensor) -> Tensor:
    gate = 1.702 * hidden
    if gate.requires_grad:
        return hidden * gate.sigmoid()
    return gate.sigmoid_().mul_(hidden)  # the same bits without two copies, in 0.6 of the time


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "quick_gelu": _quick_gelu,
    "relu": F.relu,
}
"""Feed-forward activations by the name a config gives them; ``gelu`` is the exact, erf form."""


class Embedding(nn.Embedding):
    """Embeddings of tokens, which are also the output head."""

    def logits(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of every token."""
        return F.linear(hidden, self.weight)


class FeedForward(nn.Module):
    """Two linear layers, an activation between them, and in the decoder MAGNETO's extra norm."""

    def __init__(self, config: DecoderConfig | VisionConfig, *, has_norm: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.ffn_width)
        self.norm = nn.LayerNorm(config.ffn_width, eps=config.norm_eps) if has_norm else None
        self.fc2 = nn.Linear(config.ffn_width, config.width)
        self.activation = ACTIVATIONS[config.activation]

    def forward(
        self, hidden: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Apply the block to each token by itself."""
        inner = self.activation(self.fc1(hidden))
        output: Tensor = self.fc2(inner if self.norm is None else self.norm(inner))
        return output


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: DecoderConfig, layer_index: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = SelfAttention(config, layer_index)
        self.ffn_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.ffn = FeedForward(config, has_norm=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens width"],
        pattern: Pattern,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """One step of the residual stream."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), pattern, cache))
        output: Tensor = hidden + self.dropout(self.ffn(self.ffn_norm(hidden)))
        return output


class Decoder(nn.Module):
    """Token embedding, layers and final norm; its embedding is also the output head."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        # the padding row gets no gradient as an input; as an output it does, as in the release
        self.embedding = Embedding(config.vocab_size, config.width, padding_idx=config.pad_id)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.embedding_scale = math.sqrt(config.width) if config.scale_embedding else 1.0

    def forward(
        self,
        embeddings: Float[Tensor, "batch tokens width"],
        *,
        positions: Int[Tensor, "#batch tokens"] | None,
        segments: Int[Tensor, "batch tokens"] | None = None,
        valid: Bool[Tensor, "batch tokens"] | None = None,
        visible: Bool[Tensor, "batch tokens length"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Hidden states after the final norm, of unscaled embeddings; see :class:`Kosmos`."""
        config, tokens = self.config, embeddings.shape[1]
        past = 0 if cache is None else cache.length
        most = past + tokens if positions is None else None
        if positions is None:
            before = None if cache is None else cache.next_positions()
            positions = count_positions(tokens, valid, past=before, device=embeddings.device)
        blocks = keys = block_positions(config, positions, most)
        if cache is not None:
            if blocks is None and cache.blocks is not None:
                blocks = torch.zeros_like(positions)
            cache.extend(tokens, valid, blocks)
            valid, keys = cache.valid, cache.blocks
        hidden = embeddings * self.embedding_scale
        rotation = None
        if config.positions == "sinusoidal":
            hidden = hidden + sinusoids(positions, config.width).to(hidden.dtype)
        elif config.positions == "xpos":
            rotation = rotation_of(
                config,
                positions,
                blocks=blocks,
                keys=keys,
                dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32,
            )
        else:
            assert_never(config.positions)
        pattern = causal_pattern(
            tokens,
            segments=segments,
            valid=valid,
            visible=visible,
            past=past,
            rotation=rotation,
            like=hidden,
        )
        hidden = self.dropout(hidden)
        for layer in self.layers:
            hidden = layer(hidden, pattern, cache)
        output: Tensor = self.norm(hidden)
        return output
