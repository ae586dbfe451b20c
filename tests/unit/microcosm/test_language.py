import re
from itertools import pairwise

import pytest

from kosmos.boxes import Box
from kosmos.document.types import Grounded
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.language import (
    Phrase,
    caption,
    describe,
    detailed,
    grounded_parts,
    plain_text,
    plural,
    references,
    with_article,
)
from kosmos.microcosm.world import Thing, sample_scene
from tests.unit.microcosm.reading import NUMBERS, center, is_called, region_of, stands

CONFIG = MicrocosmConfig()


@pytest.fixture(scope="module")
def said():
    scenes = [sample_scene(CONFIG, "language", index) for index in range(800)]
    return [(scene, caption(scene, CONFIG, Dice(0, "c", i))) for i, scene in enumerate(scenes)]


def noun_and_number(phrase):
    first, _, noun = phrase.text.lower().partition(" ")
    return noun, 1 if first in ("a", "an") else NUMBERS.index(first)


def test_phrases_fit_the_things_they_stand_for(said):
    for scene, segments in said:
        phrases = [segment for segment in segments if isinstance(segment, Phrase)]
        assert phrases
        mentioned = [index for phrase in phrases for index in phrase.things]
        assert len(set(mentioned)) == len(mentioned)
        for phrase in phrases:
            noun, number = noun_and_number(phrase)
            assert number == len(phrase.things)
            assert all(is_called(scene.things[index], noun) for index in phrase.things)


def test_relations_and_regions_in_captions_are_true(said):
    num_relations = num_regions = 0
    for scene, segments in said:
        for before, words, after in zip(segments, segments[1:], segments[2:], strict=False):
            if not (isinstance(before, Phrase) and isinstance(words, str)):
                continue
            thing = scene.things[before.things[0]]
            if words.strip() in ("left of", "right of", "above", "below"):
                num_relations += 1
                assert stands(words.strip(), thing, scene.things[after.things[0]])
            where = re.fullmatch(r" (?:in|on|at) the ([a-z ]+)", words)
            if where:
                num_regions += 1
                assert region_of(thing, scene.side) == where[1]
    assert num_relations > 100
    assert num_regions > 100


def test_a_group_is_mentioned_whole_unless_some_are_left_out(said):
    whole = 0
    for scene, segments in said:
        mentioned = sum(len(s.things) for s in segments if isinstance(s, Phrase))
        whole += mentioned == len(scene.things)
    assert 0.75 * len(said) < whole < 0.98 * len(said)


def test_lists_go_from_left_to_right(said):
    for scene, segments in said:
        if any(word in plain_text(segments) for word in ("left of", "right of", "above", "below")):
            continue
        firsts = [
            min(center(scene.things[i])[0] for i in s.things)
            for s in segments
            if isinstance(s, Phrase)
        ]
        assert firsts == sorted(firsts)


def test_grounded_parts_say_the_same_words_with_the_boxes_of_the_things(said):
    for scene, segments in said:
        parts = grounded_parts(segments, scene)
        assert "".join(part.text for part in parts) == plain_text(segments)
        for part, segment in zip(parts, segments, strict=True):
            if isinstance(segment, Phrase):
                assert isinstance(part, Grounded)
                for box, index in zip(part.boxes, segment.things, strict=True):
                    thing = scene.things[index]
                    x1, y1 = thing.x + thing.width, thing.y + thing.height
                    assert box == Box(*(v / 64 for v in (thing.x, thing.y, x1, y1)))


def test_captions_are_one_sentence_with_a_capital_and_a_stop(said):
    texts = [plain_text(segments) for _, segments in said]
    assert all(re.fullmatch(r"[A-Z][a-z, ]+\.", text) for text in texts)
    assert sum(text.startswith("An image of ") for text in texts) > 0.35 * len(texts)
    assert len({text.split()[0] for text in texts}) >= 4


def test_detailed_descriptions_say_all_there_is_and_where():
    for index in range(100):
        scene = sample_scene(CONFIG, "detailed", index)
        segments = detailed(scene)
        assert plain_text(segments).startswith("Describe this image in detail: ")
        phrases = [segment for segment in segments if isinstance(segment, Phrase)]
        assert sorted(i for p in phrases for i in p.things) == list(range(len(scene.things)))
        for before, after in pairwise(segments):
            if isinstance(before, Phrase):
                thing = scene.things[before.things[0]]
                assert is_called(thing, noun_and_number(before)[0])
                where = re.fullmatch(r" is (?:in|on|at) the ([a-z ]+)\.", after)
                assert where or after == "."
                assert not where or region_of(thing, scene.side) == where[1]


def test_references_go_on_after_an_image_of_and_mention_everything():
    several = 0
    for index in range(60):
        scene = sample_scene(CONFIG, "references", index)
        said = references(scene, CONFIG, Dice(0, "r", index))
        several += len(said) == 5
        assert len(set(said)) == len(said) >= 1
        for text in said:
            assert re.fullmatch(r"(a|an|two|three|four) [a-z, ]+\.", text)
            for thing in scene.things:
                head = thing.kind or thing.shape
                assert head in text
    assert several > 40


def test_words_for_an_animal_are_its_kind_alone():
    animal = Thing("star", "red", "large", "plain", "dax", 0, 0, 9, 9, (0, 0, 0))
    assert describe(animal, ("size", "color", "shape", "texture")) == "dax"
    thing = Thing("star", "red", "large", "dotted", "", 0, 0, 9, 9, (0, 0, 0))
    assert describe(thing, ("shape", "color", "texture", "size")) == "large dotted red star"
    assert describe(thing, ("color",)) == "red object"


@pytest.mark.parametrize(
    ("noun", "one", "many"),
    [
        ("orange cross", "an orange cross", "orange crosses"),
        ("red ring", "a red ring", "red rings"),
    ],
)
def test_articles_and_plurals(noun, one, many):
    assert with_article(noun) == one
    assert plural(noun) == many
