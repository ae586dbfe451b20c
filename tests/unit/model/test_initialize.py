"""Fresh weights follow the released rules, measured; the same seed gives the same weights."""

import math
from dataclasses import replace

import pytest
import torch

from kosmos.errors import ConfigError
from kosmos.model.config import (
    PRESETS,
    ConnectorConfig,
    DecoderConfig,
    ModelConfig,
    VisionConfig,
)
from kosmos.model.initialize import grid_positions, initial_draws, initialize
from kosmos.model.kosmos import Kosmos

CONFIG = ModelConfig(
    decoder=DecoderConfig(vocab_size=500, width=64, num_layers=3, num_heads=4, ffn_width=256),
    vision=VisionConfig(
        image_size=32, patch_size=8, width=48, num_layers=2, num_heads=4, ffn_width=192
    ),
    connector=ConnectorConfig(num_queries=32, num_heads=4, width=64),
)
GAMMA = math.sqrt(math.log(2 * 3))


def _initialized(config=CONFIG, seed=0):
    model = Kosmos(config)
    initialize(model, seed)
    return model.requires_grad_(False)


MODEL = _initialized()


def _assert_uniform(values, bound):
    """Within a bound, reaching it, and as wide as a uniform distribution is."""
    assert float(values.abs().max()) <= bound
    if values.numel() > 1000:
        assert float(values.abs().max()) > 0.98 * bound
        assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    else:
        assert float(values.abs().max()) > 0.8 * bound


@pytest.mark.parametrize("layer", range(3))
def test_value_out_and_feed_forward_carry_gamma_biases_too(layer):
    block = MODEL.decoder.layers[layer]
    for linear in (block.attention.value, block.attention.out, block.ffn.fc1, block.ffn.fc2):
        bound = GAMMA / math.sqrt(linear.in_features)
        _assert_uniform(linear.weight, bound)
        _assert_uniform(linear.bias, bound)


@pytest.mark.parametrize("layer", range(3))
def test_query_and_key_do_not(layer):
    attention = MODEL.decoder.layers[layer].attention
    for linear in (attention.query, attention.key):
        _assert_uniform(linear.weight, 1 / 8)
        _assert_uniform(linear.bias, 1 / 8)


def test_the_full_size_bounds_are_the_measured_ones():
    with torch.device("meta"):
        draws = initial_draws(Kosmos(PRESETS["kosmos2-released"]))
    expected = {
        "decoder.layers.0.attention.query.weight": ("uniform", 0.0220971),
        "decoder.layers.0.attention.key.bias": ("uniform", 0.0220971),
        "decoder.layers.23.attention.value.bias": ("uniform", 0.0434768),
        "decoder.layers.23.attention.out.weight": ("uniform", 0.0434768),
        "decoder.layers.5.ffn.fc1.weight": ("uniform", 0.0434768),
        "decoder.layers.5.ffn.fc2.bias": ("uniform", 0.0217384),
        "decoder.embedding.weight": ("normal", 0.0220971),
        "decoder.layers.5.ffn.norm.weight": ("constant", 1.0),
        "decoder.norm.bias": ("constant", 0.0),
        "connector.dense.weight": ("uniform", 1 / 32),
        "connector.latents": ("normal", 1.0),
        "connector.attention.key.weight": ("uniform", 0.0270633),
        "connector.attention.key.bias": ("uniform", 0.0220971),
        "connector.attention.out.weight": ("uniform", 0.0382733),
        "connector.attention.out.bias": ("constant", 0.0),
        "vision.class_embedding": ("normal", 1 / 32),
        "vision.layers.3.attention.query.weight": ("normal", 1 / 32),
        "vision.layers.3.attention.out.weight": ("normal", 1 / math.sqrt(48 * 1024)),
        "vision.layers.3.ffn.fc1.weight": ("normal", 1 / math.sqrt(2048)),
        "vision.layers.3.ffn.fc2.weight": ("normal", 1 / math.sqrt(48 * 1024)),
        "vision.layers.3.ffn.fc2.bias": ("constant", 0.0),
    }
    for name, (kind, scale) in expected.items():
        assert draws[name].kind == kind, name
        assert draws[name].scale == pytest.approx(scale, abs=6e-8), name


