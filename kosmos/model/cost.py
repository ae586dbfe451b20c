"""What a model costs, from its config alone: parameters, operations, memory.

- :func:`parameter_table`, :func:`count_parameters`: exact, to the unit
- :func:`forward_flops`, :func:`training_flops`: floating point operations of the matrix products
- :func:`training_memory`: bytes, an estimate

Nothing here needs torch, so `kosmos plan` answers at once.

Operations are counted as ``torch.utils.flop_counter`` does: a multiply and an add are two, only
matrix products count, and causal attention counts whole although kernels skip half of it.
"""

from dataclasses import dataclass
from typing import Literal

from kosmos.model.config import (
    CHUNK_TOKENS,
    ConnectorConfig,
    DecoderConfig,
    ModelConfig,
    VisionConfig,
)

VisionTraining = Literal["all", "last-layer", "frozen"]
"""What of the vision tower learns."""


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def parameter_table(config: ModelConfig) -> dict[str, int]:
    """Parameters of each part; a part a model does not have is not there."""
    decoder = config.decoder
    width, inner = decoder.width, decoder.ffn_width
    layer = 4 * _linear(width, width) + _linear(width, inner) + _linear(inner, width)
    layer += 3 * 2 * width + 2 * inner  # norms
    table = {
        "decoder.embedding": decoder.vocab_size * width,
        "decoder.layers": decoder.num_layers * layer,
        "decoder.norm": 2 * width,
    }
    if config.vision is not None and config.connector is not None:
        table |= _vision_parameters(config.vision)
        table["connector"] = _connector_parameters(config.connector, config.vision.width, width)
    return table


def _vision_parameters(config: VisionConfig) -> dict[str, int]:
    width, inner = config.width, config.ffn_width
    layer = 4 * _linear(width, width) + _linear(width, inner) + _linear(inner, width) + 4 * width
    positions = config.num_patches + 1
    return {
        "vision.embedding": (1 + 3 * config.patch_size**2 + positions) * width,
        "vision.layers": config.num_layers * layer,
        "vision.norms": 4 * width,
    }


def _connector_parameters(config: ConnectorConfig, vision_width: int, decoder_width: int) -> int:
    width, inner = config.width, config.width * config.ffn_multiple
    attention = 4 * _linear(width, width)
    entry = _linear(vision_width, width) + config.num_queries * width
    if config.kind == "cross-attention":
        return entry + attention
    layer = attention + _linear(width, inner) + _linear(inner, width) + 3 * 2 * width
    out = _linear(width, decoder_width) if width != decoder_width else 0
    return entry + config.num_layers * layer + out + 2 * decoder_width


def count_parameters(config: ModelConfig) -> int:
    """Parameters of the whole model; the head is the embedding and counts once."""
    return sum(parameter_table(config).values())


def forward_flops(
    config: ModelConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    past: int = 0,
    head_tokens: int | None = None,
    pairs: int | None = None,
) -> int:
    """Operations of one forward pass, images encoded and logits computed.

    Args:
        config: The model.
        tokens: New tokens of each row, image slots included.
        batch: Rows.
        images: Images encoded, in all rows together.
        past: Cached tokens before the new ones.
        head_tokens: Positions in all rows together that go through the head; None: all.
        pairs: Pairs of tokens of a row that attention compares, where that is less than every token
            with every other: the squares of the lengths of what lies in it, added up.
    """
    decoder = config.decoder
    head = batch * tokens if head_tokens is None else head_tokens
    compared = tokens * (past + tokens) if pairs is None else pairs
    flops = batch * _decoder_flops(decoder, tokens, compared)
    flops += 2 * head * decoder.width * decoder.vocab_size
    if config.vision is not None and config.connector is not None:
        flops += images * tower_flops(config.vision)
        flops += images * _connector_flops(config.connector, config.vision, decoder.width)
    return flops


def training_flops(
    config: ModelConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
    pairs: int | None = None,
    vision: VisionTraining = "all",
) -> int:
    """Operations of one training step without recomputation; arguments as of the forward pass.

    What learns costs three forward passes; the frozen part of the vision tower costs one.
    """
    flops = 3 * forward_flops(
        config, tokens=tokens, batch=batch, images=images, head_tokens=loss_tokens, pairs=pairs
    )
    if config.vision is not None and vision != "all":
        layer = _vision_layer_flops(config.vision)
        frozen_layers = config.vision.num_layers - (vision == "last-layer")
        flops -= 2 * images * (_patch_flops(config.vision) + frozen_layers * layer)
    return flops


def tower_flops(config: VisionConfig) -> int:
    """Operations of one picture's way through the vision tower."""
    return _patch_flops(config) + config.num_layers * _vision_layer_flops(config)


def _decoder_flops(config: DecoderConfig, tokens: int, pairs: int) -> int:
    width = config.width
    products = tokens * (4 * width * width + 2 * width * config.ffn_width)
    scores = 2 * pairs * width
    return config.num_layers * 2 * (products + scores)


def _patch_flops(config: VisionConfig) -> int:
    return 2 * config.num_patches * 3 * config.patch_size**2 * config.width


