"""Patterns are the pictures of the docstring; the fast path is taken whenever it may be."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.model.attention import Attention, SelfAttention
from kosmos.model.config import DecoderConfig
from kosmos.model.pattern import causal_pattern

LIKE = torch.zeros(())


def _allowed(**given):
    defaults = {"segments": None, "valid": None, "past": 0, "rotation": None, "like": LIKE}
    pattern = causal_pattern(**(defaults | given))
    assert not pattern.is_causal
    return (pattern.mask[:, 0] == 0).int().tolist()


def test_plain_rows_take_the_causal_kernel_and_single_steps_no_mask():
    pattern = causal_pattern(5, segments=None, valid=None, past=0, rotation=None, like=LIKE)
    assert (pattern.mask, pattern.is_causal) == (None, True)
    pattern = causal_pattern(1, segments=None, valid=None, past=7, rotation=None, like=LIKE)
    assert (pattern.mask, pattern.is_causal) == (None, False)


def test_isolated_sequences_do_not_see_each_other():
    segments = torch.tensor([[0, 0, 1, 1]])
    expected = [[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]]
    pattern = causal_pattern(
        4, segments=segments, valid=None, past=0, rotation=None, like=torch.zeros(())
    )
    assert pattern.mask is None
    assert pattern.sees(1, 4).int().tolist() == expected
    # padding that has to be said takes the mask
    assert _allowed(tokens=4, segments=segments, valid=torch.ones(1, 4).bool()) == expected


def test_a_sequence_in_two_parts_takes_the_mask():
    assert _allowed(tokens=3, segments=torch.tensor([[0, 1, 0]])) == [
        [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    ]


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3))
def test_sequences_attended_to_apart_are_those_of_the_mask(rows):
    tokens = max(map(sum, rows))
    segments = torch.full((len(rows), tokens), -1)
    for row, lengths in zip(segments, rows, strict=True):
        row[: sum(lengths)] = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    config = DecoderConfig(
        vocab_size=8, width=8, num_layers=1, num_heads=2, ffn_width=8, dropout=0.0
    )
    layer = SelfAttention(config, 0).double()
    hidden = torch.randn(len(rows), tokens, 8, dtype=torch.float64, requires_grad=True)
    given = {"segments": segments, "past": 0, "rotation": None, "like": hidden}
    apart = causal_pattern(tokens, valid=None, **given)
    masked = causal_pattern(tokens, valid=torch.ones_like(segments).bool(), **given)
    assert (apart.mask, masked.lengths) == (None, None)
    assert torch.equal(apart.sees(len(rows), tokens), masked.sees(len(rows), tokens))
    ours, reference = layer(hidden, apart), layer(hidden, masked)
    torch.testing.assert_close(ours, reference, atol=1e-12, rtol=0)
    slope = torch.randn_like(ours)
    found = torch.autograd.grad(ours, [hidden, *layer.parameters()], slope)
    expected = torch.autograd.grad(reference, [hidden, *layer.parameters()], slope)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


@pytest.mark.skipif(
    hasattr(SelfAttention.forward, "__wrapped__"),
    reason="compiled code fails under the shape-checking hook (pytorch#122093)",
)
# of dynamo's own making, where a graph ends: pytorch#30531
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_layer_takes_sequences_of_any_lengths():
    config = DecoderConfig(
        vocab_size=8, width=8, num_layers=1, num_heads=2, ffn_width=8, dropout=0.0
    )
    layer = SelfAttention(config, 0)
    compiled = torch.compile(layer, backend="eager")
    for cut in range(1, 12):
        segments = (torch.arange(12) >= cut).long()[None]
        hidden = torch.randn(1, 12, 8)
        pattern = causal_pattern(
            12, segments=segments, valid=None, past=0, rotation=None, like=hidden
        )
        assert torch.equal(compiled(hidden, pattern), layer(hidden, pattern))


def test_padding_sees_itself_and_is_not_seen():
    valid = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]).bool()
    assert _allowed(tokens=4, valid=valid) == [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]],
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
    ]


def test_a_later_chunk_sees_what_is_cached():
    assert _allowed(tokens=2, past=3) == [[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]]
    valid = torch.tensor([[0, 1, 1]]).bool()
    assert _allowed(tokens=1, past=2, valid=valid) == [[[0, 1, 1]]]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_self_attention_is_the_formula_of_sub_layer_norm(heads):
    config = DecoderConfig(
        vocab_size=8, width=8, num_layers=1, num_heads=heads, ffn_width=8, dropout=0.0
    )
    layer = SelfAttention(config, 0).double().eval()
    hidden = torch.randn(2, 5, 8, dtype=torch.float64)
    pattern = causal_pattern(5, segments=None, valid=None, past=0, rotation=None, like=hidden)
    joined = torch.empty_like(hidden)
    size = 8 // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = (f(hidden)[..., part] for f in (layer.query, layer.key, layer.value))
        scores = q @ k.transpose(1, 2) / size**0.5
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
        joined[..., part] = scores.softmax(-1) @ v
    normed = F.layer_norm(joined, (8,), layer.inner_norm.weight, layer.inner_norm.bias, 1e-5)
    torch.testing.assert_close(layer(hidden, pattern), layer.out(normed), atol=1e-12, rtol=0)


def test_attention_weights_drop_only_in_training():
    attention = Attention(8, 2, dropout=0.9).eval()
    states = torch.randn(2, 6, 8)
    assert torch.equal(attention(states, states), attention(states, states))
    attention.train()
    assert not torch.equal(attention(states, states), attention(states, states))
