"""Names: every tensor of every kind of model has one name on the other side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.weights.loaded import shape_model
from kosmos.weights.names import CLIP_VISION, HUGGINGFACE, RELEASE, invert, translate
from tests.tiny import tiny_config


def parameter_names() -> list[str]:
    return [name for name, _ in shape_model(tiny_config()).named_parameters()]


@pytest.mark.parametrize(
    "table", [HUGGINGFACE, CLIP_VISION, RELEASE], ids=["huggingface", "clip", "release"]
)
def test_tables_are_one_to_one(table):
    assert len(invert(table)) == len(table)
    assert all(ours.count("*") == theirs.count("*") for ours, theirs in table.items())


@pytest.mark.parametrize("table", [HUGGINGFACE, RELEASE], ids=["huggingface", "release"])
def test_every_tensor_has_a_name_that_leads_back(table):
    back = invert(table)
    for name in parameter_names():
        theirs = translate(name, table)
        assert theirs is not None, name
        assert translate(theirs, back) == name


@pytest.mark.parametrize("table", [HUGGINGFACE, RELEASE], ids=["huggingface", "release"])
def test_every_row_names_a_tensor(table):
    known = {row for name in parameter_names() for row in (name, name.rpartition(".")[0])}
    for row in table:
        assert row.replace("*", "0") in known


def test_release_is_renamed_as_huggingface_renamed_it():
    # the rules of transformers' conversion of this checkpoint, in its order
    rules = {
        "gpt_model.decoder": "text_model.model",
        "img_connector": "image_to_text_projection",
        "img_model.visual.class_embedding": "vision_model.model.embeddings.class_embedding",
        "img_model.visual.positional_embedding": "vision_model.model.embeddings.position_embedding"
        ".weight",
        "img_model.visual.conv1": "vision_model.model.embeddings.patch_embedding",
        "img_model.visual": "vision_model.model",
        "ln_pre": "pre_layrnorm",
        "ln_post": "post_layernorm",
        "transformer.resblocks": "encoder.layers",
        "ts_attn": "self_attn",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "c_fc": "fc1",
        "c_proj": "fc2",
    }
    for name in parameter_names():
        renamed = translate(name, RELEASE)
        for theirs, huggingface in rules.items():
            renamed = renamed.replace(theirs, huggingface)
        assert renamed == translate(name, HUGGINGFACE)


@given(layer=st.integers(0, 10**6))
def test_layer_index_is_kept(layer):
    ours = f"vision.layers.{layer}.ffn.fc1.weight"
    theirs = translate(ours, HUGGINGFACE)
    assert theirs == f"vision_model.model.encoder.layers.{layer}.mlp.fc1.weight"


def test_traps_of_the_other_side_are_in_the_table():
    rows = {
        "decoder.norm.weight": "text_model.model.layer_norm.weight",
        "decoder.layers.3.ffn_norm.bias": "text_model.model.layers.3.final_layer_norm.bias",
        "vision.pre_norm.bias": "vision_model.model.pre_layrnorm.bias",
        "vision.position_embedding": "vision_model.model.embeddings.position_embedding.weight",
        "connector.latents": "image_to_text_projection.latent_query",
    }
    for ours, theirs in rows.items():
        assert translate(ours, HUGGINGFACE) == theirs


@pytest.mark.parametrize("name", ["decoder.layers.x.ffn_norm.bias", "connector.layers.0.fc1.weight",
                                  "decoder.positions", ""])  # fmt: skip
def test_unknown_names_have_no_translation(name):
    assert translate(name, HUGGINGFACE) is None
