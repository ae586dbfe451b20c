"""CLIP folders, written without transformers: what is read, and what is named as left out."""

import pytest
import torch
from safetensors.torch import save_file

from kosmos.errors import CheckpointError
from kosmos.files import write_json
from kosmos.model.vision import VisionTower
from kosmos.weights.clip import load_clip, read_clip_config
from kosmos.weights.convert import rename
from kosmos.weights.names import CLIP_VISION
from tests.tiny import randomize, tiny_config

FIELDS = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 28,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
}


@pytest.fixture
def tower():
    tower = VisionTower(tiny_config().vision)
    randomize(tower)
    return tower


def write(folder, tower, *, fields=None, extra=None) -> None:
    tensors = {rename(n, CLIP_VISION): p.detach() for n, p in tower.named_parameters()}
    save_file({**tensors, **(extra or {})}, folder / "model.safetensors")
    write_json(folder / "config.json", fields or {"model_type": "clip", "vision_config": FIELDS})


def test_weights_come_in_and_the_rest_is_named(tower, tmp_path):
    extra = {
        "text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(2),
        "logit_scale": torch.tensor(1.0),
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    write(tmp_path, tower, extra=extra)
    fresh = VisionTower(tiny_config().vision)
    assert load_clip(fresh, tmp_path) == tuple(sorted(extra))
    for name, value in tower.named_parameters():
        assert torch.equal(fresh.get_parameter(name), value)


def test_tensor_that_clip_does_not_have_is_not_ignored(tower, tmp_path):
    write(tmp_path, tower, extra={"vision_model.adapter.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"left over vision_model\.adapter\.weight"):
        load_clip(VisionTower(tiny_config().vision), tmp_path)


def test_other_activation_is_refused_with_the_setting_that_fits(tower, tmp_path):
    fields = {"model_type": "clip_vision_model", **FIELDS, "hidden_act": "gelu"}
    write(tmp_path, tower, fields=fields)
    with pytest.raises(
        CheckpointError, match=r"vision\.activation 'quick_gelu' .* 'gelu'"
    ) as caught:
        load_clip(VisionTower(tiny_config().vision), tmp_path)
    assert caught.value.hint == "--set model.vision.activation=gelu makes the model fit"


def test_defaults_are_those_of_clip_and_not_of_kosmos(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "clip_vision_model"})
    config = read_clip_config(tmp_path)
    assert (config.width, config.patch_size, config.num_layers) == (768, 32, 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "siglip"}, "model_type: expected one of 'clip', 'clip_vision_model'"),
        ({"model_type": "clip_vision_model", "hidden_act": "silu"}, "activation: expected"),
        ({"model_type": "clip_vision_model", "patch_size": [14, 7]}, "patch_size: expected a"),
        ([], "model_type: expected"),
    ],
)
def test_other_configs_are_refused(tmp_path, fields, message):
    write_json(tmp_path / "config.json", fields)
    with pytest.raises(CheckpointError, match=message):
        read_clip_config(tmp_path)


def test_missing_config_is_named(tower, tmp_path):
    write(tmp_path, tower)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: expected a JSON file"):
        load_clip(tower, tmp_path)
