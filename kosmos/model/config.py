"""The shape of a model, and the table of named ones.

- :class:`DecoderConfig`, :class:`VisionConfig`, :class:`ConnectorConfig`: the three parts
- :class:`ModelConfig`: a whole model; without vision it is a language-only baseline
- :data:`PRESETS`: the papers' models, the released one, and small ones
- :func:`with_vocabulary`: the same shape for another tokenizer

Where the paper and the released checkpoint disagree there is a field, and a preset for each side.

Source: KOSMOS-1 (arXiv:2302.14045) Table 17; KOSMOS-2 (arXiv:2306.14824) Tables 7 and 8;
microsoft/unilm kosmos-2 for what the release does.
"""

from dataclasses import dataclass, replace
from typing import Literal

from kosmos.errors import ConfigError

KOSMOS1_VOCAB_SIZE = 64_007
KOSMOS2_VOCAB_SIZE = 65_037

CHUNK_TOKENS = 512
"""Positions that go through the output head together in the loss; with 65,037 tokens that is
127 MiB of logits."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """A causal MAGNETO decoder: pre-LN and sub-LN, tied output head without bias."""

    vocab_size: int
    """Rows of the embedding, which is also the output head."""
    width: int
    """Features per token."""
    num_layers: int
    """Decoder layers."""
    num_heads: int
    """Attention heads; the head dimension is width / num_heads."""
    ffn_width: int
    """Inner features of the feed-forward block."""
    positions: Literal["sinusoidal", "xpos"] = "sinusoidal"
    """Papers: xpos. Released checkpoint: sinusoidal, added once at the input."""
    max_tokens: int = 2048
    """Longest sequence it is trained on. Positions beyond it exist; the model refuses nothing."""
    activation: Literal["gelu", "quick_gelu", "relu"] = "gelu"
    """Feed-forward activation; gelu is the exact (erf) form."""
    norm_eps: float = 1e-5
    """Epsilon of every LayerNorm."""
    scale_embedding: bool = True
    """Multiply embeddings, of text and image alike, by sqrt(width)."""
    xpos_scale_base: int = 512
    """Positions over which xPos decays by one power of zeta."""
    dropout: float = 0.1
    """After the embedding, after attention's output projection, after the second FFN layer."""
    attention_dropout: float = 0.0
    """On attention weights. Papers: 0.1. Release: 0.1 configured, inactive in its kernel."""
    pad_id: int = 1
    """Padding token: its embedding row is zero and it takes no position."""

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "width", "num_layers", "num_heads", "ffn_width", "max_tokens",
            "xpos_scale_base", "norm_eps",
        ):  # fmt: skip
            value = getattr(self, name)
            _check(value > 0, f"decoder.{name}: expected a positive number, found {value}")
        _check(
            self.width % self.num_heads == 0,
            f"decoder.width: expected a multiple of num_heads={self.num_heads}, found {self.width}",
        )
        _check(
            self.positions == "sinusoidal" or (self.width // self.num_heads) % 2 == 0,
            f"decoder.width: xpos rotates pairs and needs an even head dimension, "
            f"found {self.width // self.num_heads}",
        )
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            _check(0.0 <= value < 1.0, f"decoder.{name}: expected [0, 1), found {value}")
        _check(
            0 <= self.pad_id < self.vocab_size,
            f"decoder.pad_id: expected an id below vocab_size={self.vocab_size}, "
            f"found {self.pad_id}",
        )

    @property
    def xpos_block(self) -> int:
        """Positions that xPos tells from one center: those of training, within e^40."""
        return min(max(self.max_tokens, 8 * self.xpos_scale_base), 32 * self.xpos_scale_base)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """A CLIP vision transformer whose every output token, class token included, is kept."""

    image_size: int
    """Pixels along each side of the square input."""
    patch_size: int
    """Pixels along each side of a patch."""
    width: int
    """Features per patch."""
    num_layers: int
    """Encoder layers."""
    num_heads: int
    """Attention heads."""
    ffn_width: int
    """Inner features of the feed-forward block."""
    activation: Literal["gelu", "quick_gelu", "relu"] = "quick_gelu"
    """Feed-forward activation."""
    norm_eps: float = 1e-5
    """Epsilon of every LayerNorm."""
    initial_positions: Literal["random", "grid"] = "random"
    """What position embeddings start as where no CLIP weights are loaded. random: as CLIP began.
    grid: sines and cosines of a patch's row and column, with which a tower trained for minutes
    knows at once what lies beside what (measured in experiments/LOG.md)."""

    def __post_init__(self) -> None:
        for name in (
            "image_size", "patch_size", "width", "num_layers", "num_heads", "ffn_width", "norm_eps"
        ):  # fmt: skip
            value = getattr(self, name)
            _check(value > 0, f"vision.{name}: expected a positive number, found {value}")
        _check(
            self.patch_size <= self.image_size,
            f"vision.patch_size: expected at most image_size={self.image_size}, "
            f"found {self.patch_size}",
        )
        _check(
            self.width % self.num_heads == 0,
            f"vision.width: expected a multiple of num_heads={self.num_heads}, found {self.width}",
        )

    @property
    def num_patches(self) -> int:
        """Patches of one image, without the class token."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorConfig:
    """What turns an image's patches into a fixed number of soft tokens."""

    kind: str = "cross-attention"
    """Of those in model/parts.py. cross-attention: one bare attention, the release's. perceiver:
    Flamingo's resampler, the papers'."""
    num_queries: int = 64
    """Soft tokens per image."""
    num_layers: int = 1
    """Perceiver only; Flamingo uses 6. The KOSMOS papers do not state theirs."""
    num_heads: int = 32
    """Attention heads."""
    width: int = 2048
    """Perceiver: its own width (Flamingo 1536). Cross-attention: must equal the decoder's width."""
    ffn_multiple: int = 4
    """Perceiver only: inner features of the feed-forward block over width."""
    attention_dropout: float = 0.0
    """On attention weights; 0.1 in the release's training."""

    def __post_init__(self) -> None:
        for name in ("num_queries", "num_layers", "num_heads", "width", "ffn_multiple"):
            value = getattr(self, name)
            _check(value > 0, f"connector.{name}: expected a positive number, found {value}")
        _check(
            self.width % self.num_heads == 0,
            f"connector.width: expected a multiple of num_heads={self.num_heads}, "
            f"found {self.width}",
        )
        _check(
            0.0 <= self.attention_dropout < 1.0,
            f"connector.attention_dropout: expected [0, 1), found {self.attention_dropout}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A whole model. Vision and connector come together, or not at all."""

    decoder: DecoderConfig
    """The language model."""
    vision: VisionConfig | None = None
    """The vision tower; None in a language-only baseline."""
    connector: ConnectorConfig | None = None
    """Vision tower to decoder; None in a language-only baseline."""

    def __post_init__(self) -> None:
        _check(
            (self.vision is None) == (self.connector is None),
            "model: expected vision and connector together or neither, found only one",
        )
        if self.connector is not None:
            from kosmos.model.parts import connector_of  # which knows the configs

            kind = connector_of(self.connector)
            _check(
                self.connector.width == self.decoder.width or not kind.has_decoder_width,
                f"connector.width: {self.connector.kind} works at the decoder's width "
                f"{self.decoder.width}, found {self.connector.width}",
            )


def with_vocabulary(config: ModelConfig, size: int) -> ModelConfig:
    """The same model with another number of embedding rows.

    Args:
        config: Any model.
        size: Rows; :attr:`kosmos.text.vocabulary.Vocabulary.size` of the tokenizer it is for.
    """
    return replace(config, decoder=replace(config.decoder, vocab_size=size))


def _language_only(config: ModelConfig) -> ModelConfig:
    return replace(config, vision=None, connector=None)


CLIP_VIT_L14 = VisionConfig(
    image_size=224, patch_size=14, width=1024, num_layers=24, num_heads=16, ffn_width=4096
)

# The papers name Flamingo's resampler and its 64 outputs, nothing else. "About 1.6B" parameters
# in all leaves room for four layers at CLIP's width at the very most; we take two of them.
_PAPER_CONNECTOR = ConnectorConfig(
    kind="perceiver", num_layers=2, num_heads=16, width=1024, attention_dropout=0.1
)

_KOSMOS1 = ModelConfig(
    decoder=DecoderConfig(
        vocab_size=KOSMOS1_VOCAB_SIZE,
        width=2048,
        num_layers=24,
        num_heads=32,
        ffn_width=8192,
        positions="xpos",
        attention_dropout=0.1,
    ),
    vision=CLIP_VIT_L14,
    connector=_PAPER_CONNECTOR,
)

_KOSMOS2 = with_vocabulary(_KOSMOS1, KOSMOS2_VOCAB_SIZE)

_KOSMOS2_RELEASED = replace(
    _KOSMOS2,
    # its kernel takes no attention dropout, so the decoder's configured 0.1 never acts
    decoder=replace(_KOSMOS2.decoder, positions="sinusoidal", attention_dropout=0.0),
    connector=ConnectorConfig(kind="cross-attention", attention_dropout=0.1),
)

_MICRO = ModelConfig(
    decoder=DecoderConfig(
        vocab_size=2048,
        width=128,
        num_layers=3,
        num_heads=4,
        ffn_width=512,
        positions="xpos",
        max_tokens=512,
        dropout=0.0,
    ),
    vision=VisionConfig(
        image_size=64,
        patch_size=8,
        width=128,
        num_layers=3,
        num_heads=4,
        ffn_width=512,
        initial_positions="grid",
    ),
    connector=ConnectorConfig(
        kind="perceiver", num_queries=16, num_layers=2, num_heads=4, width=128
    ),
)

_NANO = ModelConfig(
    decoder=DecoderConfig(
        vocab_size=512, width=32, num_layers=2, num_heads=2, ffn_width=64, max_tokens=256
    ),
    vision=VisionConfig(
        image_size=28, patch_size=14, width=24, num_layers=2, num_heads=2, ffn_width=48
    ),
    connector=ConnectorConfig(num_queries=4, num_heads=2, width=32),
)

PRESETS: dict[str, ModelConfig] = {
    "kosmos1": _KOSMOS1,
    "kosmos2": _KOSMOS2,
    "kosmos2-released": _KOSMOS2_RELEASED,
    "kosmos1-baseline": _language_only(_KOSMOS1),
    "kosmos2-baseline": _language_only(_KOSMOS2),
    "micro": _MICRO,
    "nano": _NANO,
}
"""Named shapes. The first three are 1.3B decoders with CLIP ViT-L/14, as in the papers (xPos and
a Perceiver) or as in the public checkpoint (sinusoids and one cross-attention); a baseline is the
decoder alone, the papers' LLM; ``micro`` learns the microcosm on a CPU, ``nano`` is for tests.
The small ones take their tokenizer's size from :func:`with_vocabulary`."""
