"""Training is deterministic, quiet, and explains itself."""

from collections.abc import Iterator

import pytest

from kosmos.errors import ConfigError, DataError
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import MAX_LINE_BYTES, train_tokenizer
from tests.unit.text.conftest import corpus

TRAINER_SETTINGS = (
    "model_type character_coverage max_sentencepiece_length max_sentence_length split_digits "
    "split_by_unicode_script split_by_whitespace split_by_number treat_whitespace_as_suffix "
    "byte_fallback unk_id bos_id eos_id pad_id unk_piece bos_piece eos_piece "
    "seed_sentencepiece_size shrinking_factor num_sub_iterations"
)
NORMALIZER_SETTINGS = "name add_dummy_prefix remove_extra_whitespaces escape_whitespaces"


def test_the_same_texts_give_the_same_bytes(model_bytes: bytes) -> None:
    assert train_tokenizer(iter(corpus()), num_pieces=80) == model_bytes


def test_the_model_has_the_pieces_asked_for(model_bytes: bytes) -> None:
    assert Tokenizer.from_bytes(model_bytes, num_pieces=80).vocabulary.num_pieces == 80


def test_training_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    train_tokenizer(corpus(), num_pieces=80)
    with pytest.raises(ConfigError):
        train_tokenizer(corpus(), num_pieces=9_999)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_too_many_pieces_are_refused_with_the_largest_number_that_works() -> None:
    with pytest.raises(ConfigError, match="expected at most") as caught:
        train_tokenizer(corpus(), num_pieces=9_999)
    largest = int(caught.value.message.split("at most ")[1].split(" ")[0])
    model = train_tokenizer(corpus(), num_pieces=largest)
    assert Tokenizer.from_bytes(model).vocabulary.num_pieces == largest
    with pytest.raises(ConfigError, match=f"expected at most {largest} .* found {largest + 1}"):
        train_tokenizer(corpus(), num_pieces=largest + 1)


def test_too_few_pieces_are_refused_with_the_number_needed() -> None:
    with pytest.raises(ConfigError, match=r"expected at least \d+ to cover the characters"):
        train_tokenizer(corpus(), num_pieces=10)
    with pytest.raises(ConfigError, match="more than the 3 control pieces"):
        train_tokenizer(corpus(), num_pieces=3)


@pytest.mark.parametrize("texts", [[], [""], ["  \n \t"]])
def test_no_text_is_an_error(texts: list[str]) -> None:
    with pytest.raises(DataError, match="expected text, found none"):
        train_tokenizer(texts, num_pieces=20)


def test_an_error_of_the_texts_arrives_as_it_was_raised() -> None:
    def texts() -> Iterator[str]:
        yield "a dog"
        raise DataError("corpus.txt: expected UTF-8")

    with pytest.raises(DataError, match="expected UTF-8"):
        train_tokenizer(texts(), num_pieces=20)


def test_lines_of_a_text_are_lines() -> None:
    lines = train_tokenizer(["ab cd", "ab cd ef"], num_pieces=11)
    assert train_tokenizer(["ab cd\n\nab cd ef\n"], num_pieces=11) == lines


@pytest.mark.parametrize("separator", [" ", ""])
def test_very_long_lines_are_learned_from(separator: str) -> None:
    # SentencePiece alone passes over lines of more than 4,192 bytes without a word
    line = separator.join(["\u72ac\u732b"] * MAX_LINE_BYTES)
    tokenizer = Tokenizer.from_bytes(train_tokenizer([line], num_pieces=6))
    assert tokenizer.vocabulary.unk_id not in tokenizer.encode("\u72ac\u732b")


def test_characters_that_sentencepiece_reserves_take_no_line_with_them() -> None:
    tokenizer = Tokenizer.from_bytes(train_tokenizer(["ab\x00cd\tef \u2585 gh"], num_pieces=12))
    assert 3 not in tokenizer.encode("abcdefgh")


def test_the_settings_are_the_released_ones(shared_data: object, model_bytes: bytes) -> None:
    pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    released = pb2.ModelProto()
    path = shared_data / "kosmos2" / "sentencepiece.bpe.model"  # type: ignore[operator]
    released.ParseFromString(path.read_bytes())
    ours = pb2.ModelProto()
    ours.ParseFromString(model_bytes)
    for name in TRAINER_SETTINGS.split():
        assert getattr(ours.trainer_spec, name) == getattr(released.trainer_spec, name), name
    for name in NORMALIZER_SETTINGS.split():
        assert getattr(ours.normalizer_spec, name) == getattr(released.normalizer_spec, name), name