def _vision_layer_flops(config: VisionConfig) -> int:
    width, tokens = config.width, config.num_patches + 1
    products = tokens * (4 * width * width + 2 * width * config.ffn_width)
    return 2 * (products + 2 * tokens * tokens * width)


def _connector_flops(config: ConnectorConfig, vision: VisionConfig, decoder_width: int) -> int:
    width, queries, features = config.width, config.num_queries, vision.num_patches + 1
    sources = features + queries
    attention = 2 * (queries + sources) * width * width + 2 * queries * sources * width
    dense = features * vision.width * width
    if config.kind == "cross-attention":
        return 2 * (dense + attention)
    layer = attention + 2 * queries * width * width * config.ffn_multiple
    out = queries * width * decoder_width if width != decoder_width else 0
    return 2 * (dense + config.num_layers * layer + out)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes that training holds at the height of a step."""

    weights: int
    """Parameters in the precision they are kept in."""
    gradients: int
    """One for every parameter that learns, in the same precision."""
    optimizer: int
    """Adam's two moments of every parameter that learns, float32."""
    activations: int
    """What the backward pass of one micro-batch needs."""
    loss: int
    """The head's gradient, which exists from the forward pass on, and a chunk of logits on the way
    there or a copy of that gradient on the way back."""

    @property
    def total(self) -> int:
        """All of them, as if they were there at once."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss


def training_memory(
    config: ModelConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
    vision: VisionTraining = "all",
    weight_bytes: int = 4,
    activation_bytes: int = 4,
    recompute: bool = False,
) -> TrainingMemory:
    """Estimate the memory of training on one device.

    Activations are those autograd keeps with fused attention kernels, and a byte per element for
    each mask of dropout. Measured on the small presets: 0.87 to 1.05 of what autograd kept.
    Allocator slack and the framework itself come on top.

    Args:
        config: The model.
        tokens: Of each row of a micro-batch, image slots included.
        batch: Rows of a micro-batch.
        images: Images of a micro-batch.
        loss_tokens: Positions of a micro-batch that go through the head; None: all.
        vision: What of the vision tower learns.
        weight_bytes: Per parameter and per gradient.
        activation_bytes: Per element; 2 in bfloat16.
        recompute: Layers keep their input alone and run again in the backward pass.
    """
    learning = count_parameters(config) - _frozen_parameters(config, vision)
    elements = _decoder_activations(config.decoder, batch * tokens, recompute=recompute)
    if config.vision is not None and config.connector is not None:
        elements += images * _vision_activations(config.vision, vision, recompute=recompute)
        elements += images * _connector_activations(config.connector, config.vision)
    head = config.decoder.vocab_size * config.decoder.width
    rows = logits_rows(batch * tokens, loss_tokens)
    masks = (2 * config.decoder.num_layers + 1) * batch * tokens * config.decoder.width
    return TrainingMemory(
        weights=weight_bytes * count_parameters(config),
        gradients=weight_bytes * learning,
        optimizer=8 * learning,
        activations=activation_bytes * elements + (masks if config.decoder.dropout > 0 else 0),
        loss=4 * (head + max(head, rows * config.decoder.vocab_size)),
    )


def logits_rows(tokens: int, loss_tokens: int | None) -> int:
    """Rows of logits that are there at once.

    Args:
        tokens: Of a micro-batch.
        loss_tokens: Those of them that go through the head; None: all.
    """
    return min(CHUNK_TOKENS, tokens if loss_tokens is None else loss_tokens)


def _frozen_parameters(config: ModelConfig, vision: VisionTraining) -> int:
    if config.vision is None or vision == "all":
        return 0
    table = _vision_parameters(config.vision)
    last = table["vision.layers"] // config.vision.num_layers if vision == "last-layer" else 0
    return sum(table.values()) - last


def _decoder_activations(config: DecoderConfig, tokens: int, *, recompute: bool) -> int:
    width = config.width
    # kept per layer: both norms in and out, query, key, value, heads, the inner norm's output;
    # the feed-forward's activation in and out, and its norm's output
    layer = 9 * width + 3 * config.ffn_width
    kept = config.num_layers * width + layer if recompute else config.num_layers * layer
    return tokens * (kept + 3 * width)  # the final norm in and out, the rows the loss picks


def _vision_activations(config: VisionConfig, training: VisionTraining, *, recompute: bool) -> int:
    layers = {"all": config.num_layers, "last-layer": 1, "frozen": 0}[training]
    inner = 3 if config.activation == "quick_gelu" else 2  # quick_gelu also keeps its sigmoid
    layer = 8 * config.width + inner * config.ffn_width
    kept = layers * config.width + layer if recompute and layers else layers * layer
    ends = 4 * config.width if layers else config.width  # norms around, and what is normalized
    return (config.num_patches + 1) * (kept + ends)


def _connector_activations(config: ConnectorConfig, vision: VisionConfig) -> int:
    width, queries, features = config.width, config.num_queries, vision.num_patches + 1
    attention = 3 * (queries + features) * width + 2 * queries * width
    if config.kind == "cross-attention":
        return attention
    norms = features * width + 4 * queries * width
    layer = attention + norms + 3 * queries * width * config.ffn_multiple
    return features * width + config.num_layers * layer + 3 * queries * width
