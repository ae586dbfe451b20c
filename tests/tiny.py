"""Small models, tokenizers and pictures that tests of several packages are written with."""

import functools

import numpy as np
import torch

from kosmos.document.layout import INFERENCE, Layout
from kosmos.image.config import ImageConfig
from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig
from kosmos.model.kosmos import Kosmos
from kosmos.runtime import generator
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer

NOUNS = ("dog", "cat", "snowman", "fire", "house", "tree", "ball", "car")
VERBS = ("sees", "likes", "is near", "runs past", "sits on")
TEXTS = tuple(
    f"A {color} {noun} {verb} the {other}, {count} times; an image of Answer: Question"
    for count, (color, noun, verb, other) in enumerate(
        (color, noun, verb, NOUNS[(index * 3 + 1) % len(NOUNS)])
        for color in ("red", "green", "blue")
        for index, noun in enumerate(NOUNS)
        for verb in VERBS
    )
)


@functools.cache
def tiny_tokenizer(num_cells: int = 4, *, byte_fallback: bool = False) -> Tokenizer:
    """A real SentencePiece model of a few pieces, trained on :data:`TEXTS`."""
    num_pieces = 320 if byte_fallback else 64
    model = train_tokenizer(TEXTS, num_pieces=num_pieces, byte_fallback=byte_fallback)
    return Tokenizer.from_bytes(model, num_cells=num_cells)


def tiny_config(*, vocab_size: int = 97, vision: bool = True) -> ModelConfig:
    """Two layers of everything, of the kind transformers can be."""
    return ModelConfig(
        decoder=DecoderConfig(
            vocab_size=vocab_size, width=32, num_layers=2, num_heads=4, ffn_width=64, dropout=0.0
        ),
        vision=VisionConfig(
            image_size=28, patch_size=14, width=24, num_layers=2, num_heads=3, ffn_width=48
        )
        if vision
        else None,
        connector=ConnectorConfig(num_queries=3, num_heads=4, width=32) if vision else None,
    )


def tiny_image(config: ModelConfig) -> ImageConfig:
    """Preprocessing that ends at the model's size."""
    return ImageConfig(size=config.vision.image_size if config.vision is not None else 224)


def tiny_layout(config: ModelConfig) -> Layout:
    """Released inference's layout with the model's number of slots."""
    queries = config.connector.num_queries if config.connector is not None else 64
    return Layout(
        num_image_tokens=queries,
        slot_ids=INFERENCE.slot_ids,
        rounding=INFERENCE.rounding,
        spans=INFERENCE.spans,
    )


def randomize(module: torch.nn.Module, *, seed: int = 0, scale: float = 0.3) -> None:
    """Give every parameter values that leave no term without effect: norms near 1, biases too."""
    rng = generator(seed, "randomize")
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            values = torch.from_numpy(rng.standard_normal(tuple(parameter.shape))) * scale
            is_norm = "norm" in name or "_ln" in name
            parameter.copy_(values + 1.0 if is_norm and name.endswith("weight") else values)


def tiny_model(config: ModelConfig | None = None, *, seed: int = 0) -> Kosmos:
    """A model with random weights, in evaluation mode."""
    model = Kosmos(config or tiny_config())
    randomize(model, seed=seed)
    return model.eval()


def noise_pixels(images: int, size: int, *, seed: int = 0) -> torch.Tensor:
    """Pictures of noise, as pixels."""
    rng = generator(seed, "pixels")
    return torch.from_numpy(rng.standard_normal((images, 3, size, size), dtype=np.float32))
