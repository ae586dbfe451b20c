"""Costs computed from a config are those of the real module, to the unit where they can be."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kosmos.model.cache import KVCache
from kosmos.model.config import PRESETS, ConnectorConfig
from kosmos.model.cost import (
    count_parameters,
    forward_flops,
    parameter_table,
    training_flops,
    training_memory,
)
from kosmos.model.kosmos import Kosmos

NANO, MICRO = PRESETS["nano"], PRESETS["micro"]
VARIANTS = {
    "nano": NANO,
    "micro": MICRO,
    "language only": replace(MICRO, vision=None, connector=None),
    "odd image": replace(NANO, vision=replace(NANO.vision, image_size=33)),
    "perceiver at the decoder's width": replace(
        NANO,
        connector=ConnectorConfig(
            kind="perceiver", num_queries=5, num_layers=2, num_heads=2, width=32, ffn_multiple=3
        ),
    ),
}


def _parts(total):
    return {
        part: sum(n for name, n in total.items() if name.split(".")[0] == part)
        for part in ("decoder", "vision", "connector")
    }


def test_the_released_model_has_the_published_numbers_of_parameters():
    table = parameter_table(PRESETS["kosmos2-released"])
    assert table["decoder.embedding"] == 133_195_776
    assert table["decoder.layers"] == 1_209_090_048
    assert _parts(table) == {
        "decoder": 1_342_289_920,
        "vision": 303_179_776,
        "connector": 19_015_680,
    }
    assert count_parameters(PRESETS["kosmos2-released"]) == 1_664_485_376
    assert count_parameters(PRESETS["kosmos1-baseline"]) == 1_340_180_480


@pytest.mark.parametrize("config", [*PRESETS.values(), *VARIANTS.values()])
def test_parameters_of_each_part_are_those_of_the_module(config):
    with torch.device("meta"):
        model = Kosmos(config)
    found = {"decoder": 0, "vision": 0, "connector": 0}
    for name, parameter in model.named_parameters():
        found[name.split(".")[0]] += parameter.numel()
    assert _parts(parameter_table(config)) == found
    layers = sum(p.numel() for p in model.decoder.layers.parameters())
    assert parameter_table(config)["decoder.layers"] == layers


def _counted(function):
    """Operations torch counts; the plain attention kernel, for it counts no other on a CPU."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", VARIANTS)
def test_operations_are_those_torch_counts(name):
    config = VARIANTS[name]
    model = Kosmos(config).eval().requires_grad_(False)
    ids = torch.full((3, 40), 5)
    assert _counted(lambda: model.logits(model(ids))) == forward_flops(config, tokens=40, batch=3)
    if config.vision is None:
        return
    size, queries = config.vision.image_size, config.connector.num_queries
    slots = torch.zeros(3, 40, dtype=torch.bool)
    slots[:2, 1 : 1 + queries] = True

    def forward():
        soft = model.encode_images(torch.zeros(2, 3, size, size))
        hidden = model(ids, image_slots=slots, image_embeddings=soft)
        model.logits(hidden[:, -1:])

    expected = forward_flops(config, tokens=40, batch=3, images=2, head_tokens=3)
    assert _counted(forward) == expected


def test_operations_of_a_cached_step_are_those_torch_counts():
    model = Kosmos(NANO).eval().requires_grad_(False)
    cache = KVCache(NANO.decoder, batch=2, capacity=20)
    model(torch.full((2, 9), 5), cache=cache)
    counted = _counted(lambda: model.logits(model(torch.full((2, 4), 5), cache=cache)))
    assert counted == forward_flops(NANO, tokens=4, batch=2, past=9)


def test_a_training_step_is_three_passes_of_what_learns():
    config, given = MICRO, {"tokens": 20, "batch": 2}
    assert training_flops(config, **given) == 3 * forward_flops(config, **given)
    with_images = {"images": 2, **given}
    text = forward_flops(config, **given)
    everything = forward_flops(config, **with_images)
    frozen = training_flops(config, **with_images, vision="frozen")
    last = training_flops(config, **with_images, vision="last-layer")
    assert 3 * text < frozen < last < 3 * everything
    model = Kosmos(config)
    model.vision.requires_grad_(False)
    pixels = torch.zeros(2, 3, 64, 64)
    tower = _counted(lambda: model.vision(pixels))
    assert 3 * everything - frozen == 2 * tower
    layer = _counted(lambda: model.vision.layers[0](torch.zeros(2, 65, 128)))
    assert last - frozen == 2 * layer


def _kept_bytes(model, config, images):
    """What autograd keeps for the backward pass of three rows of 50 tokens."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive: pointers stay unique
        return tensor

    ids, slots, soft = torch.full((3, 50), 5), None, None
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if images:
            slots = torch.zeros(3, 50, dtype=torch.bool)
            slots[:, : config.connector.num_queries] = True
            size = config.vision.image_size
            soft = model.encode_images(torch.randn(3, 3, size, size))
        model(ids, image_slots=slots, image_embeddings=soft)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("vision", ["all", "last-layer", "frozen"])
@pytest.mark.parametrize("name", ["nano", "micro", "perceiver at the decoder's width"])
def test_activations_are_estimated_within_a_fifth(name, vision):
    config = replace(VARIANTS[name], decoder=replace(VARIANTS[name].decoder, dropout=0.0))
    model = Kosmos(config)
    model.vision.requires_grad_(vision == "all")
    model.vision.layers[-1].requires_grad_(vision != "frozen")
    estimate = training_memory(config, tokens=50, batch=3, images=3, vision=vision).activations
    assert estimate == pytest.approx(_kept_bytes(model, config, images=True), rel=0.2)


def test_memory_of_the_state_is_exact():
    memory = training_memory(NANO, tokens=8, batch=1, vision="frozen")
    model = Kosmos(NANO)
    model.vision.requires_grad_(False)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert memory.weights == 4 * count_parameters(NANO)
    assert memory.gradients == 4 * learning
    assert memory.optimizer == 8 * learning
    assert memory.total == sum(
        (memory.weights, memory.gradients, memory.optimizer, memory.activations, memory.loss)
    )
    smaller = training_memory(NANO, tokens=8, batch=1, vision="frozen", recompute=True)
    assert smaller.activations < memory.activations


def test_costs_need_no_torch():
    code = "import sys, kosmos.model.cost; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_of_several_lengths_cost_what_each_costs_by_itself():
    lengths = (3, 17, 40)
    alone = sum(forward_flops(MICRO, tokens=length) for length in lengths)
    together = forward_flops(MICRO, tokens=sum(lengths), pairs=sum(length**2 for length in lengths))
    assert together == alone < forward_flops(MICRO, tokens=sum(lengths))
