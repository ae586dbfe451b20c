"""Decoding options refuse what is impossible, and what would do nothing."""

from dataclasses import fields

import pytest

from kosmos.config import from_json, to_json
from kosmos.errors import ConfigError
from kosmos.generate.config import (
    CAPTION,
    FIRST_BOX,
    GREEDY,
    RELEASED,
    RELEASED_BEAMS,
    Decoding,
    DecodingOptions,
    with_options,
)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"min_new_tokens": -1}, "min_new_tokens"),
        ({"min_new_tokens": 65}, "min_new_tokens"),
        ({"max_total_tokens": 0}, "max_total_tokens"),
        ({"num_beams": 0}, "num_beams"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p"),
        ({"temperature": 1.0, "top_k": -1}, "top_k"),
        ({"early_stopping": "always"}, "early_stopping"),
        ({"stop": ("",)}, "stop"),
        ({"stop": "Question:"}, "stop"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size"),
        ({"stop_after": "</object>"}, "stop_after"),
        ({"num_beams": 2, "length_penalty": float("nan")}, "length_penalty"),
        ({"num_beams": 2, "length_penalty": float("inf")}, "length_penalty"),
    ],
)
def test_an_impossible_option_is_refused_by_name(options, named):
    with pytest.raises(ConfigError, match=named):
        Decoding(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_beams": 2, "temperature": 1.0}, "temperature: beams do not sample"),
        ({"top_k": 5}, "top_k: expected temperature above 0"),
        ({"top_p": 0.9}, "top_p: expected temperature above 0"),
        ({"seed": 3}, "seed: expected temperature above 0"),
        ({"num_beams": 2, "seed": 3}, "seed: expected temperature above 0"),
        ({"length_penalty": 2.0}, "length_penalty: expected num_beams above 1"),
        ({"early_stopping": True}, "early_stopping: expected num_beams above 1"),
        ({"score_prompt": True, "temperature": 1.0}, "score_prompt: expected num_beams above 1"),
    ],
)
def test_an_option_without_effect_is_refused(options, named):
    with pytest.raises(ConfigError, match=named):
        Decoding(**options)


def test_options_are_changed_all_at_once_in_whatever_order_they_come():
    ordered = {"length_penalty": 0.5, "early_stopping": True, "num_beams": 3}
    assert with_options(GREEDY, ordered) == Decoding(**ordered)
    assert with_options(CAPTION, {"top_p": 0.5, "temperature": 1.0, "num_beams": 1}).is_sampled


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("num_beam", "did you mean 'num_beams'?"),
        # nearest by its letters is length_penalty, which has nothing to do with it
        ("repetition_penalty", "no_repeat_ngram_size=3"),
        ("do_sample", "temperature"),
        ("zzz", "known: max_new_tokens"),
    ],
)
def test_an_unknown_option_is_refused_with_what_was_meant(name, hint):
    with pytest.raises(ConfigError, match=f"found {name!r}") as caught:
        with_options(GREEDY, {name: 1})
    assert hint in str(caught.value.hint)


def test_keyword_options_are_the_fields():
    assert set(DecodingOptions.__annotations__) == {field.name for field in fields(Decoding)}


def test_options_survive_json():
    presets = (CAPTION, RELEASED, RELEASED_BEAMS, FIRST_BOX)
    for decoding in (*presets, Decoding(stop=("Question:",), temperature=0.7)):
        assert from_json(Decoding, to_json(decoding)) == decoding
