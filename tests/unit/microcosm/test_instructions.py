import re
from collections import defaultdict

import pytest

from kosmos.boxes import Box
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.instructions import (
    comprehension_parts,
    generation_parts,
    triplet_parts,
    write_triplet,
)
from kosmos.microcosm.world import kinds
from kosmos.text.prompts import EXPRESSION_TEMPLATES
from tests.unit.microcosm.reading import (
    COLORS,
    NUMBERS,
    SHAPES,
    color_words,
    without_objects,
)

CONFIG = MicrocosmConfig()
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RELATED = re.compile(r"(an? [a-z ]+?) (left of|right of|above|below) (an? [a-z ]+)")


@pytest.fixture(scope="module")
def by_instruction():
    found = defaultdict(list)
    for index in range(4000):
        triplet = write_triplet(CONFIG, Dice(0, "i", index))
        found[triplet.instruction].append(triplet)
    return found


def test_instructions_are_varied(by_instruction):
    assert len(by_instruction) > 30
    everything = [triplet for triplets in by_instruction.values() for triplet in triplets]
    assert all(all(triplet) for triplet in everything)
    assert len(set(everything)) > 0.7 * len(everything)


def test_turning_round_keeps_the_meaning(by_instruction):
    for instruction in ("Say it the other way round.", "Turn the sentence round."):
        for triplet in by_instruction[instruction]:
            first, relation, second = RELATED.fullmatch(triplet.input).groups()
            assert triplet.output == f"{second} {OPPOSITE[relation]} {first}"


def test_named_words_are_those_of_the_input(by_instruction):
    for instruction, words in (("Name the colors.", COLORS), ("Name the shapes.", SHAPES)):
        for triplet in by_instruction[instruction]:
            there = [word for word in triplet.input.split() if word in words]
            assert triplet.output.split(" and ") == list(dict.fromkeys(there))


def test_which_one_is_answered_by_the_sentence(by_instruction):
    for instruction, triplets in by_instruction.items():
        match = re.fullmatch(r"Which one is (on the left|on the right|above|below)\?", instruction)
        if not match:
            continue
        asked = {"on the left": "left of", "on the right": "right of"}.get(match[1], match[1])
        for triplet in triplets:
            first, relation, second = re.fullmatch(
                r"The (.+) is (left of|right of|above|below) the (.+)\.", triplet.input
            ).groups()
            assert triplet.output == f"the {first if relation == asked else second}"


def test_sorting_counting_and_leaving_out(by_instruction):
    for triplet in by_instruction["Sort the words."]:
        assert triplet.output.split(", ") == sorted(triplet.input.split(", "))
    for triplet in by_instruction["Count the words."]:
        assert triplet.output == NUMBERS[len(triplet.input.split(", "))]
    for triplet in by_instruction["Leave out the colors and sizes."]:
        left = [w for w in triplet.input.split() if w not in (*COLORS, "small", "large", "a", "an")]
        assert [w for w in triplet.output.split() if w != "a"] == left


def test_reading_is_answered_yes_as_often_as_no(by_instruction):
    answers = []
    for triplet in by_instruction["Answer yes or no."]:
        went, asked = re.fullmatch(
            r"This \w+ went to (the \w+) and ate \w+\. Did it go to (the \w+)\?", triplet.input
        ).groups()
        assert triplet.output == ("yes" if went == asked else "no")
        answers.append(triplet.output)
    assert 0.3 < answers.count("yes") / len(answers) < 0.7


def test_no_instruction_tells_the_color_or_size_of_a_seen_kind(by_instruction):
    seen = {kind.name for kind in kinds(CONFIG) if kind.group == "seen"}
    for triplets in by_instruction.values():
        for triplet in triplets:
            text = " ".join(triplet)
            if seen & set(re.findall("[a-z]+", text)):
                assert not color_words(without_objects(text))
                assert "larger" not in text


def test_only_the_output_is_learned():
    triplet = write_triplet(CONFIG, Dice(0, "i", 0))
    asked, answer = triplet_parts(triplet)
    assert (asked.role, asked.loss) == ("user", False)
    assert (answer.role, answer.loss) == ("assistant", True)
    assert answer.text.strip() == triplet.output
    assert triplet.instruction in asked.text
    assert triplet.input in asked.text


@pytest.mark.parametrize("template", range(6))
def test_the_six_templates_ask_about_a_box_and_answer_with_the_expression(template):
    box = Box(0.25, 0.3, 0.55, 0.6)
    asked, answer = generation_parts("the red circle", box, template, 16)
    assert not asked.loss
    assert answer.loss
    # rows and columns of a grid of 16: (4, 4) and (9, 8)
    assert "<object><patch_index_0068><patch_index_0152></object>" in asked.text
    assert answer.text == EXPRESSION_TEMPLATES[template].answer("the red circle")


def test_comprehension_learns_the_location_tokens_alone():
    asked, answer = comprehension_parts("the red circle", Box(0.25, 0.3, 0.55, 0.6), 32)
    assert asked.text == "<grounding><phrase>the red circle</phrase>"
    assert not asked.loss
    assert answer.text == "<object><patch_index_0296><patch_index_0625></object>"
    assert answer.loss
