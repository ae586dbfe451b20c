"""Text and boxes agree with the Hugging Face port of KOSMOS-2, run here.

Exact, so there is no tolerance: 2026-11, transformers 5.23.0. The published tokenizer files are
not needed; the port's tokenizer is built from the SentencePiece model.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.text.entities import hf_entities
from kosmos.text.locations import box_to_locations, locations_to_box
from kosmos.text.markup import Markup, parse_markup, print_markup
from kosmos.text.spans import hf_entities_of_ids, parse_ids
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import Vocabulary
from tests.strategies import markup_soup, markups

pytest.importorskip("transformers")

TYPED = ("<s>", "</s>", "<image>", "</image>", "</line>", "</doc>", "<pad>", "<mask>", "<unk>")


@pytest.fixture(scope="module")
def port() -> Any:
    """The module of the port's processor."""
    from transformers.models.kosmos2 import processing_kosmos2

    return processing_kosmos2


@pytest.fixture(scope="module")
def released(shared_data: Path) -> Tokenizer:
    """The real tokenizer of KOSMOS-2."""
    return Tokenizer.load(shared_data / "kosmos2" / "sentencepiece.bpe.model")


def likelihood(processor: Any, token_ids: list[int]) -> tuple[str, float]:
    """The text that ids spell, and the sum of their scores in the unigram model."""
    pieces = processor.tokenizer.convert_ids_to_tokens(token_ids)
    scores = dict(processor.tokenizer._vocab)
    return "".join(pieces), round(sum(scores.get(piece, 0.0) for piece in pieces), 4)


@pytest.fixture(scope="module")
def processor(port: Any, released: Tokenizer) -> Any:
    """The port's processor around the same pieces."""
    pb2 = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    from transformers import CLIPImageProcessor, XLMRobertaTokenizer

    model = pb2.ModelProto()
    model.ParseFromString(released.model_bytes)
    vocab = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab += [(piece.piece, piece.score) for piece in model.pieces[3:]]
    vocab.append(("<mask>", 0.0))
    tokenizer = XLMRobertaTokenizer(
        vocab=vocab, _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap
    )
    return port.Kosmos2Processor(CLIPImageProcessor(), tokenizer)


@settings(max_examples=300)
@given(markup_soup("ab <>.\n", num_locations=1200))
def test_entities_are_the_ports_for_any_text(port: Any, text: str) -> None:
    expected = port.clean_text_and_extract_entities_with_bboxes(text)
    assert hf_entities(text) == expected


# below 1e-9 the port's subtraction rounds a far corner at 0+ into cell -1, which is no location
@given(st.tuples(*[st.floats(0.0, 1.0).map(lambda v: round(v, 9))] * 4), st.booleans())
def test_locations_are_the_ports_for_any_box(
    port: Any, corners: tuple[float, float, float, float], on_grid: bool
) -> None:
    if on_grid:
        corners = tuple(round(corner * 32) / 32 for corner in corners)  # type: ignore[assignment]
    box = Box(*corners)
    if box.x0 < box.x1 and box.y0 < box.y1:
        assert box_to_locations(box, rounding="hf") == port.coordinate_to_patch_index(corners, 32)
    else:
        with pytest.raises(ValueError, match="x2 > x1"):
            port.coordinate_to_patch_index(corners, 32)
        with pytest.raises(DataError):
            box_to_locations(box, rounding="hf")


@given(st.integers(0, 1023), st.integers(0, 1023))
def test_boxes_are_the_ports_for_any_locations(port: Any, first: int, second: int) -> None:
    box = locations_to_box(first, second)
    assert (box.x0, box.y0, box.x1, box.y1) == port.patch_index_to_coordinate(first, second, 32)


def test_the_vocabulary_is_the_ports(processor: Any) -> None:
    vocabulary = Vocabulary(64_000)
    assert len(processor.tokenizer) == vocabulary.size
    for token_id in [*range(4), *range(vocabulary.mask_id, vocabulary.size)]:
        token = processor.tokenizer.convert_ids_to_tokens(token_id)
        assert vocabulary.control_token(token_id) == token


