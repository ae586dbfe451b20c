"""What the parts of a model hold and do, in numbers: costs and adapters are worked out from them.

- :class:`LinearLayers`, :class:`Part`: how a part is described
- :func:`parts_of`: the parts of a model
- :data:`CONNECTORS`: every kind of connector; one more is a class like these and a line there

Nothing here needs torch, so `kosmos plan` answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kosmos.errors import ConfigError

if TYPE_CHECKING:
    # its presets ask this file what connectors there are, while it is imported
    from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig


class LinearLayers(NamedTuple):
    """Linear layers of one name: one, or one in each layer of their part."""

    inputs: int
    outputs: int
    num_layers: int
    rows: int
    """Rows that go through each of them, for one token of the decoder or for one picture."""

    @property
    def parameters(self) -> int:
        """Weights and biases of them all."""
        return self.num_layers * (self.inputs + 1) * self.outputs

    @property
    def products(self) -> int:
        """Multiplications of them all."""
        return self.num_layers * self.rows * self.inputs * self.outputs

    def adapter_parameters(self, rank: int) -> int:
        """Numbers in their adapters."""
        return self.num_layers * rank * (self.inputs + self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a model; what it does and keeps is for one token of the decoder or one picture."""

    parameters: Mapping[str, int]
    """What it holds, by name; ``layers`` are those of its list of that name."""
    linears: Mapping[str, LinearLayers]
    """Its linear layers, by the names that targets of an adapter have."""
    num_layers: int = 0
    """Elements of its list called ``layers``."""
    layer_products: int = 0
    """Multiplications of a layer between two activations: attention's. Of the decoder none: they
    follow from the lengths of what attends."""
    end_products: int = 0
    """Multiplications outside of layers that are in no linear layer."""
    layer_input: int
    """Numbers that a layer reads, and keeps where it is computed again in the backward pass."""
    layer_kept: int
    """Numbers that a layer keeps for the backward pass, with a fused attention kernel."""
    end_kept: int
    """Numbers that are kept outside of layers."""

    @property
    def num_parameters(self) -> int:
        """All of them."""
        return sum(self.parameters.values())

    @property
    def layer_parameters(self) -> int:
        """Of one layer."""
        return self.parameters["layers"] // self.num_layers if self.num_layers else 0

    @property
    def products(self) -> int:
        """Multiplications of all of it."""
        linear = sum(layers.products for layers in self.linears.values())
        return linear + self.num_layers * self.layer_products + self.end_products

    def kept(self, num_layers: int, *, recompute: bool) -> int:
        """Numbers that are kept for the backward pass of the last layers.

        Args:
            num_layers: How many of them pass gradients on.
            recompute: Layers keep their input alone and run again in the backward pass.
        """
        if num_layers and recompute:
            return num_layers * self.layer_input + self.layer_kept + self.end_kept
        return num_layers * self.layer_kept + self.end_kept


def parts_of(config: "ModelConfig") -> dict[str, Part]:
    """The parts of a model; one that it does not have is not there."""
    parts = {"decoder": _decoder(config.decoder)}
    if config.vision is not None and config.connector is not None:
        kind = connector_of(config.connector)
        parts["connector"] = kind.part(config.connector, config.vision, config.decoder.width)
        parts["vision"] = vision_part(config.vision)
    return parts


def _decoder(config: "DecoderConfig") -> Part:
    width, inner, layers = config.width, config.ffn_width, config.num_layers
    linears = _block(width, inner, layers, rows=1)
    norms = layers * (3 * 2 * width + 2 * inner)
    return Part(
        parameters={
            "embedding": config.vocab_size * width,
            "layers": _sum_parameters(linears) + norms,
            "norm": 2 * width,
        },
        linears=linears,
        num_layers=layers,
        layer_input=width,
        # both norms in and out, query, key, value, heads, the inner norm's output; the
        # feed-forward's activation in and out, and its norm's output
        layer_kept=9 * width + 3 * inner,
        end_kept=3 * width,  # the final norm in and out, the rows the loss picks
    )


def vision_part(config: "VisionConfig") -> Part:
    """The vision tower."""
    width, layers, patches = config.width, config.num_layers, config.num_patches
    tokens, pixels = patches + 1, 3 * config.patch_size**2
    linears = _block(width, config.ffn_width, layers, rows=tokens)
    inner = 3 if config.activation == "quick_gelu" else 2  # quick_gelu also keeps its sigmoid
    return Part(
        parameters={
            "embedding": (1 + pixels + tokens) * width,
            "layers": _sum_parameters(linears) + layers * 4 * width,
            "norms": 4 * width,
        },
        linears=linears,
        num_layers=layers,
        layer_products=2 * tokens * tokens * width,
        end_products=patches * pixels * width,
        layer_input=tokens * width,
        layer_kept=tokens * (8 * width + inner * config.ffn_width),
        end_kept=tokens * 3 * width,  # norms around; what is normalized, the connector reads
    )


