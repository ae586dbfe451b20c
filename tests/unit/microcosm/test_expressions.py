from collections import Counter

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.expressions import expressions, pick_expression
from kosmos.microcosm.world import sample_scene
from tests.unit.microcosm.reading import COLORS, SHAPES, referents

CONFIG = MicrocosmConfig()


def test_expressions_fit_one_thing_and_nothing_else():
    count = 0
    for number in range(250):
        scene = sample_scene(CONFIG, "expressions", number)
        for index in range(len(scene.things)):
            for expression in expressions(scene, index, CONFIG):
                count += 1
                assert referents(expression.text, scene) == [index], expression.text
                assert expression.thing == index
    assert count > 2000


def test_every_form_is_used_and_hardly_a_thing_has_none():
    forms = Counter()
    for number in range(600):
        scene = sample_scene(CONFIG, "forms", number)
        for index in range(len(scene.things)):
            expression = pick_expression(scene, index, CONFIG, Dice(0, "f", number, index))
            forms[expression.form if expression else "none"] += 1
    assert min(forms[form] for form in ("attributes", "region", "extreme", "relation")) > 80
    assert forms["none"] < 0.01 * sum(forms.values())


def test_what_is_asked_for_is_not_said():
    words = {"color": COLORS, "shape": SHAPES}
    for number in range(150):
        scene = sample_scene(CONFIG, "without", number)
        for attribute, forbidden in words.items():
            expression = pick_expression(
                scene, 0, CONFIG, Dice(0, "w", number), forms=("attributes",), without=attribute
            )
            if expression and not scene.things[0].kind:
                assert not set(expression.text.split()) & set(forbidden)
