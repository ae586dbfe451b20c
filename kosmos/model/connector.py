"""Connectors: from however many patches an image has to a fixed number of soft tokens.

- :class:`CrossAttentionConnector`: what the released KOSMOS-2 has
- :class:`PerceiverConnector`: what both papers cite

How a config asks for one is in parts.py. All end unscaled: the decoder multiplies soft tokens, like
words, by the square root of its width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kosmos.model.attention import Attention
from kosmos.model.config import ConnectorConfig


class CrossAttentionConnector(nn.Module):
    """One attention from latent queries to the patches and the queries themselves.

    No residual, no norm, no feed-forward, no positions.

    The decoder's width is the config's.

    Source: microsoft/unilm kosmos-2 ``models/connector.py``, its "xconnector".
    """

    def __init__(
        self, config: ConnectorConfig, vision_width: int, decoder_width: int | None = None
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(vision_width, config.width)
        self.latents = nn.Parameter(torch.zeros(config.num_queries, config.width))
        self.attention = Attention(config.width, config.num_heads, dropout=config.attention_dropout)

    def forward(
        self, features: Float[Tensor, "images patches features"]
    ) -> Float[Tensor, "images queries width"]:
        """Resample each image by itself."""
        latents = self.latents.expand(len(features), -1, -1)
        sources = torch.cat([self.dense(features), latents], dim=1)
        output: Tensor = self.attention(latents, sources)
        return output


class PerceiverLayer(nn.Module):
    """Latents read the features and themselves, then think."""

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        width, inner = config.width, config.width * config.ffn_multiple
        self.feature_norm = nn.LayerNorm(width)
        self.latent_norm = nn.LayerNorm(width)
        self.attention = Attention(width, config.num_heads, dropout=config.attention_dropout)
        self.ffn_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(
        self,
        features: Float[Tensor, "images patches width"],
        latents: Float[Tensor, "images queries width"],
    ) -> Float[Tensor, "images queries width"]:
        """One step of the latents; the features stay."""
        readers = self.latent_norm(latents)
        sources = torch.cat([self.feature_norm(features), readers], dim=1)
        latents = latents + self.attention(readers, sources)
        output: Tensor = latents + self.fc2(F.relu(self.fc1(self.ffn_norm(latents))).square())
        return output


class PerceiverConnector(nn.Module):
    """Flamingo's Perceiver resampler, for still images.

    Per layer ``x = x + attention(q=x, kv=[features; x])`` and ``x = x + ffw(x)`` with squared
    ReLU. What Flamingo's text leaves open, or does not fit, is decided so:

    - features and latents are normed separately before attention, latents again before the
      feed-forward block (as in the public re-implementations);
    - a linear layer with bias brings the features to the resampler's width, whatever it is;
    - there is no temporal embedding: an image is one frame, and the tower's own position
      embedding says where a patch lies;
    - the output is projected to the decoder's width if that differs, and then normed. The norm
      comes last, and starts at ``decoder width^-0.5``, so that soft tokens enter the decoder at
      the scale of words.

    Source: Flamingo (arXiv:2204.14198) section 3.1.1 and appendix A.1.1.
    """

    def __init__(self, config: ConnectorConfig, vision_width: int, decoder_width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(vision_width, config.width)
        self.latents = nn.Parameter(torch.zeros(config.num_queries, config.width))
        self.layers = nn.ModuleList(PerceiverLayer(config) for _ in range(config.num_layers))
        self.out = nn.Linear(config.width, decoder_width) if config.width != decoder_width else None
        self.norm = nn.LayerNorm(decoder_width)

    def forward(
        self, features: Float[Tensor, "images patches features"]
    ) -> Float[Tensor, "images queries width"]:
        """Resample each image by itself."""
        features = self.dense(features)
        latents = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(features, latents)
        output: Tensor = self.norm(latents if self.out is None else self.out(latents))
        return output
