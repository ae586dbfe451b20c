"""kosmos.train.optimizer."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import ConfigError
from kosmos.model.config import PRESETS
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.train.config import TrainConfig
from kosmos.train.optimizer import freeze_vision, learning_rate, make_optimizer

CONFIG = TrainConfig(
    steps=10, warmup_steps=0, learning_rate=0.01, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1
)
PAPER = TrainConfig(steps=60_000, warmup_steps=375, learning_rate=2e-4)


def make_model() -> Kosmos:
    model = Kosmos(PRESETS["nano"])
    initialize(model, 0)
    return model


def learning(model: Kosmos) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_vision_learns_wholly_in_its_last_layer_or_not_at_all() -> None:
    model = make_model()
    everything = learning(model)
    tower = {name for name in everything if name.startswith("vision.")}
    last = {name for name in tower if name.startswith("vision.layers.1.")}
    assert last
    for rule, expected in (("frozen", set()), ("last-layer", last), ("all", tower)):
        freeze_vision(model, rule)  # type: ignore[arg-type]
        assert learning(model) == (everything - tower) | expected


def test_a_language_model_has_nothing_to_freeze() -> None:
    model = Kosmos(dataclasses.replace(PRESETS["nano"], vision=None, connector=None))
    before = learning(model)
    freeze_vision(model, "frozen")
    assert learning(model) == before


def test_decay_all_is_one_group_of_everything_that_learns() -> None:
    model = make_model()
    freeze_vision(model, "last-layer")
    (group,) = make_optimizer(model, CONFIG).param_groups
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == len(learning(model))


def test_otherwise_biases_norms_and_embeddings_do_not_decay() -> None:
    model = make_model()
    optimizer = make_optimizer(model, dataclasses.replace(CONFIG, decay_all=False))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays, stays = (
        {names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert decays | stays == set(names.values())
    # what decays are the matrices of linear layers and the patch convolution
    matrices = {
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    assert decays == matrices


def test_updates_are_adam_with_decoupled_decay() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2).double()
    optimizer = make_optimizer(layer, CONFIG)
    weight = layer.weight.detach().clone()
    first = second = torch.zeros_like(weight)
    for update in range(1, 4):
        gradient = torch.randn_like(weight)
        for parameter in layer.parameters():
            parameter.grad = torch.zeros_like(parameter)
        layer.weight.grad = gradient
        optimizer.step()
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        direction = (first / (1 - 0.9**update)) / ((second / (1 - 0.98**update)).sqrt() + 1e-6)
        weight = weight * (1 - 0.01 * 0.1) - 0.01 * direction
        torch.testing.assert_close(layer.weight.detach(), weight, rtol=1e-12, atol=1e-12)


def test_nothing_that_learns_is_an_error() -> None:
    layer = torch.nn.Linear(3, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="expected parameters that learn, found none"):
        make_optimizer(layer, CONFIG)


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (1, 2e-4 / 375),
        (100, 2e-4 * 100 / 375),
        (375, 2e-4),
        (376, 2e-4),
        (30_000, 2e-4 * 30_001 / 59_625),
        (60_000, 2e-4 / 59_625),
    ],
)
def test_rates_are_those_of_the_release(update: int, expected: float) -> None:
    assert learning_rate(update, PAPER) == pytest.approx(expected, rel=1e-12)


def test_without_warmup_the_first_step_has_the_peak() -> None:
    config = dataclasses.replace(PAPER, warmup_steps=0, steps=10)
    assert learning_rate(1, config) == pytest.approx(2e-4)


def test_a_run_that_is_all_warmup_ends_at_the_peak() -> None:
    config = dataclasses.replace(PAPER, warmup_steps=10, steps=10)
    assert learning_rate(10, config) == pytest.approx(2e-4)


@given(st.integers(1, 300), st.integers(0, 300))
def test_every_step_of_a_schedule_moves_the_weights(steps: int, warmup: int) -> None:
    config = dataclasses.replace(PAPER, steps=steps, warmup_steps=min(warmup, steps))
    rates = [learning_rate(update, config) for update in range(1, steps + 1)]
    assert all(0.0 < rate <= PAPER.learning_rate * (1 + 1e-12) for rate in rates)
