"""kosmos.model.lora."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import ConfigError
from kosmos.model.config import PRESETS
from kosmos.model.lora import (
    LoraConfig,
    count_adapter_parameters,
    linear_layers,
    target_layers,
    target_name,
)
from kosmos.weights.loaded import shape_model

NANO = PRESETS["nano"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_linear_layer_of_a_model_has_a_target_name_and_its_sizes(preset: str) -> None:
    found: dict[str, list[tuple[int, int]]] = {}
    for name, module in shape_model(PRESETS[preset]).named_modules():
        if isinstance(module, torch.nn.Linear):
            sizes = (module.in_features, module.out_features)
            found.setdefault(target_name(name), []).append(sizes)
    layers = linear_layers(PRESETS[preset])
    assert {name: [layer[:2]] * layer.num_layers for name, layer in layers.items()} == found


@given(st.sets(st.sampled_from(sorted(linear_layers(NANO))), min_size=1))
def test_targets_choose_what_they_name_and_nothing_else(names: set[str]) -> None:
    assert set(target_layers(NANO, sorted(names))) == names


def test_the_name_of_a_part_stands_for_all_of_it() -> None:
    assert set(target_layers(NANO, ["decoder.attention", "connector"])) == {
        *(f"decoder.attention.{name}" for name in ("query", "key", "value", "out")),
        *(f"connector.attention.{name}" for name in ("query", "key", "value", "out")),
        "connector.dense",
    }


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("decoder.attentoin", "decoder.attention"),
        ("attention", "decoder.attention"),
        ("fc1", "decoder.ffn.fc1"),
        ("conector", "connector"),
    ],
)
def test_an_unknown_target_is_told_with_the_nearest(target: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"found '{target}'") as caught:
        target_layers(NANO, [target])
    assert caught.value.hint == f"did you mean {meant!r}?"


def test_a_target_that_is_like_none_is_told_with_all_parts() -> None:
    with pytest.raises(ConfigError) as caught:
        target_layers(NANO, ["q_proj"])
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("known: decoder, connector, vision, decoder.attention, ")


def test_a_part_that_a_model_lacks_is_no_target_and_neither_is_nothing() -> None:
    with pytest.raises(ConfigError, match="found 'vision'"):
        target_layers(PRESETS["kosmos1-baseline"], ["vision"])
    with pytest.raises(ConfigError, match="expected at least one, found none"):
        target_layers(NANO, [])


def test_the_adapter_of_the_released_model_is_as_large_as_its_matrices() -> None:
    # 24 layers: four projections of 2048 x 2048, two of 2048 x 8192
    expected = 24 * 16 * (4 * (2048 + 2048) + 2 * (2048 + 8192))
    assert count_adapter_parameters(PRESETS["kosmos2-released"], LoraConfig(rank=16)) == expected


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_impossible_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"train.adapter.{next(iter(wrong))}"):
        LoraConfig(**wrong)  # type: ignore[arg-type]
