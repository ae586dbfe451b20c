"""The whole model: images become soft tokens, soft tokens stand among words, one decoder reads all.

Source: KOSMOS-1 (arXiv:2302.14045) section 2; microsoft/unilm kosmos-2 for the released details.
"""

import pkgutil

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kosmos.errors import ConfigError, DataError
from kosmos.model.cache import KVCache
from kosmos.model.config import ModelConfig
from kosmos.model.decoder import Decoder
from kosmos.model.parts import connector_of
from kosmos.model.vision import VisionTower


class Kosmos(nn.Module):
    """A KOSMOS model, or its language-only baseline if the config has no vision.

    Fresh weights are PyTorch's defaults; :func:`kosmos.model.initialize.initialize` sets the
    papers'. Written for one device; precision, sharding and compilation are applied from outside.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.decoder)
        self.vision: VisionTower | None = None
        self.connector: nn.Module | None = None
        if config.vision is not None and config.connector is not None:
            self.vision = VisionTower(config.vision)
            kind = pkgutil.resolve_name(connector_of(config.connector).module)
            self.connector = kind(config.connector, config.vision.width, config.decoder.width)
        self.head: nn.Module | None = None
        """The output head as a layer of its own, for a kernel that wants it in another form; None:
        the embedding table."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of activations: of soft tokens, hidden states and cached keys."""
        return self.decoder.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.decoder.norm.weight.device

    @property
    def head_weight(self) -> Float[Tensor, "vocab width"]:
        """The output head, which is the embedding table.

        Raises:
            ConfigError: If the model is quantized.
        """
        weight = self.decoder.embedding.weight
        if not weight.is_floating_point():
            raise ConfigError(
                "model: expected floating-point weights, found int8",
                hint="quantized weights answer; for anything else take those they were made from",
            )
        return weight

    def encode_images(
        self, pixels: Float[Tensor, "images 3 rows columns"]
    ) -> Float[Tensor, "images queries width"]:
        """Turn images into soft tokens.

        Returns:
            Embeddings of the decoder's width, not scaled yet: :meth:`forward` scales them.

        Raises:
            ConfigError: If the model is a language-only baseline.
            DataError: If the images do not have the size the model is made for.
        """
        if self.vision is None or self.connector is None:
            raise ConfigError("model: expected a vision tower for images, found a language model")
        embeddings: Tensor = self.connector(self.vision(pixels))
        return embeddings

    def forward(
        self,
        token_ids: Int[Tensor, "batch tokens"],
        *,
        image_slots: Bool[Tensor, "batch tokens"] | None = None,
        image_embeddings: Float[Tensor, "images queries width"] | None = None,
        positions: Int[Tensor, "batch tokens"] | None = None,
        segments: Int[Tensor, "batch tokens"] | None = None,
        valid: Bool[Tensor, "batch tokens"] | None = None,
        visible: Bool[Tensor, "batch tokens length"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Read rows of tokens.

        Args:
            token_ids: What to read; ids in image slots are not looked at.
            image_slots: True where a soft token stands.
            image_embeddings: From :meth:`encode_images`; fill the slots in order, row by row.
            positions: Counted from 0 in each sequence, -1 on padding. None: counted here, over
                valid tokens, from where the cache ends.
            segments: Sequence each token belongs to; tokens attend within theirs. None: a row is
                one sequence. Not with a cache.
            valid: False on padding, left or right, which nothing attends to. None: all are valid.
                Padding on the right of plain rows needs no saying, since nothing before it can
                look ahead; leaving it out keeps the fast kernel.
            visible: Which slots, cached ones first, each token attends to, itself included, where
                that is not simply all before it: rows that hold the branches of a tree. Needs
                positions, which no longer follow from the order of tokens.
            cache: What came before; the tokens are added to it.

        Returns:
            Hidden states after the final norm; what stands at padding is finite and means nothing.

        Raises:
            DataError: If slots and soft tokens differ in number.
            ConfigError: If segments come with a cache, visible slots without positions, or the
                cache does not fit.
        """
        if visible is not None and positions is None:
            raise ConfigError("model: expected positions with visible slots, found none")
        if cache is not None and segments is not None:
            raise ConfigError("model: expected segments or a cache, found both")
        if cache is not None and cache.batch != len(token_ids):
            raise ConfigError(
                f"cache: expected {len(token_ids)} rows as in token_ids, found {cache.batch}"
            )
        # a quantized table gives float32
        embeddings: Tensor = self.decoder.embedding(token_ids).to(self.dtype)
        if image_slots is not None or image_embeddings is not None:
            embeddings = _splice(embeddings, image_slots, image_embeddings)
        hidden: Tensor = self.decoder(
            embeddings,
            positions=positions,
            segments=segments,
            valid=valid,
            visible=visible,
            cache=cache,
        )
        return hidden

    def logits(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of every token of the vocabulary as the next one."""
        if self.head is None:
            return self.decoder.embedding.logits(hidden)
        logits: Tensor = self.head(hidden)
        return logits


def _splice(
    embeddings: Tensor, slots: Tensor | None, soft_tokens: Tensor | None
) -> Float[Tensor, "batch tokens width"]:
    """Put soft tokens into their slots, in order."""
    width = embeddings.shape[-1]
    soft = embeddings.new_empty((0, width)) if soft_tokens is None else soft_tokens.flatten(0, 1)
    if slots is None:
        raise DataError(f"image_slots: expected {len(soft)} slots for soft tokens, found none")
    if not torch.compiler.is_compiling():  # a compiled graph cannot stop to look at a number
        num_slots = int(slots.sum())
        if num_slots != len(soft):
            raise DataError(
                f"image_slots: expected as many slots as soft tokens, found {num_slots} slots "
                f"and {len(soft)} soft tokens of {0 if soft_tokens is None else len(soft_tokens)} "
                f"images"
            )
    if soft.shape[0] == 0:
        return embeddings
    order = slots.flatten().cumsum(0).sub_(1).clamp_(min=0).view(slots.shape)
    return torch.where(slots.unsqueeze(-1), soft.to(embeddings.dtype)[order], embeddings)
