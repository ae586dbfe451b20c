"""One layer is MAGNETO's formula; dropout acts at three places and no other."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kosmos.model.config import DecoderConfig
from kosmos.model.decoder import ACTIVATIONS, Decoder, DecoderLayer
from kosmos.model.pattern import causal_pattern
from kosmos.model.positions import sinusoids

CONFIG = DecoderConfig(vocab_size=16, width=8, num_layers=3, num_heads=2, ffn_width=12, dropout=0.5)


def _positions(tokens):
    return torch.arange(tokens).unsqueeze(0)


def test_a_layer_is_the_formula():
    layer = DecoderLayer(CONFIG, 0).double().eval()
    x = torch.randn(2, 4, 8, dtype=torch.float64)
    pattern = causal_pattern(4, segments=None, valid=None, past=0, rotation=None, like=x)
    expected = x + layer.attention(layer.attention_norm(x), pattern)
    inner = layer.ffn.fc1(layer.ffn_norm(expected))
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    inner = F.layer_norm(inner, (12,), layer.ffn.norm.weight, layer.ffn.norm.bias, 1e-5)
    expected = expected + layer.ffn.fc2(inner)
    torch.testing.assert_close(layer(x, pattern), expected, atol=1e-12, rtol=0)


def test_words_and_images_are_scaled_and_positions_are_not():
    decoder = Decoder(CONFIG).double().eval()
    seen = []
    decoder.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    embeddings = torch.randn(1, 5, 8, dtype=torch.float64)
    decoder(embeddings, positions=_positions(5))
    expected = embeddings * math.sqrt(8) + sinusoids(_positions(5), 8)
    torch.testing.assert_close(seen[0], expected, atol=1e-12, rtol=0)


def test_xpos_adds_nothing_to_the_input():
    config = DecoderConfig(
        vocab_size=16, width=8, num_layers=1, num_heads=2, ffn_width=8, positions="xpos"
    )
    decoder = Decoder(config).eval()
    seen = []
    decoder.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    embeddings = torch.randn(1, 5, 8)
    decoder(embeddings, positions=_positions(5))
    assert torch.equal(seen[0], embeddings * math.sqrt(8))


def test_dropout_acts_at_three_places_only(monkeypatch):
    decoder = Decoder(CONFIG)
    seen = []
    real = F.dropout

    def counted(values, p, training, inplace):
        seen.append((p, training, tuple(values.shape)))
        return real(values, p, training, inplace)

    monkeypatch.setattr(F, "dropout", counted)
    decoder(torch.randn(2, 4, 8), positions=_positions(4))
    # the input, and twice a layer on vectors of the model's width
    assert seen == [(0.5, True, (2, 4, 8))] * (1 + 2 * 3)
    assert sum(isinstance(module, nn.Dropout) for module in decoder.modules()) == 4


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas(name):
    x = torch.linspace(-4, 4, 50, dtype=torch.float64)
    expected = {
        "gelu": x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        "quick_gelu": x / (1 + torch.exp(-1.702 * x)),
        "relu": x.clamp(min=0),
    }[name]
    torch.testing.assert_close(ACTIVATIONS[name](x), expected, atol=1e-12, rtol=0)


def test_nothing_but_parameters_is_in_the_state():
    decoder = Decoder(CONFIG)
    assert set(decoder.state_dict()) == {name for name, _ in decoder.named_parameters()}
    assert not list(decoder.buffers())
