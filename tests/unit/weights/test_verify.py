"""Verification between two folders of ours; Hugging Face ones are in tests/parity."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from kosmos.config import replace
from kosmos.errors import CheckpointError
from kosmos.weights.folder import save_model
from kosmos.weights.verify import Verification, verify
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer


def save(folder, *, vision=True, model=None):
    config = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size, vision=vision)
    model = model or tiny_model(config)
    save_model(
        folder,
        model=model,
        tokenizer=tiny_tokenizer(),
        image=tiny_image(config),
        layout=tiny_layout(config),
        provenance=None,
    )
    return model


@pytest.mark.parametrize("vision", [True, False], ids=["sees", "reads"])
def test_folder_is_the_same_model_as_its_copy(tmp_path, vision):
    model = save(tmp_path / "a", vision=vision)
    save(tmp_path / "b", model=model, vision=vision)
    found = verify(tmp_path / "a", tmp_path / "b")
    assert found.passed
    assert found.max_logit_difference == 0.0
    assert found.max_logit > 1.0
    assert found.tensor_differences.keys() == dict(model.named_parameters()).keys()


def test_difference_is_found_where_it_is(tmp_path):
    model = save(tmp_path / "a")
    with torch.no_grad():
        model.vision.layers[0].ffn.fc1.weight[0, 0] += 0.5
    save(tmp_path / "b", model=model)
    found = verify(tmp_path / "a", tmp_path / "b")
    assert not found.passed
    assert found.worst_tensor == "vision.layers.0.ffn.fc1.weight"
    assert found.max_tensor_difference == pytest.approx(0.5)
    assert found.max_logit_difference > 1e-4


def test_file_that_was_changed_after_saving_is_reported(tmp_path):
    save(tmp_path / "a")
    file = tmp_path / "a" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors, file)  # the same values, other bytes: no word about the format
    found = verify(tmp_path / "a", tmp_path / "a")
    assert found.max_tensor_difference == 0.0
    assert not found.passed
    assert "model.safetensors: expected sha256" in found.damaged[0]


def test_models_of_two_shapes_are_not_compared(tmp_path):
    save(tmp_path / "a")
    save(tmp_path / "b", vision=False)
    with pytest.raises(CheckpointError, match=r"of one shape, found .*vision\.width 24 and None"):
        verify(tmp_path / "a", tmp_path / "b")


def test_how_positions_began_does_not_tell_models_apart(tmp_path):
    model = save(tmp_path / "a")
    config = replace(model.config, {"vision.initial_positions": "grid"})
    twin = tiny_model(config)
    twin.load_state_dict(model.state_dict())
    save(tmp_path / "b", model=twin)
    assert verify(tmp_path / "a", tmp_path / "b").passed


def test_not_a_number_does_not_pass():
    found = Verification(
        ours="a",
        theirs="b",
        tensor_differences={"x": 0.0},
        max_logit_difference=float("nan"),
        max_logit=1.0,
        damaged=(),
    )
    assert not found.passed
