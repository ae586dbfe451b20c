"""Decoding options refuse what is impossible, and what would do nothing."""

from dataclasses import fields

import pytest

from kosmos.config import from_json, to_json
from kosmos.errors import ConfigError
from kosmos.generate.config import CAPTION, RELEASED, Decoding, DecodingOptions


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
    ],
)
def test_an_impossible_option_is_refused_by_name(options, named):
    with pytest.raises(ConfigError, match=named):
        Decoding(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2, "temperature": 1.0},
        {"top_k": 5},
        {"top_p": 0.9},
    ],
)
def test_an_option_without_effect_is_refused(options):
    with pytest.raises(ConfigError):
        Decoding(**options)


def test_keyword_options_are_the_fields():
    assert set(DecodingOptions.__annotations__) == {field.name for field in fields(Decoding)}


def test_options_survive_json():
    for decoding in (CAPTION, RELEASED, Decoding(stop=("Question:",), temperature=0.7)):
        assert from_json(Decoding, to_json(decoding)) == decoding
