"""Small tokenizers for the tests of this folder, trained once."""

import pytest

from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer

NOUNS = ("dog", "cat", "ball", "cube", "house", "snowman", "fire", "bird")
COLORS = ("red", "green", "blue", "yellow", "white", "black")


def corpus() -> list[str]:
    """Sentences with the characters and words that the tests use."""
    return [
        f"{article} {color} {noun} sits {side} of {other}, and it is not {wrong}."
        for article in ("a", "the", "An image of the")
        for color in COLORS
        for noun in NOUNS
        for side, other, wrong in (("left", "it", "5,000"), ("right", "a bluebird", "caf\u00e9"))
    ]


@pytest.fixture(scope="session")
def model_bytes() -> bytes:
    """A SentencePiece model of 120 pieces."""
    return train_tokenizer(corpus(), num_pieces=120)


@pytest.fixture(scope="session")
def tokenizer(model_bytes: bytes) -> Tokenizer:
    """The same with a 32 x 32 grid."""
    return Tokenizer.from_bytes(model_bytes)


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """One that spells unknown characters as bytes."""
    return Tokenizer.from_bytes(train_tokenizer(corpus(), num_pieces=360, byte_fallback=True))
