"""Connectors are their formulas, resample each image by itself, and take odd sizes."""

import pytest
import torch
import torch.nn.functional as F

from kosmos.model.config import ConnectorConfig
from kosmos.model.connector import CrossAttentionConnector, PerceiverConnector


def _attend(attention, readers, sources):
    """Multi-head attention written out."""
    heads = attention.num_heads
    q, k, v = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in (attention.query(readers), attention.key(sources), attention.value(sources))
    )
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return attention.out((weights @ v).transpose(1, 2).flatten(2))


def _norm(layer, states):
    return F.layer_norm(states, states.shape[-1:], layer.weight, layer.bias, 1e-5)


def _randomized(connector):
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return connector.double().eval()


def test_cross_attention_is_one_bare_attention_over_features_and_latents():
    connector = _randomized(
        CrossAttentionConnector(ConnectorConfig(num_queries=3, num_heads=2, width=8), 6)
    )
    features = torch.randn(2, 5, 6, dtype=torch.float64)
    latents = connector.latents.expand(2, 3, 8)
    sources = torch.cat([connector.dense(features), latents], dim=1)
    expected = _attend(connector.attention, latents, sources)
    torch.testing.assert_close(connector(features), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("decoder_width", [8, 10])
def test_perceiver_is_flamingos_layers_with_a_norm_at_the_end(decoder_width):
    config = ConnectorConfig(
        kind="perceiver", num_queries=3, num_layers=2, num_heads=2, width=8, ffn_multiple=3
    )
    connector = _randomized(PerceiverConnector(config, 6, decoder_width))
    features = torch.randn(2, 5, 6, dtype=torch.float64)
    x_f, x = connector.dense(features), connector.latents.expand(2, 3, 8)
    for layer in connector.layers:
        q = _norm(layer.latent_norm, x)
        x = x + _attend(layer.attention, q, torch.cat([_norm(layer.feature_norm, x_f), q], 1))
        x = x + layer.fc2(F.relu(layer.fc1(_norm(layer.ffn_norm, x))) ** 2)
    assert (connector.out is None) == (decoder_width == 8)
    if connector.out is not None:
        x = connector.out(x)
    expected = _norm(connector.norm, x)
    torch.testing.assert_close(connector(features), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["cross-attention", "perceiver"])
def test_one_query_one_head_and_one_feature_work_and_images_stay_apart(kind):
    config = ConnectorConfig(kind=kind, num_queries=1, num_heads=1, width=8)
    made = (
        CrossAttentionConnector(config, 6)
        if kind == "cross-attention"
        else PerceiverConnector(config, 6, 8)
    )
    connector = _randomized(made)
    features = torch.randn(3, 1, 6, dtype=torch.float64)
    together = connector(features)
    assert together.shape == (3, 1, 8)
    for image in range(3):
        alone = connector(features[image : image + 1])
        torch.testing.assert_close(together[image], alone[0], atol=1e-12, rtol=0)
