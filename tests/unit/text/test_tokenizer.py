"""Words and markup to the release's ids and back."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import DataError, MarkupError
from kosmos.text.markup import lex
from kosmos.text.tokenizer import Tokenizer, TypedControl
from kosmos.text.vocabulary import Vocabulary
from tests.strategies import markup_soup

RELEASED_SHA256 = "3a60b4d1d1d8f70c8b2569c94540d4d9b7c694fd32e7a428ad0dcffaafaa3beb"


@pytest.fixture(scope="module")
def released(shared_data: Path) -> Tokenizer:
    """The real tokenizer of KOSMOS-2."""
    return Tokenizer.load(shared_data / "kosmos2" / "sentencepiece.bpe.model", num_pieces=64_000)


# --- words


def test_words_survive_a_round_trip(tokenizer: Tokenizer) -> None:
    text = "the red dog sits left of a bluebird, and it is not 5,000."
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(4 <= token_id <= tokenizer.vocabulary.num_pieces for token_id in ids)


def test_an_id_is_the_piece_index_plus_one(tokenizer: Tokenizer) -> None:
    for token_id in range(4, tokenizer.vocabulary.mask_id):
        piece = tokenizer.token(token_id)
        if piece.startswith("\u2581") and tokenizer.encode(piece[1:]) == [token_id]:
            break
    else:
        pytest.fail("no whole word is a piece")
    assert tokenizer.token(3) == "<unk>"
    assert tokenizer.token(tokenizer.vocabulary.mask_id) == "<mask>"


def test_an_unknown_word_is_the_unknown_id(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a \U0001f436")
    assert ids[-1] == 3
    assert tokenizer.decode(ids) == "a  \u2047"  # a space of its own, as SentencePiece prints it


def test_bytes_spell_unknown_words(byte_tokenizer: Tokenizer) -> None:
    text = "a \U0001f436 and \u65e5\u672c"
    assert 3 not in byte_tokenizer.encode(text)
    assert byte_tokenizer.decode(byte_tokenizer.encode(text)) == text


def test_no_typed_control_token_is_one(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<s> a </s> <image> <phrase> <grounding>")
    assert all(token_id == 3 or 4 <= token_id < tokenizer.vocabulary.mask_id for token_id in ids)


def test_a_batch_is_encoded_as_its_texts_are(tokenizer: Tokenizer) -> None:
    texts = ["a red dog", "", "the cat, \U0001f436 of fire"]
    expected = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts) == expected
    # many take the parallel way
    assert tokenizer.encode_batch(texts * 400) == expected * 400


@given(st.lists(st.sampled_from(["a", "red", "dog", "cat", "the", "left"]), min_size=1))
def test_decoding_undoes_encoding(tokenizer: Tokenizer, words: list[str]) -> None:
    text = " ".join(words)
    assert tokenizer.decode(tokenizer.encode(text)) == text


# --- markup


def test_grounding_tokens_become_control_ids(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.vocabulary
    text = (
        "<grounding><phrase>a dog</phrase><object><patch_index_0044><patch_index_0863>"
        "</delimiter_of_multi_objects/><patch_index_0000><patch_index_1023></object> left"
    )
    assert tokenizer.encode_markup(text) == [
        vocabulary.grounding_id,
        vocabulary.phrase_id,
        *tokenizer.encode("a dog"),
        vocabulary.phrase_end_id,
        vocabulary.object_id,
        vocabulary.location_id(44),
        vocabulary.location_id(863),
        vocabulary.delimiter_id,
        vocabulary.location_id(0),
        vocabulary.location_id(1023),
        vocabulary.object_end_id,
        *tokenizer.encode("left"),
    ]


def test_spaces_beside_a_token_change_nothing(tokenizer: Tokenizer) -> None:
    close = tokenizer.encode_markup("<phrase>a dog</phrase> of it")
    assert tokenizer.encode_markup("<phrase> a dog </phrase>  of it") == close


def test_text_without_tokens_is_encoded_as_words(tokenizer: Tokenizer) -> None:
    for text in ("a red dog", "a < b > c", "</s> and <image>", ""):
        assert tokenizer.encode_markup(text) == tokenizer.encode(text)


def test_typed_control_tokens_are_words_unless_asked_for(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.vocabulary
    text = "<s><image> a </image>dog</line><mask><pad></doc></chunk><unk></s>"
    assert tokenizer.encode_markup(text) == tokenizer.encode(text)
    assert tokenizer.encode_markup(text, typed_control="control") == [
        vocabulary.bos_id,
        vocabulary.image_id,
        *tokenizer.encode("a"),
        vocabulary.image_end_id,
        *tokenizer.encode("dog"),
        vocabulary.line_end_id,
        vocabulary.mask_id,
        vocabulary.pad_id,
        vocabulary.doc_end_id,
        vocabulary.chunk_end_id,
        vocabulary.unk_id,
        vocabulary.eos_id,
    ]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("<patch_index_1024>", "<patch_index_0000> to <patch_index_1023>"),
        ("<patch_index_44>", "expected <patch_index_0044>"),
    ],
)
def test_a_location_outside_the_vocabulary_is_an_error_with_its_position(
    tokenizer: Tokenizer, token: str, expected: str
) -> None:
    with pytest.raises(MarkupError, match=expected) as caught:
        tokenizer.encode_markup(f"a dog{token}")
    assert caught.value.position == 5


def test_without_a_grid_grounding_tokens_are_words(model_bytes: bytes) -> None:
    tokenizer = Tokenizer.from_bytes(model_bytes, num_cells=0)
    text = "<phrase>a dog</phrase><patch_index_9999>"
    assert tokenizer.encode_markup(text) == tokenizer.encode(text)
    assert tokenizer.vocabulary.size == 87


@given(markup_soup("ad .,ogr"))
def test_markup_survives_a_round_trip_up_to_spaces(tokenizer: Tokenizer, text: str) -> None:
    def squeezed(text: str) -> list[str]:
        lexemes = [" ".join(lexeme.text.split()) for lexeme in lex(text)]
        return [lexeme for lexeme in lexemes if lexeme]

    decoded = tokenizer.decode(tokenizer.encode_markup(text))
    assert squeezed(decoded) == squeezed(text)


@given(data=st.data())
def test_ids_are_cut_into_the_text_they_decode_to(
    tokenizer: Tokenizer, data: st.DataObject
) -> None:
    vocabulary = tokenizer.vocabulary
    control = st.integers(vocabulary.mask_id, vocabulary.first_location_id + 5)
    ids = data.draw(st.lists(control | st.integers(0, vocabulary.size - 1), max_size=20))
    lexemes = tokenizer.lex(ids)
    assert "".join(lexeme.text for lexeme in lexemes) == tokenizer.decode(ids)
    positions = [lexeme.position for lexeme in lexemes]
    assert positions == sorted(set(positions))
    for lexeme in lexemes:
        if lexeme.kind != "words":
            assert lexeme.text == tokenizer.token(ids[lexeme.position])


def test_words_spelled_like_a_token_stay_words(byte_tokenizer: Tokenizer) -> None:
    ids = [*byte_tokenizer.encode("a<object>"), byte_tokenizer.vocabulary.object_id]
    kinds = [(lexeme.kind, lexeme.text) for lexeme in byte_tokenizer.lex(ids)]
    assert kinds == [("words", "a<object>"), ("object", "<object>")]
    assert [lexeme.kind for lexeme in lex(byte_tokenizer.decode(ids))] == [
        "words",
        "object",
        "object",
    ]


@given(texts=st.lists(markup_soup("ab c.,<>"), max_size=30), control=st.booleans())
def test_a_batch_of_markup_is_each_of_its_texts(
    tokenizer: Tokenizer, texts: list[str], control: bool
) -> None:
    typed: TypedControl = "control" if control else "text"
    texts = [f"{text}<s>" for text in texts] + texts
    expected = [tokenizer.encode_markup(text, typed_control=typed) for text in texts]
    assert tokenizer.encode_markup_batch(texts, typed_control=typed) == expected


def test_a_wrong_location_in_a_batch_is_found(tokenizer: Tokenizer) -> None:
    with pytest.raises(MarkupError, match=r"character 2: text 1: expected <patch_index_0000>"):
        tokenizer.encode_markup_batch(["a", "a <patch_index_1024>"])


def test_another_grid_keeps_the_words(tokenizer: Tokenizer) -> None:
    fine = tokenizer.with_grid(64)
    assert fine.vocabulary == Vocabulary(80, 64)
    assert fine.encode("a red dog") == tokenizer.encode("a red dog")
    assert fine.decode([fine.vocabulary.location_id(4000)]) == "<patch_index_4000>"
    assert tokenizer.vocabulary.num_cells == 32


# --- spans


def test_a_span_of_words_is_the_tokens_of_the_words(tokenizer: Tokenizer) -> None:
    text = "the red dog sits left of a bluebird"
    start = text.index("red dog")
    first, end = tokenizer.span_tokens(text, start, start + len("red dog"))
    assert tokenizer.decode(tokenizer.encode(text)[first:end]) == "red dog"


def test_spans_cut_a_text_into_its_tokens(tokenizer: Tokenizer) -> None:
    text = "the red dog sits left of a bluebird"
    bounds = [0]
    for position in [index for index, letter in enumerate(text) if letter == " "] + [len(text)]:
        first, end = tokenizer.span_tokens(text, bounds[-1] and bounds[-1] + 1, position)
        assert first < end
        bounds.append(position)
    assert end == len(tokenizer.encode(text))


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 2), (-1, 2), (0, 99), (3, 4)])
def test_a_span_that_covers_no_token_is_an_error(
    tokenizer: Tokenizer, start: int, end: int
) -> None:
    with pytest.raises(MarkupError):
        tokenizer.span_tokens("the dog", start, end)


def test_the_last_token_before_a_span_may_change(released: Tokenizer) -> None:
    # alone "blueb" is other pieces than inside bluebird: the span begins one token earlier
    text = "a bluebird sits"
    assert released.span_tokens(text, 2, 10) == (1, 3)
    assert released.span_tokens(text, 6, 10) == (2, 3)


def test_the_worked_example_of_the_release(released: Tokenizer) -> None:
    caption = "a wire hanger with a paper cover that reads we heart our customers"
    ids = released.encode(caption)
    assert ids == [10, 6454, 31772, 23, 10, 1287, 1285, 14, 6372, 46, 689, 84, 1158]
    assert released.span_tokens(caption, 0, 13) == (0, 3)
    assert released.span_tokens(caption, 19, 32) == (4, 7)
    assert released.span_tokens(caption, 0, 66) == (0, 13)


# --- files


def test_a_tokenizer_is_saved_and_loaded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tokenizer.model"
    tokenizer.save(path)
    again = Tokenizer.load(path, num_cells=32)
    assert again.model_bytes == tokenizer.model_bytes
    assert again.digest == tokenizer.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_tokenizer_travels_to_another_process(model_bytes: bytes) -> None:
    tokenizer = Tokenizer.from_bytes(model_bytes, num_cells=4)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.vocabulary == tokenizer.vocabulary
    assert again.encode("a dog") == tokenizer.encode("a dog")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "json"])
def test_a_file_that_is_no_model_is_an_error_that_names_it(
    model_bytes: bytes, tmp_path: Path, damage: str
) -> None:
    damaged = {
        "cut": model_bytes[:-5],
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "json": b'{"model": {"type": "Unigram"}}',
    }
    path = tmp_path / "broken.model"
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"broken\.model: expected a SentencePiece model"):
        Tokenizer.load(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.model: .*No such file"):
        Tokenizer.load(tmp_path / "absent.model")


def test_another_number_of_pieces_is_an_error(model_bytes: bytes) -> None:
    with pytest.raises(DataError, match="expected 64000 pieces, found 80"):
        Tokenizer.from_bytes(model_bytes, num_pieces=64_000)


def test_other_control_pieces_are_an_error() -> None:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a dog and a cat"]),
        model_writer=model,
        vocab_size=13,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=3,
    )
    with pytest.raises(DataError, match="expected the pieces <unk> <s> </s> first, found <pad>"):
        Tokenizer.from_bytes(model.getvalue())


# --- the real tokenizer


def test_the_released_file_is_the_published_one(released: Tokenizer) -> None:
    assert released.digest == RELEASED_SHA256
    assert released.vocabulary.size == 65_037


def test_the_dictionary_is_the_released_one(released: Tokenizer, shared_data: Path) -> None:
    lines = (shared_data / "kosmos2" / "dict.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert [released.token(4 + row) for row in range(len(lines))] == [
        line.rsplit(" ", 1)[0] for line in lines
    ]
    assert len(lines) == 63_997


def test_golden_markup_has_the_published_ids(released: Tokenizer, shared_data: Path) -> None:
    path = shared_data.parent / "spec" / "golden" / "tokens.json"
    if not path.exists():
        pytest.skip("golden tokens are not staged")
    cases = json.loads(path.read_text())
    for case in cases:
        assert released.encode_markup(case["text"]) == case["ids_no_special"], case["text"]
    assert len(cases) == 20


def test_golden_texts_have_the_published_pieces_and_ids(
    released: Tokenizer, shared_data: Path
) -> None:
    path = shared_data / "kosmos2" / "golden" / "tokens_dev.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 273
    assert released.encode_batch([row["text"] for row in rows]) == [row["ids"] for row in rows]
    for row in rows:
        assert released.decode(row["ids"]) == row["decoded"]
        pieces = zip(row["ids"], row["pieces"], strict=True)
        assert all(i == 3 or released.token(i) == piece for i, piece in pieces)


def test_the_published_processor_cases_have_their_ids(
    released: Tokenizer, shared_data: Path
) -> None:
    published = json.loads((shared_data / "kosmos2/golden/published_dev.json").read_text())
    for token, token_id in published["special_token_ids"].items():
        assert released.vocabulary.control_id(token) == token_id
    for case in published["processor_cases"]:
        boxes = case["bboxes"] or [[]]
        pairs = boxes[0] if boxes[0] and isinstance(boxes[0][0], list) else boxes
        inside = "</delimiter_of_multi_objects/>".join(
            "".join(f"<patch_index_{index:04d}>" for index in pair) for pair in pairs if pair
        )
        text = case["text"]
        if inside:
            text = text.replace("</phrase>", f"</phrase><object>{inside}</object>")
        assert [0, *released.encode_markup(text), 2] == case["ids"]
    decoded = published["decode_cases"][0]["processed"]
    assert released.decode(released.encode_markup(decoded)) == decoded.replace(
        "</object>.", "</object> ."
    )


def test_the_published_answer_decodes_to_the_published_text(released: Tokenizer) -> None:
    # the checkpoint's ids for the snowman, prompt included
    ids = (
        "0 64003 4 5 6 64004 64012 712 1648 9 64007 10 43867 64008 64009 64057 64876 64010 5950 "
        "597 32 64007 10 646 64008 64009 64018 64924 64010 4 2"
    )
    assert released.decode([int(token_id) for token_id in ids.split()]) == (
        "<grounding> An image of<phrase> a snowman</phrase><object><patch_index_0044>"
        "<patch_index_0863></object> warming himself by<phrase> a fire</phrase><object>"
        "<patch_index_0005><patch_index_0911></object>."
    )
