"""Sinusoids are the released table; xPos is its formula, and knows differences only."""

import json
import math
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.errors import ConfigError
from kosmos.model.cache import KVCache
from kosmos.model.config import PRESETS, DecoderConfig, ModelConfig
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.model.positions import block_positions, rotate, rotation_of, sinusoids, xpos


def test_sinusoids_are_the_released_rows():
    # rows 2 and 3 of width 32, from the golden file
    table = sinusoids(torch.tensor([[0, 1, -1]]), 32)
    assert table.dtype == torch.float32
    expected = {
        (0, 0): 0.909297407, (0, 1): 0.883057833, (0, 15): 0.00019999998, (0, 16): -0.416146845,
        (0, 17): 0.46926415, (0, 31): 1.0, (1, 0): 0.141120002, (1, 2): 0.769841909,
        (1, 16): -0.989992499, (1, 17): -0.0526878387,
    }  # fmt: skip
    for (row, column), value in expected.items():
        assert float(table[0, row, column]) == pytest.approx(value, abs=1e-7)
    assert not table[0, 2].any(), "padding has no position"


def test_sinusoids_exist_beyond_any_table_and_for_odd_and_tiny_widths():
    assert sinusoids(torch.tensor([[1_000_000]]), 8).isfinite().all()
    assert sinusoids(torch.tensor([[5]]), 7).shape == (1, 1, 7)
    for width in (1, 2, 3):
        assert sinusoids(torch.tensor([[5]]), width).isfinite().all()


def test_golden_sinusoids(shared_data):
    path = shared_data.parent / "spec" / "golden" / "tiny_model.json"
    for row, values in json.loads(path.read_text())["sinusoid_rows"].items():
        if int(row) >= 2:
            ours = sinusoids(torch.tensor([[int(row) - 2]]), 32)[0, 0]
            torch.testing.assert_close(ours, torch.tensor(values), atol=6e-8, rtol=0)


def _rotated_by_hand(vector, position, *, base, center, inverse):
    """The formula of the paper, one pair at a time."""
    d = len(vector)
    out = []
    for i in range(d // 2):
        theta = 10000.0 ** (-i / (d / 2))
        zeta = (2 * i + 0.4 * d) / (1.4 * d)
        factor = zeta ** ((position - center) / base * (-1 if inverse else 1))
        even, odd = float(vector[2 * i]), float(vector[2 * i + 1])
        cos, sin = math.cos(position * theta), math.sin(position * theta)
        out += [(even * cos - odd * sin) * factor, (odd * cos + even * sin) * factor]
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("head_dim", [2, 8, 64])
def test_xpos_is_the_papers_formula(head_dim):
    states = torch.randn(1, 3, 2, head_dim, dtype=torch.float64)
    positions = torch.tensor([[0, 5, 700]])
    table = xpos(positions, head_dim=head_dim, scale_base=512, center=100, dtype=torch.float64)
    for which, inverse in (("query", False), ("key", True)):
        turned = rotate(states, getattr(table, which))
        for t, position in enumerate(positions[0].tolist()):
            for head in range(2):
                by_hand = _rotated_by_hand(
                    states[0, t, head], position, base=512, center=100, inverse=inverse
                )
                torch.testing.assert_close(turned[0, t, head], by_hand, atol=1e-12, rtol=1e-10)


def test_xpos_decay_rates_are_the_published_ones():
    table = xpos(torch.tensor([[512]]), head_dim=64, scale_base=512, center=0, dtype=torch.float64)
    zeta = table.query[0, 0, 0].norm(dim=-1)
    assert zeta[0] == pytest.approx(0.285714, abs=1e-6)
    assert zeta[1] == pytest.approx(0.308036, abs=1e-6)
    assert zeta[-1] == pytest.approx(0.977679, abs=1e-6)


@settings(max_examples=40)
@given(
    st.integers(0, 3000), st.integers(0, 3000), st.integers(-500, 3000), st.integers(-4096, 4096)
)
def test_a_score_depends_on_the_difference_of_positions_alone(query_at, key_at, shift, center):
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64, generator=generator)

    def score(a, b, center):
        here = torch.tensor([[a]]), torch.tensor([[b]])
        tables = [
            xpos(p, head_dim=16, scale_base=512, center=center, dtype=torch.float64) for p in here
        ]
        return float((rotate(query, tables[0].query) * rotate(key, tables[1].key)).sum())

    expected = score(query_at, key_at, 0)
    assert score(query_at + shift, key_at + shift, center) == pytest.approx(
        expected, rel=1e-7, abs=1e-9
    )


def test_half_precision_states_turn_in_float32():
    states = torch.randn(2, 5, 3, 8)
    table = xpos(torch.arange(5).unsqueeze(0), head_dim=8, scale_base=512, center=0).query
    turned = rotate(states.bfloat16(), table)
    assert turned.dtype == torch.bfloat16
    expected = rotate(states.bfloat16().float(), table).bfloat16()
    assert torch.equal(turned, expected)


def test_the_compiled_form_is_the_same_product(monkeypatch):
    states = torch.randn(2, 5, 3, 8, dtype=torch.float64)
    table = xpos(
        torch.arange(5).unsqueeze(0), head_dim=8, scale_base=64, center=2, dtype=torch.float64
    ).key
    eager = rotate(states, table)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotate(states, table), eager, atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_states_may_be_reused_and_are_kept_where_a_gradient_is_asked_for(dtype):
    table = xpos(torch.tensor([[3, 9]]), head_dim=8, scale_base=4, center=2).query
    table = table.to(torch.float64 if dtype == torch.float64 else torch.float32)
    states = torch.randn(1, 2, 3, 8).to(dtype)
    before, expected = states.clone(), rotate(states, table)
    assert torch.equal(states, before), "as long as nothing is said"
    learns = states.clone().requires_grad_()
    turned = rotate(learns, table, reuse=True)
    turned.sum().backward()
    assert torch.equal(learns.detach(), before)
    assert torch.equal(turned.detach(), expected)
    assert learns.grad.any()
    assert torch.equal(rotate(states, table, reuse=True), expected)


