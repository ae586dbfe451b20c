import re
from collections import Counter, defaultdict

import pytest

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.questions import QUESTION_KINDS, ask
from kosmos.microcosm.world import kinds, sample_scene
from tests.unit.microcosm.reading import (
    NUMBERS,
    color_words,
    is_called,
    referents,
    region_of,
    stands,
    without_objects,
)

CONFIG = MicrocosmConfig()


@pytest.fixture(scope="module")
def asked():
    scenes = [sample_scene(CONFIG, "questions", index) for index in range(4000)]
    return [(scene, ask(scene, CONFIG, Dice(0, "q", i))) for i, scene in enumerate(scenes)]


def right_answer(text, scene):
    """The answer to a question, worked out from its words and the scene alone."""
    things = scene.things
    forms = {
        r"What color is (the .+)\?|What is the color of (the .+)\?": "color",
        r"What shape is (the .+)\?|What is the shape of (the .+)\?": "shape",
        r"What size is (the .+)\?|Is (the .+) small or large\?": "size",
        r"What pattern does (the .+) have\?": "texture",
    }
    for form, attribute in forms.items():
        if match := re.fullmatch(form, text):
            (index,) = referents(next(filter(None, match.groups())), scene)
            return getattr(things[index], attribute)
    if match := re.fullmatch(r"Where is (the .+)\?", text):
        (index,) = referents(match[1], scene)
        return region_of(things[index], scene.side)
    if match := re.fullmatch(r"How many ([a-z ]+) (?:are there|can you see)\?", text):
        if match[1] == "animals":
            return NUMBERS[sum(thing.kind != "" for thing in things)]
        return NUMBERS[sum(is_called(thing, match[1]) for thing in things)]
    if match := re.fullmatch(r"Is there an? ([a-z ]+?)(?: in the picture)?\?", text):
        return "yes" if any(is_called(thing, match[1]) for thing in things) else "no"
    if match := re.fullmatch(r"Is (the .+) (left of|right of|above|below) (the .+)\?", text):
        (a,), (b,) = referents(match[1], scene), referents(match[3], scene)
        return "yes" if stands(match[2], things[a], things[b]) else "no"
    if match := re.fullmatch(r"What animal is (?:in|on|at) the ([a-z ]+)\?", text):
        animals = [thing for thing in things if thing.kind]
        if match[1] != "picture":
            animals = [thing for thing in animals if region_of(thing, scene.side) == match[1]]
        (animal,) = animals
        return animal.kind
    raise AssertionError(text)


def test_answers_are_true_by_an_independent_reading_of_the_question(asked):
    for scene, question in asked:
        assert question.answer == right_answer(question.text, scene), question.text
        assert question.answer in question.choices


def test_every_kind_of_question_is_asked(asked):
    counts = Counter(question.kind for _, question in asked)
    assert set(counts) == set(QUESTION_KINDS)
    assert min(counts.values()) > 0.03 * len(asked)


def test_guessing_without_the_picture_is_right_seldom(asked):
    answers = defaultdict(Counter)
    for _, question in asked:
        answers[question.kind][question.answer] += 1
    best = {kind: max(c.values()) / c.total() for kind, c in answers.items()}
    assert best["color"] < 0.13
    assert best["shape"] < 0.18
    assert best["where"] < 0.22
    assert best["kind"] < 0.08
    assert max(best[kind] for kind in ("exists", "relation", "size", "count", "texture")) < 0.58
    overall = sum(max(c.values()) for c in answers.values()) / len(asked)
    # measured: 0.29
    assert overall < 0.33


def test_guessing_from_the_words_of_the_question_gains_little(asked):
    answers = defaultdict(Counter)
    for _, question in asked:
        answers[question.text][question.answer] += 1
    # leave-one-out: what the same question was answered with most often elsewhere
    right = total = 0
    for counts in answers.values():
        for answer, number in counts.items():
            others = counts - Counter({answer: 1})
            if others:
                total += number
                right += number * (others.most_common(1)[0][0] == answer)
    assert right / total < 0.5


def test_a_kind_that_is_asked_for_is_asked_where_the_scene_allows_it(asked):
    wanted = Counter()
    for index, (scene, _) in enumerate(asked[:200]):
        wanted[ask(scene, CONFIG, Dice(1, "k", index), kind="where").kind == "where"] += 1
    assert wanted[True] > 150


def test_no_question_tells_the_color_of_an_animal(asked):
    names = {kind.name for kind in kinds(CONFIG)}
    for _, question in asked:
        whole = without_objects(f"{question.text} {question.answer}.")
        if names & set(re.findall("[a-z]+", whole)):
            assert not color_words(whole)
