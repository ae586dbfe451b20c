"""A tiny model with random weights, its tokenizer, and pictures; made once."""

import numpy as np
import PIL.Image
import pytest

from kosmos.generate.generator import Generator
from kosmos.text.tokenizer import Tokenizer
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture(scope="session")
def generator(tokenizer: Tokenizer) -> Generator:
    return make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=3))


@pytest.fixture(scope="session")
def pictures() -> list[PIL.Image.Image]:
    rng = np.random.default_rng(0)
    sizes = ((20, 30), (40, 16), (16, 16))
    return [
        PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]