FAR = DecoderConfig(
    vocab_size=64, width=64, num_layers=2, num_heads=2, ffn_width=64, positions="xpos", dropout=0.0
)


def _far_model() -> Kosmos:
    """Attends sharply, so that a wrong factor or angle shows."""
    model = Kosmos(ModelConfig(decoder=FAR)).eval()
    initialize(model, 0)
    with torch.no_grad():
        for layer in model.decoder.layers:
            layer.attention.query.weight.mul_(4)
            layer.attention.key.weight.mul_(4)
    return model


def _exact(model, ids, positions, monkeypatch, *, center):
    """Logits in float64, whose range holds all factors from one center."""

    def one_table(config, positions, **_):
        head_dim = config.width // config.num_heads
        return xpos(
            positions,
            head_dim=head_dim,
            scale_base=config.xpos_scale_base,
            center=center,
            dtype=torch.float64,
        )

    with monkeypatch.context() as patched, torch.inference_mode():
        patched.setattr("kosmos.model.decoder.rotation_of", one_table)
        double = deepcopy(model).double()
        return double.logits(double(ids, positions=positions))


# 3 times the worst: float32 angles are off by up to 3e-5 within a block, and attention is sharp
FAR_TOLERANCE = 2e-3


@pytest.mark.parametrize("begin", [0, 4000, 36_900, 99_900])
@pytest.mark.parametrize("step", [1, 173, 1000])
def test_logits_at_any_position_are_those_of_float64(begin, step, monkeypatch):
    model = _far_model()
    positions = (begin + step * torch.arange(100)).unsqueeze(0)
    ids = torch.randint(4, 64, (1, 100), generator=torch.Generator().manual_seed(step))
    expected = _exact(model, ids, positions, monkeypatch, center=begin + 50 * step)
    with torch.inference_mode():
        found = model.logits(model(ids, positions=positions))
        cache = KVCache(FAR, batch=1, capacity=100)
        parts = [
            model.logits(model(ids[:, part], positions=positions[:, part], cache=cache))
            for part in (slice(0, 60), slice(60, 61), slice(61, 62), slice(62, 100))
        ]
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), expected, atol=FAR_TOLERANCE, rtol=0)
    torch.testing.assert_close(torch.cat(parts, dim=1), found, atol=1e-5, rtol=0)


def test_rows_far_and_near_and_padded_stand_side_by_side(monkeypatch):
    model = _far_model()
    ids = torch.randint(4, 64, (3, 24), generator=torch.Generator().manual_seed(1))
    positions = torch.stack([torch.arange(24), torch.arange(24) + 50_000, torch.arange(24) - 4])
    positions[2, :4] = -1
    valid = positions >= 0
    with torch.inference_mode():
        together = model(ids, positions=positions, valid=valid)
        cache = KVCache(FAR, batch=3, capacity=24)
        steps = [
            model(
                ids[:, part],
                positions=positions[:, part],
                valid=valid[:, part] if part.start == 0 else None,
                cache=cache,
            )
            for part in (slice(0, 20), slice(20, 21), slice(21, 24))
        ]
        near = model(ids[:1])
        padded = model(ids[2:, 4:])
    assert cache.valid is not None
    assert cache.valid.sum(1).tolist() == [24, 24, 20]
    for found in (together, torch.cat(steps, dim=1)):
        torch.testing.assert_close(found[0], near[0], atol=2e-5, rtol=0)
        # all that matters is the distance between tokens
        torch.testing.assert_close(found[1], model(ids[1:2])[0].detach(), atol=1e-4, rtol=0)
        torch.testing.assert_close(found[2, 4:], padded[0], atol=2e-5, rtol=0)


def test_far_positions_are_learned_at():
    model = _far_model().double().train()
    ids = torch.randint(4, 64, (1, 30), generator=torch.Generator().manual_seed(2))
    grads = []
    for begin in (0, 4080, 70_000):  # the second one crosses from block to block
        model.zero_grad()
        model(ids, positions=begin + torch.arange(30).unsqueeze(0)).pow(3).sum().backward()
        grads.append(model.decoder.layers[0].attention.key.weight.grad.clone())
    assert grads[0].abs().max() > 1e-3
    for far in grads[1:]:
        torch.testing.assert_close(far, grads[0], atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("preset", ["kosmos1", "kosmos2", "micro"])
def test_within_training_lengths_tables_are_those_of_one_center_bit_for_bit(preset):
    config = PRESETS[preset].decoder
    positions = torch.arange(config.max_tokens).unsqueeze(0)
    assert block_positions(config, positions, None) is None
    found = rotation_of(config, positions, blocks=None, keys=None, dtype=torch.float32)
    expected = xpos(
        positions,
        head_dim=config.width // config.num_heads,
        scale_base=config.xpos_scale_base,
        center=config.max_tokens // 2,
    )
    assert found.blocks is None
    assert torch.equal(found.query, expected.query)
    assert torch.equal(found.key, expected.key)


def test_tables_that_something_has_rounded_are_refused():
    table = xpos(torch.tensor([[3]]), head_dim=8, scale_base=512, center=0).query.bfloat16()
    with pytest.raises(ConfigError, match="expected float32 or float64 tables"):
        rotate(torch.randn(1, 1, 2, 8), table)
