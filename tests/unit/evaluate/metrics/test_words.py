"""Colors and things that captions speak of are compared with those that are there."""

import pytest

from kosmos.evaluate.metrics.words import Lexicon, f1, facts_of, facts_said, lexicon_of
from kosmos.files import Json

OBJECTS: list[dict[str, Json]] = [
    {"name": "circle", "shape": "circle", "color": "red", "kind": None},
    {"name": "dax", "shape": "square", "color": "blue", "kind": "dax"},
]
LEXICON = Lexicon(frozenset({"red", "blue", "green"}), frozenset({"circle", "cross", "dax"}))


def test_color_of_a_kind_is_not_said() -> None:
    assert facts_of(OBJECTS) == ({"red"}, {"circle", "dax"}, {("red", "circle")})


def test_lexicon_is_of_the_whole_set() -> None:
    more: list[dict[str, Json]] = [{"shape": "cross", "color": "green"}]
    assert lexicon_of([OBJECTS, more]) == LEXICON


@pytest.mark.parametrize(
    ("caption", "pairs"),
    [
        ("a red circle", {("red", "circle")}),
        ("a big red striped circle.", {("red", "circle")}),
        ("two red crosses and circles", {("red", "cross")}),
        ("a red and blue circle", {("blue", "circle")}),
        ("red is far away from the circle", set()),
    ],
)
def test_pairs_are_a_color_right_before_a_thing(caption: str, pairs: set[tuple[str, str]]) -> None:
    assert facts_said(caption, LEXICON).pairs == pairs


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    assert f1({1, 2}, {2, 3, 4}) == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert f1(set(), set()) == 1.0
    assert f1({1}, set()) == f1(set(), {1}) == 0.0
