"""A tiny model with random weights, and its tokenizer, for tests of what is done with logits."""

import functools

import torch

from kosmos.document.layout import INFERENCE, Layout
from kosmos.generate.generator import Generator
from kosmos.image.config import ImageConfig
from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer
from kosmos.weights.loaded import LoadedModel

NOUNS = ("circle", "square", "star", "dog")
COLORS = ("red", "green", "blue")


@functools.cache
def small_tokenizer() -> Tokenizer:
    """A real SentencePiece model of 40 pieces."""
    texts = [
        f"An image of a {color} {noun} left of the {other}. Question: What is it? Answer: yes, no."
        for color in COLORS
        for noun in NOUNS
        for other in NOUNS
    ]
    return Tokenizer.from_bytes(train_tokenizer(texts, num_pieces=40), num_cells=4)


def make_model(
    vocab_size: int, *, seed: int, positions: str = "sinusoidal", end_bias: float = 1.0
) -> Kosmos:
    """Random weights whose next token is neither certain nor uniform."""
    torch.manual_seed(seed)
    config = ModelConfig(
        decoder=DecoderConfig(
            vocab_size=vocab_size,
            width=32,
            num_layers=2,
            num_heads=4,
            ffn_width=64,
            max_tokens=96,
            positions=positions,
        ),
        vision=VisionConfig(
            image_size=16, patch_size=8, width=24, num_layers=1, num_heads=2, ffn_width=48
        ),
        connector=ConnectorConfig(num_queries=3, num_heads=4, width=32),
    )
    model = Kosmos(config).eval()
    with torch.no_grad():
        for parameter in model.decoder.layers.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
        table = model.decoder.embedding.weight.mul_(0.3)
        # signs, or the tied head would answer every token with itself; and some taste for </s>
        model.decoder.norm.weight.copy_(torch.randn(32))
        model.decoder.norm.bias.copy_(end_bias * table[2] / table[2].norm())
    return model


def make_generator(
    tokenizer: Tokenizer, model: Kosmos, *, geometry: str = "square", layout: Layout = INFERENCE
) -> Generator:
    """Who answers with it, its pictures 16 pixels wide and 3 tokens long."""
    return Generator(
        LoadedModel(
            model=model,
            tokenizer=tokenizer,
            image=ImageConfig(size=16, geometry=geometry),
            layout=Layout(
                num_image_tokens=3,
                slot_ids=layout.slot_ids,
                rounding=layout.rounding,
                spans=layout.spans,
            ),
            provenance=None,
        )
    )
