"""kosmos.train.config."""

import dataclasses
import math
from collections.abc import Iterator

import pytest

from kosmos.config import override, replace
from kosmos.errors import ConfigError
from kosmos.findings import raise_first_error
from kosmos.model.lora import LoraConfig
from kosmos.recipes.kosmos1 import kosmos1
from kosmos.train.config import run_rules


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.steps", 0),
        ("train.learning_rate", 0.0),
        ("data.micro_batch_tokens", 0),
        ("train.log_every", 0),
        ("train.clip_norm", -1.0),
        ("train.warmup_steps", -1),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: expected"):
        replace(kosmos1(), {name: value})


def numbers(config: object, where: str) -> Iterator[tuple[str, object]]:
    """Dotted names and values of all numeric fields of a run, its lists by name."""
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value, name = getattr(config, field.name), f"{where}{field.name}"
        items = value if isinstance(value, tuple) else ()
        if dataclasses.is_dataclass(value):
            yield from numbers(value, f"{name}.")
        elif items and all(dataclasses.is_dataclass(item) for item in items):
            yield from numbers(items[0], f"{name}.{items[0].name}.")
        elif (items and all(isinstance(item, float) for item in items)) or (
            isinstance(value, int | float) and not isinstance(value, bool)
        ):
            yield name, value


RUN = replace(kosmos1(), {"train.adapter": LoraConfig()})
FIELDS = [pair for pair in numbers(RUN, "") if not pair[0].startswith(("model.", "data.image."))]


@pytest.mark.parametrize(("name", "value"), FIELDS)
def test_no_field_takes_a_number_that_is_none(name: str, value: object) -> None:
    kinds = [-1] if isinstance(value, int) else [math.nan, math.inf, -math.inf, -1.0]
    for bad in kinds:
        wrong = (bad, bad) if isinstance(value, tuple) else bad
        with pytest.raises(ConfigError, match="expected"):
            replace(RUN, {name: wrong})


@pytest.mark.parametrize("betas", [(1.0, 0.98), (0.9, 1.0), (0.9, 2.0)])
def test_moments_that_never_forget_are_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"train.betas: expected"):
        replace(RUN, {"train.betas": betas})


def test_settings_that_depend_on_each_other_come_in_any_order() -> None:
    run = kosmos1()
    for assignment in ("train.steps=30", "train.warmup_steps=5"):
        run = override(run, assignment)
    raise_first_error(run_rules(run))


def test_streams_have_names_of_their_own() -> None:
    (text, *_) = kosmos1().data.streams
    with pytest.raises(ConfigError, match="expected unique names, found 'text' twice"):
        replace(kosmos1(), {"streams": (text, text)})
    with pytest.raises(ConfigError, match="streams: expected at least one, found none"):
        replace(kosmos1(), {"streams": ()})


def test_a_tokenizer_of_another_size_is_told() -> None:
    raise_first_error(run_rules(kosmos1(), vocabulary_size=64_007))
    with pytest.raises(ConfigError, match=r"model.decoder.vocab_size: expected 65037"):
        raise_first_error(run_rules(kosmos1(), vocabulary_size=65_037))
