import re
from collections import Counter
from itertools import pairwise

import pytest

from kosmos.document.types import Text
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.pages import PAGE_NAMES, comparisons, write_page
from kosmos.microcosm.world import Scene, kinds, sample_scene
from tests.unit.microcosm.reading import NUMBERS, is_called, region_of
from tests.unit.microcosm.test_questions import right_answer

CONFIG = MicrocosmConfig()


@pytest.fixture(scope="module")
def pages():
    return [write_page(CONFIG, Dice(0, "p", index), "page", index) for index in range(800)]


def scenes_of(page):
    return [part for part in page if isinstance(part, Scene)]


def texts_of(page):
    return [part.text for part in page if isinstance(part, Text)]


def test_pages_have_two_to_five_pictures_and_words_about_them(pages):
    counts = Counter(len(scenes_of(page)) for page in pages)
    assert set(counts) == {2, 3, 4, 5}
    for page in pages:
        assert texts_of(page)
        assert all(text.strip() for text in texts_of(page))
        assert all(part.loss for part in page if isinstance(part, Text))
        # words never follow words: they belong to the picture before or after them
        assert not any(isinstance(a, Text) and isinstance(b, Text) for a, b in pairwise(page))


def test_captions_come_before_on_some_pages_and_after_on_others(pages):
    first = Counter(isinstance(page[0], Text) for page in pages)
    assert min(first.values()) > 0.15 * len(pages)


def test_quiz_answers_are_true(pages):
    asked = 0
    for page in pages:
        for before, part in pairwise(page):
            match = isinstance(part, Text) and re.fullmatch(
                r"Question: (.+\?) Answer: (.+) ", part.text
            )
            if match:
                asked += 1
                assert match[2] == right_answer(match[1], before)
    assert asked > 300


def test_page_names_mean_one_shape_and_are_repeated(pages):
    found = 0
    names = {kind.name for kind in kinds(CONFIG)}
    assert not names & set(PAGE_NAMES)
    for page in pages:
        labels = [re.fullmatch(r"This is a (\w+)\. ", text) for text in texts_of(page)]
        if not all(labels):
            continue
        found += 1
        assert len(labels) >= 3
        meaning = {}
        for label, scene in zip(labels, scenes_of(page), strict=True):
            (thing,) = scene.things
            assert label[1] in PAGE_NAMES
            assert meaning.setdefault(label[1], thing.shape) == thing.shape
        assert len(set(meaning.values())) == len(meaning) == 2
    assert found > 50


def test_comparisons_are_true_of_both_pictures():
    said = 0
    for index in range(300):
        first, second = (sample_scene(CONFIG, "compare", index, i) for i in range(2))
        for claim in comparisons(first, second):
            said += 1
            assert holds(claim, first, second), claim
    assert said > 2000


def holds(claim, first, second):
    """Whether a claim is true, worked out from its words and the scenes alone."""

    def shows(scene, noun):
        return any(is_called(thing, noun) for thing in scene.things)

    a, b = len(first.things), len(second.things)
    if match := re.fullmatch(r"There are more things in the (first|second) picture\.", claim):
        return (a > b) if match[1] == "first" else (b > a)
    if match := re.fullmatch(
        r"The first picture shows (\w+) things? and the second (\w+)\.", claim
    ):
        return (NUMBERS[a], NUMBERS[b]) == match.groups()
    if match := re.fullmatch(r"Both pictures show (\w+) things?\.", claim):
        return NUMBERS[a] == NUMBERS[b] == match[1]
    if match := re.fullmatch(r"Both pictures show an? (.+)\.", claim):
        return shows(first, match[1]) and shows(second, match[1])
    if match := re.fullmatch(r"Only the (first|second) picture shows an? (.+)\.", claim):
        here, there = (first, second) if match[1] == "first" else (second, first)
        return shows(here, match[2]) and not shows(there, match[2])
    place = r"(?:in|on|at) the ([a-z ]+)"
    match = re.fullmatch(rf"The (\w+) is {place} first and then {place}\.", claim)
    assert match, claim
    for scene, where in ((first, match[2]), (second, match[3])):
        (thing,) = [thing for thing in scene.things if is_called(thing, match[1])]
        if region_of(thing, scene.side) != where:
            return False
    return match[2] != match[3]
