"""Packed, a model answers the same; quantized, nearly so; neither is taken for a plain one."""

import copy

import pytest
import torch

from kosmos.config import replace
from kosmos.errors import ConfigError
from kosmos.model.forms.convert import (
    count_parameters,
    is_packed,
    pack_model,
    quantize_model,
    unpack_model,
)
from kosmos.model.forms.int8 import Int8Embedding, Int8Linear
from kosmos.model.forms.packed import can_pack
from tests.tiny import noise_pixels, tiny_config, tiny_model

needs_kernels = pytest.mark.skipif(
    not can_pack(torch.zeros(512, 512)), reason="torch is built without oneDNN"
)

KINDS = {
    "released": {},
    "xpos": {"decoder.positions": "xpos"},
    "perceiver": {
        "connector.kind": "perceiver", "connector.width": 20, "connector.num_layers": 2
    },
}  # fmt: skip


@pytest.fixture(params=KINDS)
def model(request):
    return tiny_model(replace(tiny_config(), KINDS[request.param]))


@torch.inference_mode()
def logits(model):
    ids = torch.arange(3, 21).view(2, 9)
    slots = torch.zeros(2, 9, dtype=torch.bool)
    slots[:, 1:4] = True
    soft = model.encode_images(noise_pixels(2, 28))
    return model.logits(model(ids, image_slots=slots, image_embeddings=soft))


@needs_kernels
def test_packed_model_computes_the_same_and_unpacks_bit_for_bit(model):
    plain = copy.deepcopy(model)
    expected = logits(model)
    assert pack_model(model) == 0
    num_linears = sum(isinstance(m, torch.nn.Linear) for m in model.modules())
    assert pack_model(model, min_elements=1) == num_linears + 1
    assert is_packed(model)
    assert count_parameters(model) == count_parameters(plain)
    assert pack_model(model, min_elements=1) == 0
    # float32 in another order of summation; worst seen 2e-6 of logits up to 9
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=2e-5)
    unpack_model(model)
    assert not is_packed(model)
    weights = dict(model.named_parameters())
    assert weights.keys() == dict(plain.named_parameters()).keys()
    assert all(torch.equal(weights[name], value) for name, value in plain.named_parameters())


def test_quantized_model_answers_nearly_the_same(model):
    expected = logits(model)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(model) == count
    quantize_model(model)
    assert count_parameters(model) == count
    assert isinstance(model.decoder.embedding, Int8Embedding)
    assert isinstance(model.vision.layers[0].ffn.fc1, Int8Linear)
    assert not any(isinstance(m, torch.nn.Linear) for m in model.modules())
    found = logits(model)
    assert found.dtype == torch.float32
    # worst seen 0.020 of the spread of logits (three kinds of tiny model, 2026-01)
    assert (found - expected).std() < 0.06 * expected.std()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_not_quantized_takes_the_type_asked_for(dtype):
    model = tiny_model()
    quantize_model(model, dtype=dtype)
    types = {name: value.dtype for name, value in model.named_parameters()}
    assert {types["decoder.norm.weight"], types["vision.patch_embedding.weight"]} == {dtype}
    assert types["decoder.layers.0.ffn.fc1.scales"] == torch.float32
    assert types["decoder.embedding.weight"] == torch.int8
    assert model.dtype == dtype
    ids = torch.tensor([[0, 5, 6]])
    hidden = model(ids)
    assert (hidden.dtype, model.logits(hidden).dtype) == (dtype, dtype)


def test_quantized_model_has_no_float_head():
    model = tiny_model()
    quantize_model(model)
    with pytest.raises(ConfigError, match="expected floating-point weights, found int8"):
        _ = model.head_weight


def test_quantized_model_has_nothing_to_pack():
    model = tiny_model()
    quantize_model(model)
    assert pack_model(model, min_elements=1) == 0