def test_the_embedding_is_normal_and_its_padding_row_zero():
    table = MODEL.decoder.embedding.weight
    assert not table[1].any()
    rest = table[torch.arange(500) != 1]
    assert float(rest.std()) == pytest.approx(64**-0.5, rel=0.03)
    assert float(rest.mean()) == pytest.approx(0.0, abs=0.003)
    assert float(rest.abs().max()) > 3 * 64**-0.5


def test_the_cross_attention_connector_follows_the_release():
    connector = MODEL.connector
    assert float(connector.latents.std()) == pytest.approx(1.0, rel=0.06)
    for linear in (connector.attention.query, connector.attention.key, connector.attention.value):
        _assert_uniform(linear.weight, math.sqrt(6 / 128 / 2))
        _assert_uniform(linear.bias, 1 / 8)
    _assert_uniform(connector.attention.out.weight, math.sqrt(6 / 128))
    assert not connector.attention.out.bias.any()
    _assert_uniform(connector.dense.weight, 1 / math.sqrt(48))


@pytest.mark.parametrize("width", [64, 32])
def test_perceiver_soft_tokens_enter_at_the_scale_of_words(width):
    connector = ConnectorConfig(
        kind="perceiver", num_queries=8, num_layers=2, num_heads=4, width=width
    )
    model = _initialized(replace(CONFIG, connector=connector))
    soft = model.encode_images(torch.randn(2, 3, 32, 32))
    assert float(soft.std()) == pytest.approx(64**-0.5, rel=0.05)
    layer = model.connector.layers[0]
    _assert_uniform(layer.fc1.weight, width**-0.5)
    assert torch.equal(layer.latent_norm.weight, torch.ones(width))


def test_unscaled_embeddings_leave_the_perceivers_norm_at_one():
    decoder = replace(CONFIG.decoder, scale_embedding=False)
    connector = ConnectorConfig(kind="perceiver", num_queries=2, num_heads=2, width=64)
    model = _initialized(replace(CONFIG, decoder=decoder, connector=connector))
    assert torch.equal(model.connector.norm.weight, torch.ones(64))


def test_norms_start_as_identity():
    for name, parameter in MODEL.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, name.endswith("weight")))


def test_a_seed_gives_the_same_weights_whatever_else_is_there():
    again = dict(_initialized().named_parameters())
    other = dict(_initialized(seed=1).named_parameters())
    alone = dict(_initialized(replace(CONFIG, vision=None, connector=None)).named_parameters())
    for name, parameter in MODEL.named_parameters():
        assert torch.equal(parameter, again[name])
        if name in alone:
            assert torch.equal(parameter, alone[name])
        if initial_draws(MODEL)[name].kind != "constant":
            assert not torch.equal(parameter, other[name]), name


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = Kosmos(CONFIG)
    torch.manual_seed(5)
    initialize(model, 0)
    assert torch.equal(torch.rand(3), expected)


def test_weights_without_memory_are_refused():
    with torch.device("meta"):
        model = Kosmos(CONFIG)
    with pytest.raises(ConfigError, match="found one on the meta device"):
        initialize(model, 0)


def test_grid_positions_tell_rows_from_columns_and_leave_the_class_token_alone():
    config = replace(CONFIG.vision, initial_positions="grid")
    positions = grid_positions(config)
    side = config.image_size // config.patch_size
    grid = positions[1:].view(side, side, -1)
    half = config.width // 4 * 2
    assert torch.equal(positions[0], torch.zeros(config.width))
    # the first half is the same along a row of patches, the second down a column
    assert torch.equal(grid[:, 0, :half], grid[:, -1, :half])
    assert torch.equal(grid[0, :, half:], grid[-1, :, half:])
    assert len(torch.unique(positions, dim=0)) == side * side + 1
