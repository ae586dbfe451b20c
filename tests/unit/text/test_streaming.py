"""Streamed text is whole characters and whole tokens, and adds up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import DataError
from kosmos.text.tokenizer import Tokenizer


def pushed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(token_id) for token_id in ids), stream.finish()]


def test_half_a_character_is_held_back(byte_tokenizer: Tokenizer) -> None:
    ids = byte_tokenizer.encode("a \U0001f436.")
    assert [part for part in pushed(byte_tokenizer, ids) if part] == ["a", " \U0001f436", "."]


def test_a_character_that_never_ends_is_replaced(byte_tokenizer: Tokenizer) -> None:
    ids = byte_tokenizer.encode("a \U0001f436")[:-1]
    assert "".join(pushed(byte_tokenizer, ids)) == "a \ufffd"
    dog = byte_tokenizer.encode("dog")
    assert "".join(pushed(byte_tokenizer, ids + dog)) == "a \ufffd dog"


def test_a_control_token_comes_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_markup("<grounding><phrase>a</phrase><object><patch_index_0044>")
    parts = [part for part in pushed(tokenizer, ids) if part]
    assert parts == ["<grounding>", "<phrase>", " a", "</phrase>", "<object>", "<patch_index_0044>"]


def test_spaces_at_the_ends_are_not_text(tokenizer: Tokenizer) -> None:
    space = next(i for i in range(4, 81) if tokenizer.token(i) == "\u2581")
    a = tokenizer.encode("a")
    assert pushed(tokenizer, [space, *a, space, space]) == ["", "a", "", "", ""]
    assert "".join(pushed(tokenizer, [*a, space, *a])) == "a  a"


def test_words_only_leaves_the_tokens_out(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_markup("<grounding>the<phrase> dog</phrase><object></object> left")
    assert tokenizer.decode(ids, markup=False) == "the dog left"


def test_images_and_the_ends_of_things_are_left_out(tokenizer: Tokenizer) -> None:
    v = tokenizer.vocabulary
    the, dog = tokenizer.encode("the"), tokenizer.encode("dog")
    image = [v.image_id, 4, 5, 6, v.image_id, v.image_end_id]
    ids = [
        v.bos_id,
        *the,
        *image,
        *dog,
        v.mask_id,
        v.doc_end_id,
        v.chunk_end_id,
        v.eos_id,
        v.pad_id,
    ]
    assert tokenizer.decode(ids) == "the dog"


def test_the_end_of_a_line_is_a_line_break(tokenizer: Tokenizer) -> None:
    end = tokenizer.vocabulary.line_end_id
    dog = tokenizer.encode("dog")
    assert tokenizer.decode([*dog, end, *dog, end, end, *dog, end]) == "dog\ndog\n\ndog"


def test_an_id_outside_the_vocabulary_is_an_error(tokenizer: Tokenizer) -> None:
    for token_id in (-1, tokenizer.vocabulary.size):
        with pytest.raises(DataError, match="token id: expected 0 to"):
            tokenizer.decode([token_id])
        with pytest.raises(DataError, match="token id: expected 0 to"):
            tokenizer.token(token_id)


def test_a_finished_decoder_starts_anew(byte_tokenizer: Tokenizer) -> None:
    stream = byte_tokenizer.stream()
    ids = byte_tokenizer.encode("a \U0001f436 dog")
    first = "".join([stream.push(i) for i in ids]) + stream.finish()
    again = "".join([stream.push(i) for i in ids]) + stream.finish()
    assert first == again == "a \U0001f436 dog"


@given(st.data())
def test_streamed_parts_add_up_to_the_decoded_text(
    byte_tokenizer: Tokenizer, data: st.DataObject
) -> None:
    v = byte_tokenizer.vocabulary
    ids = data.draw(st.lists(st.integers(0, v.first_location_id + 3), max_size=30))
    parts = pushed(byte_tokenizer, ids)
    text = byte_tokenizer.decode(ids)
    assert "".join(parts) == text
    assert text == text.strip()
    # nothing is taken back: each part is final, and a token is never split over two
    for token_id, part in zip(ids, parts, strict=False):
        token = v.control_token(token_id)
        if token and token_id > v.line_end_id and token in text and part:
            assert part.endswith(token)


@given(st.text(max_size=20))
def test_streaming_any_text_as_bytes_gives_what_sentencepiece_gives(
    byte_tokenizer: Tokenizer, text: str
) -> None:
    ids = byte_tokenizer.encode(text)
    assert byte_tokenizer.decode(ids) == byte_tokenizer._processor.decode(ids).strip()