@settings(max_examples=200)
@given(
    markup_soup("ab c.,5\u00e9\u65e5\u00bd \n"),
    st.lists(st.tuples(st.sampled_from(TYPED), st.floats(0.0, 1.0))),
)
def test_ids_are_the_ports_where_typed_control_tokens_count(
    processor: Any, released: Tokenizer, text: str, typed: list[tuple[str, float]]
) -> None:
    for token, where in typed:
        position = round(where * len(text))
        text = text[:position] + token + text[position:]
    expected = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    ours = released.encode_markup(text, typed_control="control")
    # ">>>" is ">", ">>" or ">>", ">" at the same likelihood: SentencePiece, whose model it is, and
    # the port's tokenizer sum in another precision and may break such a tie apart
    assert ours == expected or likelihood(processor, ours) == likelihood(processor, expected)


def test_pieces_of_the_same_likelihood_are_the_only_other_ids(processor: Any) -> None:
    def ids(*pieces: str) -> list[int]:
        return processor.tokenizer.convert_tokens_to_ids(list(pieces))

    assert likelihood(processor, ids(">", ">>")) == likelihood(processor, ids(">>", ">"))
    assert likelihood(processor, ids(">", ">")) != likelihood(processor, ids(">>"))


def test_the_ports_prompts_have_our_ids(processor: Any, released: Tokenizer) -> None:
    text = "<grounding><phrase> a dog</phrase> and<phrase> two cats</phrase>"
    encoded = processor(text=text, bboxes=[(44, 863), [(1, 34), (5, 911)]], add_eos_token=True)
    markup = (
        "<grounding><phrase> a dog</phrase><object><patch_index_0044><patch_index_0863></object> "
        "and<phrase> two cats</phrase><object><patch_index_0001><patch_index_0034>"
        "</delimiter_of_multi_objects/><patch_index_0005><patch_index_0911></object>"
    )
    assert encoded["input_ids"] == [0, *released.encode_markup(markup), 2]


def test_decoded_text_is_the_ports(processor: Any, released: Tokenizer) -> None:
    ids = (
        "64012 712 1648 9 64007 10 43867 64008 64009 64057 64876 64010 5950 597 32 64007 10 646 "
        "64008 64009 64018 64924 64010 4 2"
    )
    token_ids = [int(token_id) for token_id in ids.split()]
    (expected,) = processor.batch_decode([token_ids], skip_special_tokens=True)
    assert released.decode(token_ids) == expected
    caption, entities = processor.post_process_generation(expected)
    assert hf_entities(released.decode(token_ids)) == (caption, entities)
    assert hf_entities_of_ids(token_ids, released) == (caption, entities)


@settings(max_examples=200)
@given(markup_soup("ab c<>.,\u00e9 \n"))
def test_entities_of_any_ids_are_the_ports_of_their_text(
    processor: Any, released: Tokenizer, text: str
) -> None:
    ids = released.encode_markup(text)
    assert hf_entities_of_ids(ids, released) == processor.post_process_generation(
        released.decode(ids)
    )


@settings(max_examples=200)
@given(markups(words="ab c.,"))
def test_well_formed_ids_have_the_ports_entities_from_ids_on(
    processor: Any, released: Tokenizer, markup: Markup
) -> None:
    ids = [*released.encode_markup(print_markup(markup)), 2]
    (decoded,) = processor.batch_decode([ids], skip_special_tokens=True)
    caption, entities = processor.post_process_generation(decoded)
    assert hf_entities_of_ids(ids, released) == (caption, entities)
    read = parse_ids(ids, released)
    assert read == parse_markup(released.decode(ids))
    assert read.text == caption
    ours = [
        (span.text, (span.start, span.end), [(b.x0, b.y0, b.x1, b.y1) for b in span.boxes])
        for span in read.spans
        if span.boxes
    ]
    assert ours == entities
