"""Ids are the release's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import ConfigError
from kosmos.text.vocabulary import Vocabulary, location_token

RELEASED = Vocabulary(64_000)
KOSMOS1 = Vocabulary(64_000, num_cells=0)


def test_the_first_four_ids_are_fixed() -> None:
    assert (RELEASED.bos_id, RELEASED.pad_id, RELEASED.eos_id, RELEASED.unk_id) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("token", "token_id"),
    [
        ("<s>", 0),
        ("<pad>", 1),
        ("</s>", 2),
        ("<unk>", 3),
        ("<mask>", 64001),
        ("</doc>", 64002),
        ("<image>", 64003),
        ("</image>", 64004),
        ("</chunk>", 64005),
        ("</line>", 64006),
        ("<phrase>", 64007),
        ("</phrase>", 64008),
        ("<object>", 64009),
        ("</object>", 64010),
        ("</delimiter_of_multi_objects/>", 64011),
        ("<grounding>", 64012),
        ("<patch_index_0000>", 64013),
        ("<patch_index_0044>", 64057),
        ("<patch_index_1023>", 65036),
    ],
)
def test_control_tokens_have_the_released_ids(token: str, token_id: int) -> None:
    assert RELEASED.control_id(token) == token_id
    assert RELEASED.control_token(token_id) == token


def test_named_ids_are_those_of_their_tokens() -> None:
    named = {
        "<mask>": RELEASED.mask_id,
        "</doc>": RELEASED.doc_end_id,
        "<image>": RELEASED.image_id,
        "</image>": RELEASED.image_end_id,
        "</chunk>": RELEASED.chunk_end_id,
        "</line>": RELEASED.line_end_id,
        "<phrase>": RELEASED.phrase_id,
        "</phrase>": RELEASED.phrase_end_id,
        "<object>": RELEASED.object_id,
        "</object>": RELEASED.object_end_id,
        "</delimiter_of_multi_objects/>": RELEASED.delimiter_id,
        "<grounding>": RELEASED.grounding_id,
        "<patch_index_0000>": RELEASED.first_location_id,
    }
    assert {token: RELEASED.control_id(token) for token in named} == named


def test_sizes_are_those_of_the_papers() -> None:
    assert RELEASED.size == 65_037
    assert KOSMOS1.size == 64_007


def test_pieces_are_no_control_tokens_up_to_the_last() -> None:
    assert RELEASED.control_token(4) is None
    assert RELEASED.control_token(64_000) is None
    assert RELEASED.control_token(65_037) is None
    assert RELEASED.control_token(-1) is None


@pytest.mark.parametrize(
    "token", ["<patch_index_1024>", "<patch_index_44>", "<patch_index_00044>", "<box>", "dog", ""]
)
def test_what_is_no_token_has_no_id(token: str) -> None:
    assert RELEASED.control_id(token) is None


@pytest.mark.parametrize("token", ["<phrase>", "<grounding>", "<patch_index_0000>"])
def test_kosmos1_has_no_grounding_tokens(token: str) -> None:
    assert KOSMOS1.control_id(token) is None
    assert KOSMOS1.control_token(64_007) is None
    assert KOSMOS1.location_index(64_013) is None
    with pytest.raises(ConfigError, match="num_cells=0"):
        _ = KOSMOS1.phrase_id


@given(st.integers(4, 5_000), st.integers(1, 120), st.data())
def test_locations_count_from_the_first(
    num_pieces: int, num_cells: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary(num_pieces, num_cells)
    index = data.draw(st.integers(0, num_cells**2 - 1))
    token_id = vocabulary.location_id(index)
    assert vocabulary.location_index(token_id) == index
    assert vocabulary.control_token(token_id) == location_token(index)
    assert vocabulary.control_id(location_token(index)) == token_id
    assert token_id < vocabulary.size


@given(st.integers(4, 300), st.integers(0, 6))
def test_every_id_is_a_piece_or_a_control_token_with_that_id(
    num_pieces: int, num_cells: int
) -> None:
    vocabulary = Vocabulary(num_pieces, num_cells)
    tokens = [vocabulary.control_token(token_id) for token_id in range(vocabulary.size)]
    pieces = [token_id for token_id, token in enumerate(tokens) if token is None]
    assert pieces == list(range(4, num_pieces + 1))
    for token_id, token in enumerate(tokens):
        if token is not None:
            assert vocabulary.control_id(token) == token_id


@pytest.mark.parametrize("index", [-1, 1024])
def test_a_location_outside_the_grid_has_no_id(index: int) -> None:
    with pytest.raises(ConfigError, match="expected 0 to 1023"):
        RELEASED.location_id(index)


@pytest.mark.parametrize(("num_pieces", "num_cells"), [(3, 32), (0, 32), (100, -1)])
def test_impossible_sizes_are_refused(num_pieces: int, num_cells: int) -> None:
    with pytest.raises(ConfigError):
        Vocabulary(num_pieces, num_cells)
