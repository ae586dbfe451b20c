"""A model is described once: one more connector is a class and a line, and everything knows it."""

from dataclasses import replace as replace_fields
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kosmos.check.settings import doubts
from kosmos.config import replace
from kosmos.errors import ConfigError
from kosmos.model.config import PRESETS, ConnectorConfig, ModelConfig
from kosmos.model.cost import count_parameters, forward_flops
from kosmos.model.kosmos import Kosmos
from kosmos.model.lora import LoraConfig, linear_layers, target_name
from kosmos.model.parts import CONNECTORS, CrossAttention, Perceiver, parts_of
from kosmos.plan.plan import plan
from kosmos.train.trainer import train
from kosmos.weights.folder import load_model
from tests.tiny_run import make_run
from tests.unit.model.pool_mlp import PoolMlp, PoolMlpConnector

NANO = PRESETS["nano"]
POOLED = ConnectorConfig(num_queries=4, num_heads=2, width=24)


@pytest.fixture
def pool_mlp(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """The nano model with a connector that a class and a line added."""
    monkeypatch.setitem(CONNECTORS, "pool-mlp", PoolMlp)
    return replace_fields(NANO, connector=replace_fields(POOLED, kind="pool-mlp"))


def test_an_unknown_kind_is_an_error_and_no_perceiver() -> None:
    with pytest.raises(ConfigError, match="'perceiver', found 'pool-mlp'"):
        replace(NANO, {"connector.kind": "pool-mlp"})


def test_only_a_kind_that_works_at_the_decoders_width_is_held_to_it() -> None:
    assert (CrossAttention.has_decoder_width, Perceiver.has_decoder_width) == (True, False)
    with pytest.raises(ConfigError, match="cross-attention works at the decoder's width 32"):
        replace_fields(NANO, connector=POOLED)
    assert replace_fields(NANO, connector=replace_fields(POOLED, kind="perceiver"))


def test_costs_of_an_added_connector_are_those_of_its_module(pool_mlp: ModelConfig) -> None:
    model = Kosmos(pool_mlp).eval().requires_grad_(False)
    assert isinstance(model.connector, PoolMlpConnector)
    assert count_parameters(pool_mlp) == sum(p.numel() for p in model.parameters())
    linears = {
        target_name(name): (layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    assert {name: layers[:2] for name, layers in linear_layers(pool_mlp).items()} == linears
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.encode_images(torch.zeros(2, 3, 28, 28))
    assert counter.get_total_flops() == forward_flops(pool_mlp, tokens=0, images=2)


def test_an_added_connector_is_planned_trained_saved_and_loaded(
    pool_mlp: ModelConfig, tmp_path: Path
) -> None:
    base = make_run(tmp_path, steps=2)
    assert pool_mlp.connector is not None
    run = replace(base, {"model.connector": pool_mlp.connector})
    planned = plan(run)
    held = parts_of(run.model)["connector"].num_parameters
    assert planned.parameters["connector"] == held == 24 * 24 + 24 + 24 * 32 + 32
    folder = train(run, out=tmp_path / "out")
    loaded = load_model(folder)
    assert isinstance(loaded.model.connector, PoolMlpConnector)
    assert "pool-mlp, 4 queries an image |" in (folder / "README.md").read_text()
    assert planned.num_parameters == sum(p.numel() for p in loaded.model.parameters())


def test_an_added_connector_gets_adapters(pool_mlp: ModelConfig, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    assert pool_mlp.connector is not None
    run = replace(make_run(tmp_path, steps=2), {"model.connector": pool_mlp.connector})
    start = train(run, out=tmp_path / "start")
    adapter = LoraConfig(rank=2, targets=("connector",))
    fields = {"train.start_from": str(start), "train.adapter": adapter, "train.vision": "frozen"}
    tuned = replace(run, fields)
    assert plan(tuned).parameters["adapter"] == 2 * (24 + 24) + 2 * (24 + 32)
    merged = load_model(train(tuned, out=tmp_path / "tuned")).model
    before = load_model(start).model
    for name, weight in merged.state_dict().items():
        is_same = torch.equal(weight, before.state_dict()[name])
        assert is_same == (name not in ("connector.fc1.weight", "connector.fc2.weight")), name


def test_settings_that_a_kind_does_not_read_are_told(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path), {"model.connector.num_layers": 3})
    (doubt,) = [doubt for doubt in doubts(run) if "connector" in doubt.where]
    assert doubt.where == "model.connector.num_layers"
    assert "3 has no effect on a cross-attention connector" in doubt.what
    assert "kinds that have num_layers: perceiver" in doubt.hint
