"""Ids are read as their text is, faster, and positions point back at them."""

import dataclasses
import functools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.errors import DataError
from kosmos.text.entities import hf_entities
from kosmos.text.markup import Markup, parse_lexemes, parse_markup, print_markup
from kosmos.text.spans import hf_entities_of_ids, parse_ids
from kosmos.text.tokenizer import Tokenizer
from tests.strategies import markup_soup, markups


@functools.cache  # a strategy that is made anew for every example was called flaky once
def any_ids(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    """Ids in any order, many of them grounding tokens, often in an order that means something."""
    vocabulary = tokenizer.vocabulary
    word = st.integers(0, vocabulary.mask_id - 1)
    control = st.integers(vocabulary.mask_id, vocabulary.grounding_id)
    location = st.integers(0, vocabulary.num_locations - 1).map(vocabulary.location_id)
    box = st.lists(location, min_size=2, max_size=2)
    piece = st.one_of(
        word.map(lambda one: [one]),
        control.map(lambda one: [one]),
        location.map(lambda one: [one]),
        st.lists(word, max_size=3).map(
            lambda words: [vocabulary.phrase_id, *words, vocabulary.phrase_end_id]
        ),
        box.map(lambda two: [vocabulary.object_id, *two, vocabulary.object_end_id]),
    )
    return st.lists(piece, max_size=14).map(lambda pieces: [one for some in pieces for one in some])


def without_positions(markup: Markup) -> Markup:
    dropped = tuple(dataclasses.replace(item, position=0) for item in markup.dropped)
    return dataclasses.replace(markup, dropped=dropped)


def check(ids: list[int], tokenizer: Tokenizer) -> None:
    """All ways of reading ids agree."""
    num_cells = tokenizer.vocabulary.num_cells
    found = parse_ids(ids, tokenizer)
    one_by_one = parse_lexemes(tokenizer.lex(ids), end=len(ids), num_cells=num_cells, lenient=True)
    assert found == one_by_one
    assert [s.positions for s in found.spans] == [s.positions for s in one_by_one.spans]
    text = tokenizer.decode(ids)
    assert without_positions(found) == without_positions(
        parse_markup(text, num_cells=num_cells, lenient=True)
    )
    assert hf_entities_of_ids(ids, tokenizer) == hf_entities(text, num_cells)
    for span in found.spans:
        for locations, positions in zip(span.locations, span.positions, strict=True):
            read = tuple(tokenizer.vocabulary.location_index(ids[at]) for at in positions)
            assert read == locations


@settings(max_examples=400)
@given(data=st.data())
def test_any_ids_read_as_their_text_reads(tokenizer: Tokenizer, data: st.DataObject) -> None:
    check(data.draw(any_ids(tokenizer)), tokenizer)


@given(data=st.data())
def test_so_do_bytes_of_characters(byte_tokenizer: Tokenizer, data: st.DataObject) -> None:
    check(data.draw(any_ids(byte_tokenizer)), byte_tokenizer)


@pytest.fixture(scope="module")
def fine_tokenizer(model_bytes: bytes) -> Tokenizer:
    return Tokenizer.from_bytes(model_bytes, num_cells=50)


@given(data=st.data())
def test_so_does_a_grid_with_more_locations_than_signs(
    fine_tokenizer: Tokenizer, data: st.DataObject
) -> None:
    check(data.draw(any_ids(fine_tokenizer)), fine_tokenizer)


@given(markups())
def test_printed_markup_is_read_back_from_its_ids(tokenizer: Tokenizer, markup: Markup) -> None:
    check(tokenizer.encode_markup(print_markup(markup)), tokenizer)


@given(text=markup_soup("ab c.,<>\u00e9\n"))
def test_typed_markup_is_read_from_its_ids(tokenizer: Tokenizer, text: str) -> None:
    check(tokenizer.encode_markup(text), tokenizer)


def test_boxes_know_their_ids(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_markup(
        "<grounding>left of<phrase> a dog</phrase> and<phrase> it</phrase><object>"
        "<patch_index_0001><patch_index_0034></delimiter_of_multi_objects/>"
        "<patch_index_0005><patch_index_0911></object>."
    )
    markup = parse_ids([*ids, tokenizer.vocabulary.eos_id], tokenizer)
    assert markup.grounding
    assert [(span.text, span.locations) for span in markup.spans] == [
        ("a dog", ()),
        ("it", ((1, 34), (5, 911))),
    ]
    assert [[ids[at] for at in pair] for pair in markup.spans[1].positions] == [
        [tokenizer.vocabulary.location_id(index) for index in pair] for pair in ((1, 34), (5, 911))
    ]


def test_words_spelled_like_a_token_are_words(byte_tokenizer: Tokenizer) -> None:
    ids = byte_tokenizer.encode("a<phrase>b</phrase>")
    assert parse_ids(ids, byte_tokenizer) == Markup("a<phrase>b</phrase>")


def test_without_a_grid_all_ids_are_words(model_bytes: bytes) -> None:
    tokenizer = Tokenizer.from_bytes(model_bytes, num_cells=0)
    assert parse_ids(tokenizer.encode("a red dog"), tokenizer) == Markup("a red dog")
    assert parse_ids([], tokenizer) == Markup("")


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_named(tokenizer: Tokenizer, wrong: int) -> None:
    for read in (parse_ids, hf_entities_of_ids):
        with pytest.raises(DataError, match=re.escape(f"found {wrong}")):
            read([5, wrong], tokenizer)
