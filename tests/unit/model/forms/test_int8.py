"""Whole numbers and scales stand for the weights within half a step, on every path."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from kosmos.errors import CheckpointError, ConfigError
from kosmos.model.forms import int8
from kosmos.model.forms.int8 import (
    Int8Embedding,
    Int8Linear,
    dequantize_rows,
    is_int8,
    multiply_int8,
    quantize_layers,
    quantize_rows,
    shape_int8,
)
from kosmos.model.forms.packed import can_pack, pack_linears
from kosmos.runtime import generator


def noise(*shape, seed=0):
    rng = generator(seed, "int8", *shape)
    return torch.from_numpy(rng.standard_normal(shape)).float()


numbers_of_any_size = st.floats(-(2.0**100), 2.0**100, width=32)
weights = st.lists(st.tuples(*[numbers_of_any_size] * 3), min_size=1, max_size=5)


@given(rows=weights)
@example(rows=[(0.0, 0.0, 0.0), (1e-45, -1e-45, 0.0), (3e38, -3e38, 1.0)])
def test_weights_are_at_most_half_a_step_off(rows):
    weight = torch.tensor(rows)
    numbers, scales = quantize_rows(weight)
    assert numbers.abs().max() <= 127
    step = scales.double().unsqueeze(1)
    error = (weight.double() - numbers.double() * step).abs()
    assert bool((error <= step * (0.5 + 1e-4)).all())  # and float32's rounding of 127 steps
    again, _ = quantize_rows(-weight)
    assert torch.equal(again, -numbers)


def test_largest_weight_of_a_row_has_the_largest_number_and_zeros_stay():
    numbers, scales = quantize_rows(torch.tensor([[0.5, -2.54, 0.0], [0.0, 0.0, 0.0]]))
    assert numbers.tolist() == [[25, -127, 0], [0, 0, 0]]
    assert scales[0].item() == pytest.approx(0.02)
    assert dequantize_rows(numbers, scales)[1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bad):
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        layers[1].weight[2, 3] = bad
    with pytest.raises(CheckpointError, match=r"1\.weight: expected finite weights, found NaN or"):
        quantize_layers(layers)


@settings(max_examples=40)
@given(
    inputs=st.sampled_from([1, 24, 31, 32, 64, 96, 100]),
    outputs=st.integers(1, 70),
    batch=st.lists(st.integers(0, 6), max_size=2),
    has_units=st.booleans(),
)
def test_product_is_that_of_rounded_activations_and_weights(inputs, outputs, batch, has_units):
    numbers, scales = quantize_rows(noise(outputs, inputs))
    rows = noise(*batch, inputs, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "_has_bfloat16_units", lambda: has_units)
        found = multiply_int8(rows, numbers, scales)
    expected = F.linear(rows.bfloat16().double(), dequantize_rows(numbers, scales).double())
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    # the sum is rounded to bfloat16: at most 2^-8 of itself
    torch.testing.assert_close(found.double(), expected, rtol=2**-8 * 1.01, atol=1e-5)


@pytest.mark.parametrize("has_units", [True, False])
@pytest.mark.parametrize("inputs", [64, 24])
def test_row_does_not_depend_on_how_many_come_with_it(inputs, has_units, monkeypatch):
    monkeypatch.setattr(int8, "_has_bfloat16_units", lambda: has_units)
    monkeypatch.setattr(int8, "SLICE_ELEMENTS", 1000)
    numbers, scales = quantize_rows(noise(50, inputs))
    rows = noise(200, inputs, seed=1)
    together = multiply_int8(rows, numbers, scales)
    alone = torch.cat([multiply_int8(row[None], numbers, scales) for row in rows])
    # the order of summation may turn one bfloat16 into its neighbor, rarely
    assert (together != alone).float().mean() < 0.01
    torch.testing.assert_close(together, alone, rtol=2**-7, atol=1e-5)


def test_matrix_may_lie_anywhere_in_memory():
    numbers, scales = quantize_rows(noise(50, 64))
    rows = noise(3, 64, seed=1)
    expected = multiply_int8(rows, numbers, scales)
    for offset in (1, 8, 16):
        shifted = torch.zeros(numbers.numel() + 64, dtype=torch.int8)
        shifted = shifted[offset : offset + numbers.numel()].view(numbers.shape).copy_(numbers)
        torch.testing.assert_close(multiply_int8(rows, shifted, scales), expected)
    across = numbers.T.contiguous().T
    torch.testing.assert_close(multiply_int8(rows, across, scales), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layer_answers_in_the_type_of_its_inputs(dtype):
    linear = nn.Linear(64, 40).to(dtype)
    layers = nn.Sequential(linear)
    inputs = noise(3, 64).to(dtype)
    expected = linear(inputs)
    quantize_layers(layers)
    assert isinstance(layers[0], Int8Linear)
    found = layers(inputs)
    assert found.dtype == dtype
    # half a step of 64 weights of up to 0.125, times activations near 1
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_embedding_looks_rows_up_and_is_the_head():
    table = nn.Embedding(30, 64, padding_idx=1)
    weight = table.weight.detach().clone()
    layers = nn.Sequential(table)
    quantize_layers(layers)
    embedding = layers[0]
    assert isinstance(embedding, Int8Embedding)
    stands_for = dequantize_rows(embedding.weight, embedding.scales)
    assert (stands_for - weight).abs().max() < weight.abs().max() / 127
    ids = torch.tensor([[3, 1], [29, 3]])
    assert torch.equal(embedding(ids), stands_for[ids])
    assert embedding(ids)[0, 1].abs().max() == 0.0
    hidden = noise(2, 5, 64)
    expected = hidden.bfloat16().float() @ stands_for.T
    torch.testing.assert_close(embedding.logits(hidden), expected, rtol=2**-8, atol=1e-5)


def test_shaping_gives_the_names_shapes_and_types_of_quantizing():
    def layers():
        return nn.ModuleDict(
            {"a": nn.Linear(8, 6), "b": nn.Linear(6, 4, bias=False), "c": nn.Embedding(9, 8),
             "d": nn.LayerNorm(8)}
        )  # fmt: skip

    real, shaped = layers(), layers().to("meta")
    assert not is_int8(real)
    quantize_layers(real)
    shape_int8(shaped)
    assert is_int8(real)
    facts = [
        {name: (value.shape, value.dtype) for name, value in module.named_parameters()}
        for module in (real, shaped)
    ]
    assert facts[0] == facts[1]
    assert facts[0]["a.weight"] == ((6, 8), torch.int8)
    assert facts[0]["a.scales"] == ((6,), torch.float32)
    assert facts[0]["d.weight"] == ((8,), torch.float32)


@pytest.mark.skipif(not can_pack(torch.zeros(512, 512)), reason="torch is built without oneDNN")
def test_packed_layers_are_not_quantized_by_halves():
    layers = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    pack_linears(layers, min_elements=100)
    with pytest.raises(ConfigError, match="0: expected a plain layer to quantize, found a packed"):
        quantize_layers(layers)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_gpu_multiplies_in_the_type_of_the_activations(dtype, rtol):
    numbers, scales = quantize_rows(noise(50, 64))
    rows = noise(20, 64, seed=1).to(dtype)
    found = multiply_int8(rows.cuda(), numbers.cuda(), scales.cuda()).cpu()
    expected = rows.float() @ dequantize_rows(numbers, scales).to(dtype).float().T
    torch.testing.assert_close(found, expected, rtol=rtol, atol=4 * rtol)
