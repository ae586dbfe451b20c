"""Hugging Face's JSON files: what they mean, and what is refused by the field's name."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.config import replace
from kosmos.errors import CheckpointError
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS, ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig
from kosmos.weights.huggingface_config import (
    image_fields,
    model_fields,
    read_image_config,
    read_model_config,
)
from tests.tiny import tiny_config

SIDES = {"height": 224, "width": 224}
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]


@st.composite
def exportable_models(draw: st.DrawFn) -> ModelConfig:
    heads = draw(st.integers(1, 4))
    width = heads * draw(st.integers(2, 8))
    vision_heads = draw(st.integers(1, 4))
    patch = draw(st.integers(1, 20))
    rate = draw(st.floats(0.0, 0.9))
    activations = st.sampled_from(["gelu", "quick_gelu", "relu"])
    return ModelConfig(
        decoder=DecoderConfig(
            vocab_size=draw(st.integers(2, 70_000)),
            width=width,
            num_layers=draw(st.integers(1, 40)),
            num_heads=heads,
            ffn_width=draw(st.integers(1, 9000)),
            max_tokens=draw(st.integers(1, 5000)),
            activation=draw(activations),
            norm_eps=draw(st.floats(1e-12, 1e-1)),
            scale_embedding=draw(st.booleans()),
            dropout=draw(st.floats(0.0, 0.9)),
            attention_dropout=rate,
        ),
        vision=VisionConfig(
            image_size=patch + draw(st.integers(0, 100)),
            patch_size=patch,
            width=vision_heads * draw(st.integers(1, 8)),
            num_layers=draw(st.integers(1, 40)),
            num_heads=vision_heads,
            ffn_width=draw(st.integers(1, 9000)),
            activation=draw(activations),
            norm_eps=draw(st.floats(1e-12, 1e-1)),
        ),
        connector=ConnectorConfig(
            num_queries=draw(st.integers(1, 100)),
            num_heads=heads,
            width=width,
            attention_dropout=rate,
        ),
    )


@given(config=exportable_models())
def test_every_exportable_model_comes_back(config):
    assert read_model_config(model_fields(config), where="config.json") == config


def test_empty_config_is_the_released_model():
    found = read_model_config({"model_type": "kosmos-2"}, where="config.json")
    released = PRESETS["kosmos2-released"]
    # one rate for both there; see the comment at the preset
    assert replace(found, {"decoder.attention_dropout": 0.0}) == released


def test_release_survives_the_round_trip_but_for_a_rate_that_never_acts():
    fields = model_fields(PRESETS["kosmos2-released"])
    assert fields["text_config"]["attention_dropout"] == 0.1
    assert read_model_config(fields, where="c") == read_model_config(
        {"model_type": "kosmos-2"}, where="c"
    )


def test_aliases_and_pairs_of_sides_are_understood():
    found = read_model_config(
        {
            "model_type": "kosmos-2",
            "text_config": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2},
            "vision_config": {"image_size": [28, 28], "patch_size": [7, 7]},
        },
        where="config.json",
    )
    assert (found.decoder.width, found.decoder.num_layers, found.decoder.num_heads) == (64, 3, 2)
    assert (found.vision.image_size, found.vision.patch_size) == (28, 7)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model_type", "llama", "model_type: expected 'kosmos-2', found 'llama'"),
        ("text_config", [1], "text_config: expected an object"),
        ("text_config.activation_function", "gelu_new", "activation: expected .* 'gelu_new'"),
        ("text_config.pad_token_id", 0, "text_config: pad_token_id: expected 1, found 0"),
        ("text_config.eos_token_id", 7, "eos_token_id: expected 2, found 7"),
        ("text_config.add_cross_attention", True, "add_cross_attention: expected False"),
        ("text_config.attention_heads", 5, r"decoder\.width: expected a multiple of num_heads=5"),
        ("text_config.embed_dim", "big", "expected numbers, found"),
        ("vision_config.num_channels", 1, "num_channels: expected 3, found 1"),
        ("vision_config.image_size", [28, 42], r"vision\.image_size: expected a square"),
        ("vision_config.hidden_act", "silu", "activation: expected .* found 'silu'"),
        ("latent_query_num", 0, r"connector\.num_queries: expected a positive number"),
    ],
)
def test_config_that_ours_cannot_be_is_refused(path, value, message):
    fields = copy.deepcopy(model_fields(tiny_config()))
    *parents, last = path.split(".")
    place = fields
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}|config.json: {message}"):
        read_model_config(fields, where="config.json")


def test_settings_that_only_training_reads_are_told(caplog):
    fields = model_fields(tiny_config())
    fields["text_config"]["layerdrop"] = 0.2
    read_model_config(fields, where="config.json")
    assert "text_config.layerdrop=0.2 is left out" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.positions": "xpos"}, "positions='xpos' instead of 'sinusoidal'"),
        ({"connector.kind": "perceiver"}, "kind='perceiver' instead of 'cross-attention'"),
        ({"connector.num_heads": 2}, r"connector\.num_heads=2, not 4"),
        ({"decoder.pad_id": 0}, r"decoder\.pad_id=0 instead of 1"),
    ],
)
def test_model_that_theirs_cannot_be_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        model_fields(replace(tiny_config(), change))


def test_language_only_baseline_is_refused():
    with pytest.raises(CheckpointError, match="language-only baseline"):
        model_fields(tiny_config(vision=False))


# --- preprocessing


@given(
    size=st.integers(1, 500),
    geometry=st.sampled_from(["square", "center-crop"]),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 1)] * 3),
)
def test_every_preprocessing_comes_back(size, geometry, mean, std):
    image = ImageConfig(size=size, geometry=geometry, mean=mean, std=std)
    assert read_image_config(image_fields(image), where="p", image_size=size) == image


@pytest.mark.parametrize(
    ("fields", "geometry"),
    [
        ({}, "square"),
        ({"use_square_size": True, "size": {"shortest_edge": 224}}, "square"),
        ({"size": SIDES, "do_center_crop": False}, "square"),
        ({"size": 224, "crop_size": 224}, "center-crop"),
        ({"size": SIDES, "crop_size": None, "image_mean": None}, "square"),
        ({"size": {"shortest_edge": 224}, "crop_size": SIDES}, "center-crop"),
    ],
)
def test_files_of_several_ages_are_understood(fields, geometry):
    found = read_image_config(fields, where="p", image_size=224)
    assert found.geometry == geometry
    assert found.size == 224
    assert list(found.mean) == CLIP_MEAN


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"do_resize": False}, "do_resize: expected True, found False"),
        ({"resample": 2}, "resample: expected 3, found 2"),
        ({"rescale_factor": 1.0}, "rescale_factor: expected 1/255"),
        ({"rescale_factor": "x"}, "rescale_factor: expected 1/255"),
        ({"size": SIDES, "image_mean": [0.5, 0.5]}, "image_mean: expected three numbers"),
        ({"size": SIDES, "image_std": 1}, "image_std: expected three numbers"),
        ({"size": {"longest_edge": 224}}, "size: expected a square or a shortest edge"),
        ({"size": {"shortest_edge": "224"}}, "size: expected a square or a shortest edge"),
        ({"size": {"height": 224, "width": 200}}, "size: expected a square or a shortest edge"),
        ({"size": {"shortest_edge": 256}}, "expected pictures to end as 224 x 224"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": False}, "expected pictures to end as"),
        ({"size": {"shortest_edge": 224}, "crop_size": 200}, "expected pictures to end as"),
    ],
)
def test_preprocessing_that_ours_cannot_be_is_refused(fields, message):
    with pytest.raises(CheckpointError, match=f"^p: {message}"):
        read_image_config(fields, where="p", image_size=224)
