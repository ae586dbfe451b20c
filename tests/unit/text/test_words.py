"""Words that are looked up have the ids that SentencePiece gives them in any text."""

import io
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.text.words import Words
from tests.unit.text.conftest import ADJECTIVES, NOUNS, corpus

TEXTS = st.text("abdeghl rtu,.<>5", max_size=40) | st.lists(
    st.sampled_from([*NOUNS.split(), *ADJECTIVES.split(), "aaaa", "zq", "5,000", ""]), max_size=30
).map(" ".join)


def processor_of(model: bytes) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return processor


def trained(**options: object) -> sentencepiece.SentencePieceProcessor:
    """A model with other settings than ours."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        vocab_size=80,
        hard_vocab_limit=False,
        minloglevel=3,
        **options,
    )
    return processor_of(model.getvalue())


def learned(processor: sentencepiece.SentencePieceProcessor, text: str) -> list[int] | None:
    """What is said of a text that was met three times."""
    words = Words(processor)
    for _ in range(2):
        words.encode(text)
    return words.encode(text)


def expected(processor: sentencepiece.SentencePieceProcessor, text: str) -> list[int]:
    return [index + 1 if index else 3 for index in processor.encode(text)]


@pytest.fixture(scope="module")
def processor(model_bytes: bytes) -> sentencepiece.SentencePieceProcessor:
    """The small model of these tests."""
    return processor_of(model_bytes)


@pytest.fixture(scope="module")
def released(shared_data: Path) -> Words:
    """The words of the real model; they stay known from one text to the next."""
    model = (shared_data / "kosmos2" / "sentencepiece.bpe.model").read_bytes()
    return Words(processor_of(model))


def test_a_word_is_known_when_it_came_twice(
    processor: sentencepiece.SentencePieceProcessor,
) -> None:
    words = Words(processor)
    assert words.encode("red dog") is None
    assert words.encode("the red dog") is None
    assert words.encode("red dog") == expected(processor, "red dog")
    assert words.encode("the dog") is None


@settings(max_examples=300)
@given(text=TEXTS)
def test_what_is_known_is_what_sentencepiece_says(
    processor: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    assert learned(processor, text) in (None, expected(processor, text))


@settings(deadline=None)
@given(texts=st.lists(TEXTS, max_size=6))
def test_so_it_is_with_the_real_model(released: Words, texts: list[str]) -> None:
    for text in texts * 3:
        found = released.encode(text)
        if found is not None:
            assert found == expected(released._processor, text)


def test_real_captions_are_mostly_known_and_all_right(released: Words) -> None:
    texts = corpus()
    for text in texts * 2:
        released.encode(text)
    plain = [text for text in texts if text.isascii()]
    found = [released.encode(text) for text in plain]
    assert found.count(None) < 0.1 * len(found)
    for text, ids in zip(plain, found, strict=True):
        assert ids in (None, expected(released._processor, text))


@pytest.mark.parametrize("word", ["ope", "457"])
def test_a_word_that_rounding_could_split_otherwise_is_never_known(
    released: Words, word: str
) -> None:
    for _ in range(4):
        assert released.encode(word) is None


@pytest.mark.parametrize("text", ["caf\u00e9", "a\tdog", "a\u2047", "dog " * 300])
def test_other_texts_are_left_to_sentencepiece(
    processor: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    assert learned(processor, text) is None


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe"},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
        {"split_by_whitespace": False},
        {"normalization_rule_name": "nmt_nfkc_cf"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_unusual_model_gives_its_own_ids(options: dict[str, object]) -> None:
    unusual = trained(**options)
    for text in ("The red dog", "a  dog", " a", "dog"):
        assert learned(unusual, text) in (None, expected(unusual, text))
