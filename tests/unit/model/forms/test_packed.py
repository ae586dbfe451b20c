"""A packed layer computes what the plain one does, gives it back, and refuses everything else."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kosmos.errors import ConfigError
from kosmos.model.forms.packed import (
    MIN_ELEMENTS,
    PackedLinear,
    can_pack,
    find_packed,
    pack_linears,
    page_out,
    unpack_linears,
)
from kosmos.runtime import generator

has_kernels = can_pack(torch.zeros(512, 512))
needs_kernels = pytest.mark.skipif(not has_kernels, reason="torch is built without oneDNN")


def noise(*shape, seed=0, dtype=torch.float32):
    rng = generator(seed, "packed", *shape)
    return torch.from_numpy(rng.standard_normal(shape)).to(dtype)


@needs_kernels
@settings(max_examples=40)
@given(
    inputs=st.integers(1, 130),
    outputs=st.integers(1, 130),
    batch=st.lists(st.integers(0, 5), max_size=3),
    has_bias=st.booleans(),
)
def test_packed_layer_multiplies_as_the_plain_one(inputs, outputs, batch, has_bias):
    weight, rows = noise(outputs, inputs), noise(*batch, inputs)
    bias = noise(outputs) if has_bias else None
    found = PackedLinear(weight, bias).eval()(rows)
    expected = F.linear(rows, weight, bias)
    assert found.shape == expected.shape
    # float32 in two orders of summation; worst seen is 1.3e-6 of a result of size sqrt(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=4e-6 * inputs**0.5)


@needs_kernels
@pytest.mark.parametrize("rows", [1, 2, 17, 83, 257])
def test_number_of_rows_does_not_matter(rows):
    weight, bias, inputs = noise(300, 257), noise(300), noise(rows, 257, seed=1)
    packed = PackedLinear(weight, bias).eval()
    torch.testing.assert_close(packed(inputs), F.linear(inputs, weight, bias), rtol=1e-5, atol=6e-5)


@needs_kernels
def test_inputs_need_not_be_contiguous():
    weight, inputs = noise(40, 64), noise(4, 7, 64)
    packed = PackedLinear(weight).eval()
    for view in (inputs[:, -1], inputs.transpose(0, 1), noise(64, 5).T):
        torch.testing.assert_close(packed(view), F.linear(view, weight), rtol=1e-5, atol=4e-5)


@needs_kernels
@pytest.mark.skipif(
    not can_pack(torch.zeros(512, 512, dtype=torch.bfloat16)), reason="no bfloat16 kernels"
)
def test_bfloat16_layer_is_packed_as_well():
    weight, inputs = (noise(n, 96, dtype=torch.bfloat16) for n in (70, 9))
    found = PackedLinear(weight).eval()(inputs)
    assert found.dtype == torch.bfloat16
    # both sum in float32 and round once
    torch.testing.assert_close(found, F.linear(inputs, weight), rtol=2**-7, atol=1e-2)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (93, 64), (5, 130)])
def test_plain_layer_comes_back_bit_for_bit(dtype, shape):
    weight, bias = noise(*shape, dtype=dtype), noise(shape[0], dtype=dtype)
    if not can_pack(weight, min_elements=1):
        pytest.skip("no kernels of this type")
    linear = PackedLinear(weight, bias).eval().to_linear()
    assert torch.equal(linear.weight, weight)
    assert torch.equal(linear.bias, bias)
    assert PackedLinear(weight).to_linear().bias is None


def test_what_has_no_kernel_is_not_packed(monkeypatch):
    large = torch.zeros(512, 512)
    assert large.numel() == MIN_ELEMENTS
    assert not can_pack(torch.zeros(512, 511))
    assert not can_pack(large.double())
    assert not can_pack(large.half())
    assert not can_pack(large.to(torch.int8))
    assert not can_pack(large.to("meta"))
    assert not can_pack(torch.zeros(MIN_ELEMENTS))
    assert not can_pack(torch.zeros(0, 4), min_elements=0)
    # torch.backends.mkldnn.flags itself warns on machines without an Intel GPU (torch 2.13)
    monkeypatch.setattr(torch._C, "_get_mkldnn_enabled", lambda: False)
    assert not can_pack(large)


def model():
    return nn.Sequential(nn.Linear(8, 16), nn.Sequential(nn.GELU(), nn.Linear(16, 4))).eval()


@needs_kernels
def test_linears_are_packed_and_unpacked_in_place():
    layers = model()
    before = {name: value.clone() for name, value in layers.named_parameters()}
    inputs = noise(3, 8)
    expected = layers(inputs)
    assert pack_linears(layers) == 0
    assert find_packed(layers) is None
    assert pack_linears(layers, min_elements=100) == 1
    assert find_packed(layers) == "0"
    assert pack_linears(layers, min_elements=1) == 1
    assert pack_linears(layers, min_elements=1) == 0
    assert dict(layers.named_parameters()) == {}
    torch.testing.assert_close(layers(inputs), expected, rtol=1e-5, atol=1e-6)
    unpack_linears(layers)
    assert {n: v.tolist() for n, v in layers.named_parameters()} == {
        n: v.tolist() for n, v in before.items()
    }


@needs_kernels
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda layers: layers.train(), "expected weights that can be trained"),
        (lambda layers: layers.state_dict(), "expected weights that can be saved"),
        (lambda layers: layers.double(), "expected weights that can be moved or converted"),
        (lambda layers: layers(noise(3, 8).bfloat16()), r"expected torch\.float32, found torch\.b"),
    ],
)
def test_packed_layers_only_answer(act, message):
    layers = model()
    pack_linears(layers, min_elements=1)
    layers.eval()
    with pytest.raises(ConfigError, match=message):
        act(layers)


def test_weight_that_is_paged_out_keeps_its_values():
    weight = noise(600, 512)
    expected = weight.clone()
    for view in (weight, weight[3:7], weight[:, ::2], weight[:0]):
        page_out(view)
    assert torch.equal(weight, expected)
