"""Names: every tensor of every kind of model has one name on the other side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.weights.loaded import shape_model
from kosmos.weights.names import CLIP_VISION, HUGGINGFACE, invert, translate
from tests.tiny import tiny_config


def parameter_names() -> list[str]:
    return [name for name, _ in shape_model(tiny_config()).named_parameters()]


@pytest.mark.parametrize("table", [HUGGINGFACE, CLIP_VISION], ids=["huggingface", "clip"])
def test_tables_are_one_to_one(table):
    assert len(invert(table)) == len(table)
    assert all(ours.count("*") == theirs.count("*") for ours, theirs in table.items())


def test_every_tensor_has_a_name_that_leads_back():
    back = invert(HUGGINGFACE)
    for name in parameter_names():
        theirs = translate(name, HUGGINGFACE)
        assert theirs is not None, name
        assert translate(theirs, back) == name


def test_every_row_names_a_tensor():
    known = {row for name in parameter_names() for row in (name, name.rpartition(".")[0])}
    for row in HUGGINGFACE:
        assert row.replace("*", "0") in known


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
