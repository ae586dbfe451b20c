"""The eye: a CLIP vision transformer that keeps every output token.

Unlike CLIP itself, which pools, KOSMOS reads all tokens, the class token first: the last block's
output, through CLIP's final norm (on every token), scaled to length 1 each.

Source: CLIP (arXiv:2103.00020) ViT-L/14; microsoft/unilm kosmos-2 ``models/vl/clip.py``.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kosmos.errors import DataError
from kosmos.model.attention import Attention
from kosmos.model.config import VisionConfig
from kosmos.model.decoder import FeedForward


class VisionLayer(nn.Module):
    """A pre-LN transformer block; all tokens of an image see each other."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(config.width, config.num_heads)
        self.ffn_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.ffn = FeedForward(config, has_norm=False)

    def forward(
        self, hidden: Float[Tensor, "images patches width"]
    ) -> Float[Tensor, "images patches width"]:
        """One step of the residual stream."""
        normed = self.attention_norm(hidden)
        hidden = hidden + self.attention(normed, normed)
        output: Tensor = hidden + self.ffn(self.ffn_norm(hidden))
        return output


class VisionTower(nn.Module):
    """Pixels to one unit vector per patch, and one for the class token."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        width, size = config.width, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=size, stride=size, bias=False)
        self.position_embedding = nn.Parameter(torch.zeros(config.num_patches + 1, width))
        self.pre_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_layers))
        self.post_norm = nn.LayerNorm(width, eps=config.norm_eps)

    def forward(
        self, pixels: Float[Tensor, "images 3 rows columns"]
    ) -> Float[Tensor, "images patches features"]:
        """Encode images.

        Args:
            pixels: Normalized as :class:`kosmos.image.transform.ImageTransform` does. If the size
                is no multiple of the patch size, the last pixels of each side are not seen.

        Returns:
            Class token first, then patches row by row.

        Raises:
            DataError: If the images are not of the size the tower is made for.
        """
        size = self.config.image_size
        if pixels.shape[1:] != (3, size, size):
            raise DataError(
                f"pixels: expected images of shape {(3, size, size)}, "
                f"found {tuple(pixels.shape[1:])}"
            )
        # weights may have been put together in another type than pictures come in
        pixels = pixels.to(self.patch_embedding.weight.dtype)
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        hidden = torch.cat([first, patches], dim=1) + self.position_embedding
        hidden = self.pre_norm(hidden)
        for layer in self.layers:
            hidden = layer(hidden)
        return F.normalize(self.post_norm(hidden), dim=-1)
