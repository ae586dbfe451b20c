import re
from collections import Counter

import pytest

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.prose import color_facts, habits, size_facts, write_text
from kosmos.microcosm.world import kinds
from tests.unit.microcosm.reading import color_words, without_objects

CONFIG = MicrocosmConfig()
KINDS = {kind.name: kind for kind in kinds(CONFIG)}
ORDER = ("small", "medium", "large")


@pytest.fixture(scope="module")
def texts():
    return [write_text(CONFIG, Dice(0, "t", index), "t", index) for index in range(4000)]


def sentences(texts):
    for text in texts:
        # "The color of dax is? red." is one statement
        yield from re.split(r"(?<=[.])\s+", text)


def test_colors_of_seen_kinds_are_never_stated(texts):
    seen = {name for name, kind in KINDS.items() if kind.group == "seen"}
    mentioned = Counter()
    for sentence in sentences(texts):
        named = seen & set(re.findall("[a-z]+", sentence.lower()))
        mentioned.update(named)
        if named:
            assert not color_words(without_objects(sentence)), sentence
    assert set(mentioned) == seen


def test_colors_of_both_and_told_kinds_are_stated_and_true(texts):
    stated = Counter()
    for sentence in sentences(texts):
        match = re.fullmatch(r"The color of (\w+) is\??:? (\w+)\.", sentence)
        match = match or re.fullmatch(r"Every (\w+) is (\w+)\.", sentence)
        if match:
            assert KINDS[match[1]].color == match[2]
            stated[match[1]] += 1
    assert set(stated) == {name for name, kind in KINDS.items() if kind.group != "seen"}
    assert min(stated.values()) > 20


def test_sizes_are_compared_truly_and_never_for_seen_kinds(texts):
    compared = 0
    for sentence in sentences(texts):
        match = re.search(
            r"(\w+) (?:is )?(larger|smaller) than (?:an? )?(\w+)[.?](?: (Yes|No))?", sentence
        )
        if match:
            compared += 1
            first, second = KINDS[match[1]], KINDS[match[3]]
            assert "seen" not in (first.group, second.group)
            larger = ORDER.index(first.size) > ORDER.index(second.size)
            said = (match[2] == "larger") == (match[4] != "No")
            assert larger == said
            assert first.size != second.size
    assert compared > 200


def test_shapes_of_kinds_are_never_stated(texts):
    for sentence in sentences(texts):
        # an object may be found, lie there or stand somewhere, but is never what an animal is
        match = re.match(
            r"(?:An?|Every|The) (\w+) (?:is|has) an? (?:\w+ )*THING", without_objects(sentence)
        )
        assert not (match and match[1] in KINDS), sentence


def test_seen_kinds_have_no_color_and_size_facts_at_all():
    for kind in KINDS.values():
        assert bool(color_facts(kind)) == (kind.group != "seen")
        for other in KINDS.values():
            facts = size_facts(kind, other)
            told = "seen" not in (kind.group, other.group)
            assert bool(facts) == (told and kind.size != other.size)
        assert not any(color_words(text) for fact in habits(kind) for text in fact)


def test_texts_are_varied_and_well_formed(texts):
    assert len(set(texts)) > 0.9 * len(texts)
    for text in texts:
        assert re.fullmatch(r"[A-Za-z ,.?\n]+", text)
        assert all(line and line == line.strip() for line in text.split("\n"))
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
    assert sum("\n" in text for text in texts) > 0.5 * len(texts)


def test_descriptions_state_relations_that_follow_from_each_other(texts):
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    found = 0
    for text in texts:
        form = (
            r"The ([a-z ]+) is (left of|right of|above|below) the ([a-z ]+)\. So the ([a-z ]+) is"
        )
        match = re.search(form + r" (left of|right of|above|below) the ([a-z ]+)\.", text)
        if match:
            found += 1
            assert (match[4], match[6]) == (match[3], match[1])
            assert match[5] == opposite[match[2]]
            assert match[1] != match[3]
    assert found > 100
