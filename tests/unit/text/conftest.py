"""Small tokenizers for the tests of this folder, trained once."""

import pytest

from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer

NOUNS = (
    "dog cat ball cube house snowman fire bird bluebird garden window kitchen mountain river "
    "bicycle umbrella sandwich elephant caf\u00e9"
)
ADJECTIVES = "red green blue yellow white black small large wooden broken beautiful ancient"
VERBS = "sits stands runs sleeps warms watches follows touches carries paints sees finds"


def corpus() -> list[str]:
    """Sentences with the characters and words that the tests use."""
    nouns, adjectives, verbs = NOUNS.split(), ADJECTIVES.split(), VERBS.split()
    sentences = [
        f"{article} {adjective} {noun} {verb} left of a {other}, and it is not 5,000 right."
        for article in ("A", "The", "An image of the")
        for adjective, verb in zip(adjectives, verbs, strict=True)
        for noun, other in zip(nouns, reversed(nouns), strict=True)
    ]
    return sentences + [f"{word} the {word}s" for word in nouns + adjectives + verbs]


@pytest.fixture(scope="session")
def model_bytes() -> bytes:
    """A SentencePiece model of 80 pieces."""
    return train_tokenizer(corpus(), num_pieces=80)


@pytest.fixture(scope="session")
def tokenizer(model_bytes: bytes) -> Tokenizer:
    """The same with a 32 x 32 grid."""
    return Tokenizer.from_bytes(model_bytes)


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """One that spells unknown characters as bytes."""
    return Tokenizer.from_bytes(train_tokenizer(corpus(), num_pieces=336, byte_fallback=True))
