"""What fits together: vocabularies, places, and a model without values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import CheckpointError
from kosmos.text.vocabulary import Vocabulary
from kosmos.weights.loaded import (
    as_path,
    check_vocabulary,
    num_cells_for,
    shape_model,
    tensors_of,
)
from tests.tiny import tiny_config, tiny_model, tiny_tokenizer


@given(num_pieces=st.integers(4, 10**6), num_cells=st.integers(0, 100))
def test_grid_is_known_from_the_size_of_the_vocabulary(num_pieces, num_cells):
    size = Vocabulary(num_pieces, num_cells).size
    assert num_cells_for(num_pieces, size) == num_cells


@given(num_pieces=st.integers(4, 1000), vocab_size=st.integers(0, 5000))
def test_no_grid_is_made_up(num_pieces, vocab_size):
    cells = num_cells_for(num_pieces, vocab_size)
    assert cells is None or Vocabulary(num_pieces, cells).size == vocab_size


def test_release_has_a_grid_of_32():
    assert num_cells_for(64_000, 65_037) == 32
    assert num_cells_for(64_000, 64_007) == 0
    assert num_cells_for(64_000, 65_040) is None  # padded to a multiple of 8


def test_vocabulary_that_does_not_fit_is_told_with_both_sizes():
    tokenizer = tiny_tokenizer()
    check_vocabulary(tokenizer, tiny_config(vocab_size=tokenizer.vocabulary.size), where="here")
    with pytest.raises(CheckpointError, match=r"here: expected a tokenizer of 97 ids .* found 93"):
        check_vocabulary(tokenizer, tiny_config(vocab_size=97), where="here")


def test_shape_of_a_model_is_that_of_the_model():
    model, shape = tiny_model(), shape_model(tiny_config())
    expected = {name: tuple(value.shape) for name, value in tensors_of(model).items()}
    assert {name: tuple(value.shape) for name, value in shape.named_parameters()} == expected
    assert all(value.device.type == "meta" for value in shape.parameters())


def test_model_has_nothing_but_parameters():
    """Loading assigns parameters only; a buffer would stay on the meta device."""
    assert list(tiny_model().named_buffers()) == []
    assert set(tiny_model().state_dict()) == set(tensors_of(tiny_model()))


def test_a_name_of_the_hub_is_told_how_to_become_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        as_path("microsoft/kosmos-2-patch14-224", what="a model")
    command = "hf download microsoft/kosmos-2-patch14-224 --local-dir kosmos-2-patch14-224"
    assert command in str(caught.value.hint)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError) as caught:
        as_path("runs/mine", what="a model")
    assert caught.value.hint is None
