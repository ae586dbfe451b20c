"""Configs refuse what cannot be built, and the presets are the papers' shapes."""

from dataclasses import replace

import pytest

from kosmos.config import from_json, to_json
from kosmos.errors import ConfigError
from kosmos.model.config import (
    PRESETS,
    ConnectorConfig,
    DecoderConfig,
    ModelConfig,
    VisionConfig,
    with_vocabulary,
)

DECODER = DecoderConfig(vocab_size=8, width=12, num_layers=1, num_heads=2, ffn_width=8)
VISION = VisionConfig(image_size=8, patch_size=4, width=8, num_layers=1, num_heads=2, ffn_width=8)
CONNECTOR = ConnectorConfig(num_queries=2, num_heads=2, width=12)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (DECODER, {"width": 0}, "decoder.width: expected a positive number, found 0"),
        (DECODER, {"num_layers": -1}, "decoder.num_layers: expected a positive"),
        (DECODER, {"num_heads": 5}, "multiple of num_heads=5, found 12"),
        (DECODER, {"num_heads": 4, "positions": "xpos"}, "even head dimension, found 3"),
        (DECODER, {"dropout": 1.0}, r"decoder.dropout: expected \[0, 1\), found 1.0"),
        (DECODER, {"attention_dropout": -0.1}, "decoder.attention_dropout"),
        (DECODER, {"pad_id": 8}, "below vocab_size=8, found 8"),
        (DECODER, {"xpos_scale_base": 0}, "decoder.xpos_scale_base: expected a positive"),
        (DECODER, {"norm_eps": 0.0}, "decoder.norm_eps: expected a positive"),
        (VISION, {"patch_size": 9}, "at most image_size=8, found 9"),
        (VISION, {"num_heads": 3}, "multiple of num_heads=3, found 8"),
        (VISION, {"image_size": 0}, "vision.image_size: expected a positive"),
        (CONNECTOR, {"num_queries": 0}, "connector.num_queries: expected a positive"),
        (CONNECTOR, {"num_heads": 5}, "multiple of num_heads=5, found 12"),
        (CONNECTOR, {"attention_dropout": 2.0}, r"connector.attention_dropout: expected \[0, 1\)"),
    ],
)
def test_impossible_shapes_are_refused_by_name(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)


def test_vision_and_connector_come_together():
    with pytest.raises(ConfigError, match="together or neither"):
        ModelConfig(decoder=DECODER, vision=VISION)
    with pytest.raises(ConfigError, match="together or neither"):
        ModelConfig(decoder=DECODER, connector=CONNECTOR)


def test_cross_attention_works_at_the_decoders_width_and_a_perceiver_at_any():
    wide = replace(CONNECTOR, width=16)
    with pytest.raises(ConfigError, match="decoder's width 12, found 16"):
        ModelConfig(decoder=DECODER, vision=VISION, connector=wide)
    ModelConfig(decoder=DECODER, vision=VISION, connector=replace(wide, kind="perceiver"))


def test_presets_are_the_papers_and_the_released_shapes():
    paper, released = PRESETS["kosmos2"], PRESETS["kosmos2-released"]
    decoder = paper.decoder
    assert (decoder.num_layers, decoder.width, decoder.ffn_width, decoder.num_heads) == (
        24, 2048, 8192, 32,
    )  # fmt: skip
    assert PRESETS["kosmos1"].decoder.vocab_size == 64_007
    assert decoder.vocab_size == released.decoder.vocab_size == 65_037
    assert paper.connector.kind == "perceiver"
    assert (decoder.positions, decoder.attention_dropout) == ("xpos", 0.1)
    assert released.connector.kind == "cross-attention"
    assert (released.decoder.positions, released.decoder.attention_dropout) == ("sinusoidal", 0.0)
    assert {c.connector.num_queries for c in (PRESETS["kosmos1"], paper, released)} == {64}
    for name in ("kosmos1", "kosmos2"):
        baseline = PRESETS[f"{name}-baseline"]
        assert baseline.decoder == PRESETS[name].decoder
        assert baseline.vision is None
        assert baseline.connector is None


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    assert from_json(ModelConfig, to_json(PRESETS[name])) == PRESETS[name]


def test_another_vocabulary_changes_nothing_else():
    config = with_vocabulary(PRESETS["micro"], 1234)
    assert config.decoder.vocab_size == 1234
    assert with_vocabulary(config, PRESETS["micro"].decoder.vocab_size) == PRESETS["micro"]
