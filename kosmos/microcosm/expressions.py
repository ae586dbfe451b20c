"""Referring expressions: words that fit one thing of a scene and nothing else in it.

An expression is kept only if every rival *clearly* fails it: one that lies on the edge of a
region, or beside an anchor by less than the margin, still counts as a rival. Rivals of an object
are objects and rivals of an animal are animals: animals are never called objects.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.language import describe, where_words
from kosmos.microcosm.world import RELATIONS, Scene, Thing, clearly, region

ATTRIBUTES = ("size", "texture", "color", "shape")
BASES: tuple[tuple[str, ...], ...] = (
    ("color", "shape"),
    ("shape",),
    ("size", "shape"),
    ("texture", "shape"),
    ("size", "color", "shape"),
    ("texture", "color", "shape"),
    ("color",),
)
EXTREMES = {
    "leftmost": "left of",
    "rightmost": "right of",
    "highest": "above",
    "lowest": "below",
}


class Expression(NamedTuple):
    """Words for one thing, with ``the``."""

    text: str
    form: str
    """attributes, region, extreme or relation."""
    attributes: tuple[str, ...]
    """What of the thing is said; ``("kind",)`` for animals."""
    thing: int


def expressions(scene: Scene, index: int, config: MicrocosmConfig) -> list[Expression]:
    """Every expression of our grammar that fits a thing of the scene and no other."""
    found: list[Expression] = []
    thing = scene.things[index]
    for base in _bases(thing):
        noun = describe(thing, base)
        rivals = [
            other
            for other in range(len(scene.things))
            if other != index and may_be_called(scene.things[other], thing, base)
        ]
        if not rivals:
            found.append(Expression(f"the {noun}", "attributes", base, index))
        found += _by_place(scene, index, noun, base, rivals, config)
    return found


def pick_expression(
    scene: Scene,
    index: int,
    config: MicrocosmConfig,
    dice: Dice,
    *,
    forms: Iterable[str] = ("attributes", "region", "extreme", "relation"),
    without: str = "",
) -> Expression | None:
    """One of a thing's expressions, every available form as likely as another.

    Args:
        scene: The scene.
        index: The thing.
        config: The world.
        dice: Chooses.
        forms: Which forms may be chosen.
        without: An attribute that must not be said.

    Returns:
        An expression, or None if the thing has none of that sort.
    """
    allowed = set(forms)
    fit = [
        expression
        for expression in expressions(scene, index, config)
        if expression.form in allowed and without not in expression.attributes
    ]
    if not fit:
        return None
    form = dice.pick(sorted({expression.form for expression in fit}))
    return dice.pick([expression for expression in fit if expression.form == form])


def may_be_called(other: Thing, thing: Thing, attributes: Iterable[str]) -> bool:
    """Whether words that say these attributes of a thing might be taken for another one."""
    if thing.kind or other.kind:
        return other.kind == thing.kind
    return all(getattr(other, name) == getattr(thing, name) for name in attributes)


def _bases(thing: Thing) -> list[tuple[str, ...]]:
    if thing.kind:
        return [("kind",)]
    return [base for base in BASES if "texture" not in base or thing.texture != "plain"]


def _by_place(
    scene: Scene,
    index: int,
    noun: str,
    base: tuple[str, ...],
    rivals: list[int],
    config: MicrocosmConfig,
) -> list[Expression]:
    """Expressions that tell a thing from its rivals by where it is."""
    found = []
    box = scene.box(index)
    where = region(box)
    others = [scene.box(rival) for rival in rivals]
    if where is not None and all(region(other) not in (None, where) for other in others):
        found.append(Expression(f"the {noun} {where_words(where)}", "region", base, index))
    for word, relation in EXTREMES.items():
        if others and all(clearly(relation, box, other, config.clear_margin) for other in others):
            found.append(Expression(f"the {word} {noun}", "extreme", base, index))
    for anchor, anchor_noun in _anchors(scene, index):
        place = scene.box(anchor)
        apart = [other for rival, other in zip(rivals, others, strict=True) if rival != anchor]
        for relation in RELATIONS:
            if clearly(relation, box, place, config.clear_margin) and not any(
                clearly(relation, other, place, -config.clear_margin) for other in apart
            ):
                text = f"the {noun} {relation} the {anchor_noun}"
                found.append(Expression(text, "relation", base, index))
    return found


def _anchors(scene: Scene, index: int) -> list[tuple[int, str]]:
    """Other things that their kind, or color and shape, already tells from all the rest."""
    anchors = []
    for anchor, thing in enumerate(scene.things):
        if anchor == index:
            continue
        base = ("color", "shape")
        alone = not any(
            may_be_called(other, thing, base)
            for number, other in enumerate(scene.things)
            if number != anchor
        )
        if alone:
            anchors.append((anchor, describe(thing, base)))
    return anchors