class Connector:
    """A kind of connector: what it takes of its config, what it holds, and its module."""

    module: ClassVar[str]
    """Where its class is, ``package.module:Name``; made with the config, the tower's width and the
    decoder's."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Fields of the config that say nothing of this kind."""
    has_decoder_width: ClassVar[bool] = False
    """Whether its own width must be the decoder's."""

    @staticmethod
    def part(config: "ConnectorConfig", vision: "VisionConfig", decoder_width: int) -> Part:
        """What it holds, and does for one picture."""
        raise NotImplementedError


class CrossAttention(Connector):
    """One attention from latent queries to the patches and the queries themselves."""

    module = "kosmos.model.connector:CrossAttentionConnector"
    unused = ("num_layers", "ffn_multiple")
    has_decoder_width = True

    @staticmethod
    def part(config: "ConnectorConfig", vision: "VisionConfig", decoder_width: int) -> Part:
        """As the class says; its attention lies outside of layers."""
        width, queries, features = config.width, config.num_queries, vision.num_patches + 1
        sources = features + queries
        linears = {
            "dense": LinearLayers(vision.width, width, 1, features),
            **_attention(width, 1, readers=queries, sources=sources),
        }
        return Part(
            parameters={"linears": _sum_parameters(linears), "latents": queries * width},
            linears=linears,
            end_products=2 * queries * sources * width,
            layer_input=0,
            layer_kept=0,
            # what the dense layer reads; query, key, value, heads, and what they are made of
            end_kept=features * vision.width + 3 * sources * width + 2 * queries * width,
        )


class Perceiver(Connector):
    """Flamingo's resampler: layers in which latents read the features and themselves."""

    module = "kosmos.model.connector:PerceiverConnector"

    @staticmethod
    def part(config: "ConnectorConfig", vision: "VisionConfig", decoder_width: int) -> Part:
        """As the class says."""
        width, inner, layers = config.width, config.width * config.ffn_multiple, config.num_layers
        queries, features = config.num_queries, vision.num_patches + 1
        sources = features + queries
        inside = {
            **_attention(width, layers, readers=queries, sources=sources),
            "fc1": LinearLayers(width, inner, layers, queries),
            "fc2": LinearLayers(inner, width, layers, queries),
        }
        ends = {"dense": LinearLayers(vision.width, width, 1, features)}
        if width != decoder_width:
            ends["out"] = LinearLayers(width, decoder_width, 1, queries)
        norms = 3 * 2 * width
        return Part(
            parameters={
                "layers": _sum_parameters(inside) + layers * norms,
                "ends": _sum_parameters(ends) + queries * width + 2 * decoder_width,
            },
            linears={**ends, **inside},
            num_layers=layers,
            layer_products=2 * queries * sources * width,
            layer_input=queries * width,
            # query, key, value, heads and what they are made of; norms; the feed-forward's
            layer_kept=3 * sources * width
            + 2 * queries * width
            + (features + 4 * queries) * width
            + 3 * queries * inner,
            end_kept=features * vision.width + (features + 3 * queries) * width,
        )


CONNECTORS: dict[str, type[Connector]] = {
    "cross-attention": CrossAttention,
    "perceiver": Perceiver,
}
"""Every kind, by the name a config gives it."""


def connector_of(config: "ConnectorConfig") -> type[Connector]:
    """The kind of connector a config asks for.

    Raises:
        ConfigError: If there is none of that name.
    """
    if config.kind not in CONNECTORS:
        raise ConfigError(
            f"connector.kind: expected one of {', '.join(map(repr, CONNECTORS))}, "
            f"found {config.kind!r}",
            hint="a new one is a class and a line in kosmos/model/parts.py",
        )
    return CONNECTORS[config.kind]


def _attention(width: int, count: int, *, readers: int, sources: int) -> dict[str, LinearLayers]:
    rows = {"query": readers, "key": sources, "value": sources, "out": readers}
    return {
        f"attention.{name}": LinearLayers(width, width, count, number)
        for name, number in rows.items()
    }


def _block(width: int, inner: int, count: int, *, rows: int) -> dict[str, LinearLayers]:
    return {
        **_attention(width, count, readers=rows, sources=rows),
        "ffn.fc1": LinearLayers(width, inner, count, rows),
        "ffn.fc2": LinearLayers(inner, width, count, rows),
    }


def _sum_parameters(linears: Mapping[str, LinearLayers]) -> int:
    return sum(layers.parameters for layers in linears.values())
