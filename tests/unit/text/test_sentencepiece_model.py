"""The model file's own reader against the sentencepiece package."""

import contextlib
import io

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import DataError
from kosmos.text.sentencepiece_model import (
    PieceKind,
    in_dictionary_order,
    read_sentencepiece,
    write_sentencepiece,
)
from kosmos.text.tokenizer import Tokenizer
from tests.tiny import TEXTS, tiny_tokenizer


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_pieces_scores_and_kinds_are_those_the_package_shows(byte_fallback):
    model = tiny_tokenizer(byte_fallback=byte_fallback).model_bytes
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = read_sentencepiece(model)
    assert len(ours.pieces) == theirs.vocab_size()
    for index, piece in enumerate(ours.pieces):
        assert piece.text == theirs.id_to_piece(index)
        assert piece.score == theirs.get_score(index)
        assert (piece.kind is PieceKind.BYTE) == theirs.is_byte(index)
        assert (piece.kind is PieceKind.CONTROL) == theirs.is_control(index)
    assert ours.is_unigram
    assert ours.usual_spaces
    assert ours.byte_fallback == byte_fallback
    assert len(ours.charsmap) > 10_000  # nmt_nfkc's table


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_a_model_is_written_as_it_is_read_and_splits_words_as_before(byte_fallback):
    before = tiny_tokenizer(byte_fallback=byte_fallback)
    model = write_sentencepiece(read_sentencepiece(before.model_bytes))
    assert read_sentencepiece(model) == read_sentencepiece(before.model_bytes)
    after = Tokenizer.from_bytes(model, num_cells=4)
    for text in (*TEXTS, "  Ａn  ﬁre\t火 \N{DOG FACE}", ""):
        assert after.encode(text) == before.encode(text)
        assert after.decode(after.encode(text)) == before.decode(before.encode(text))


def train(**settings) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red dog sees the cat", "the cat likes a ball"] * 5),
        model_writer=model,
        vocab_size=19,
        minloglevel=3,
        **settings,
    )
    return model.getvalue()


def test_other_settings_are_seen():
    assert not read_sentencepiece(train(model_type="bpe")).is_unigram
    assert not read_sentencepiece(train(add_dummy_prefix=False)).usual_spaces
    assert not read_sentencepiece(train(remove_extra_whitespaces=False)).usual_spaces
    assert not read_sentencepiece(train(split_by_whitespace=False)).usual_spaces
    assert read_sentencepiece(train(normalization_rule_name="identity")).charsmap == b""
    kinds = {piece.kind for piece in read_sentencepiece(train(user_defined_symbols=["!"])).pieces}
    assert PieceKind.USER_DEFINED in kinds


@given(data=st.binary(min_size=1, max_size=60))
def test_bytes_that_are_no_model_never_raise_anything_else(data):
    with contextlib.suppress(DataError):
        read_sentencepiece(data)


def test_truncated_model_is_refused():
    model = tiny_tokenizer().model_bytes
    with pytest.raises(DataError, match="expected a SentencePiece model"):
        read_sentencepiece(model[: len(model) // 2])


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_in_dictionary_order_an_index_is_an_id(byte_fallback):
    tokenizer = tiny_tokenizer(byte_fallback=byte_fallback)
    before = read_sentencepiece(tokenizer.model_bytes).pieces
    after = read_sentencepiece(in_dictionary_order(tokenizer.model_bytes)).pieces
    assert [piece.text for piece in after[:4]] == ["<s>", "< pad >", "</s>", "<unk>"]
    assert after[1].kind is PieceKind.CONTROL
    assert after[4:] == before[3:]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_in_dictionary_order_the_package_encodes_as_before(model_type):
    model = train(model_type=model_type)
    before = sentencepiece.SentencePieceProcessor(model_proto=model)
    after = sentencepiece.SentencePieceProcessor(model_proto=in_dictionary_order(model))
    for text in ("a red dog", "the  cat , a ball", "< pad > <s> \u2603", ""):
        ids = [3 if index == 0 else index + 1 for index in before.encode(text)]
        assert after.encode(text) == ids


@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_model_have_no_order(data):
    with pytest.raises(DataError, match="shard: expected"):
        in_dictionary_order(data, "shard")
