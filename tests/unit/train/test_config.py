"""kosmos.train.config."""

import pytest

from kosmos.config import override, replace
from kosmos.errors import ConfigError
from kosmos.recipes.kosmos1 import kosmos1
from kosmos.train.config import check_run


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


def test_settings_that_depend_on_each_other_come_in_any_order() -> None:
    run = kosmos1()
    for assignment in ("train.steps=30", "train.warmup_steps=5"):
        run = override(run, assignment)
    check_run(run)


def test_streams_have_names_of_their_own() -> None:
    (text, *_) = kosmos1().data.streams
    with pytest.raises(ConfigError, match="expected unique names, found 'text' twice"):
        replace(kosmos1(), {"streams": (text, text)})
    with pytest.raises(ConfigError, match="streams: expected at least one, found none"):
        replace(kosmos1(), {"streams": ()})


def test_a_tokenizer_of_another_size_is_told() -> None:
    check_run(kosmos1(), vocabulary_size=64_007)
    with pytest.raises(ConfigError, match=r"model.decoder.vocab_size: expected 65037"):
        check_run(kosmos1(), vocabulary_size=65_037)
