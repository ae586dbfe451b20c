"""Our vision tower with CLIP's weights against transformers' CLIP."""

import pytest
import torch

from kosmos.errors import CheckpointError
from kosmos.model.vision import VisionTower
from kosmos.weights.clip import load_clip, read_clip_config
from tests.tiny import noise_pixels, randomize, tiny_config

transformers = pytest.importorskip("transformers")

# Measured worst case 4.2e-7 on unit vectors (x86 CPU, torch 2.13, transformers 5.23, eager
# attention; the text-and-vision model uses the same kernel as ours and agrees to the last bit).
TOLERANCE = 2e-6

SHAPE = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 8,
    "attn_implementation": "eager",
}
ODD_SHAPES = {
    "plain": {},
    "one-layer-one-head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "image-not-a-multiple-of-the-patch": {"image_size": 30, "patch_size": 7},
    "gelu-other-eps": {"hidden_act": "gelu", "layer_norm_eps": 1e-2, "intermediate_size": 24},
}
KINDS = ("CLIPModel", "CLIPVisionModel", "CLIPVisionModelWithProjection")


def make_clip(kind: str, shape: dict) -> torch.nn.Module:
    vision = transformers.CLIPVisionConfig(**{**SHAPE, **shape})
    if kind == "CLIPModel":
        text = {
            "vocab_size": 50, "hidden_size": 24, "intermediate_size": 24, "num_hidden_layers": 1,
            "num_attention_heads": 3, "bos_token_id": 0, "eos_token_id": 2,
        }  # fmt: skip
        vision = transformers.CLIPConfig(text_config=text, vision_config=vision.to_dict())
    model = getattr(transformers, kind)(vision).eval()
    randomize(model)
    return model


def their_features(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """What KOSMOS reads of CLIP: the final norm on all tokens, each of length 1."""
    tower = getattr(model, "vision_model", model)
    with torch.inference_mode():
        hidden = tower(pixel_values=pixels).last_hidden_state
        return torch.nn.functional.normalize(tower.post_layernorm(hidden), dim=-1)


@pytest.mark.parametrize("shape", ODD_SHAPES.values(), ids=ODD_SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_features_agree(kind, shape, tmp_path):
    theirs = make_clip(kind, shape)
    theirs.save_pretrained(tmp_path)
    config = read_clip_config(tmp_path)
    ours = VisionTower(config).eval()
    load_clip(ours, tmp_path)
    pixels = noise_pixels(2, config.image_size)
    with torch.inference_mode():
        difference = (ours(pixels) - their_features(theirs, pixels)).abs().max().item()
    assert difference < TOLERANCE


def test_what_is_left_out_is_named(tmp_path):
    left_out = {}
    for kind in KINDS:
        make_clip(kind, {}).save_pretrained(tmp_path / kind)
        tower = VisionTower(read_clip_config(tmp_path / kind))
        left_out[kind] = load_clip(tower, tmp_path / kind)
    assert left_out["CLIPVisionModel"] == ()
    assert left_out["CLIPVisionModelWithProjection"] == ("visual_projection.weight",)
    names = left_out["CLIPModel"]
    assert any(name.startswith("text_model.") for name in names)
    assert {"logit_scale", "text_projection.weight", "visual_projection.weight"} < set(names)
    assert not any(name.startswith("vision_model") for name in names)


def test_weights_file_without_a_config_is_enough(tmp_path):
    theirs = make_clip("CLIPModel", {})
    theirs.save_pretrained(tmp_path)
    ours = VisionTower(read_clip_config(tmp_path))
    load_clip(ours, tmp_path / "model.safetensors")
    bias = theirs.vision_model.encoder.layers[1].mlp.fc2.bias
    assert torch.equal(ours.layers[1].ffn.fc2.bias, bias)


def test_half_precision_weights_keep_the_towers_type(tmp_path):
    theirs = make_clip("CLIPVisionModel", {}).half()
    theirs.save_pretrained(tmp_path)
    ours = VisionTower(read_clip_config(tmp_path))
    load_clip(ours, tmp_path)
    assert ours.class_embedding.dtype == torch.float32
    assert torch.equal(ours.class_embedding, theirs.embeddings.class_embedding.float())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_act": "gelu"}, "activation"),
        ({"layer_norm_eps": 1e-6}, "norm_eps"),
        ({"image_size": 42}, "image_size"),
        ({"num_attention_heads": 4}, "num_heads"),
    ],
)
def test_other_tower_is_refused_by_the_field_that_differs(tmp_path, change, field):
    make_clip("CLIPVisionModel", {}).save_pretrained(tmp_path / "plain")
    make_clip("CLIPVisionModel", change).save_pretrained(tmp_path / "other")
    tower = VisionTower(read_clip_config(tmp_path / "plain"))
    with pytest.raises(CheckpointError, match=rf"vision\.{field}"):
        load_clip(tower, tmp_path / "other")


def test_folder_that_is_not_clip_is_refused(tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"model_type: expected .*clip.*'bert'"):
        read_clip_config(tmp_path)
    with pytest.raises(CheckpointError, match="found nothing there"):
        load_clip(VisionTower(tiny_config().vision), tmp_path / "nowhere")
