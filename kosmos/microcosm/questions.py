"""Questions about a scene with their one right answer.

Wherever the scene allows a choice the answer is drawn first and the question is looked for, so
that guessing without the picture gains little. Nothing is asked that two people could dispute:
things on the edge of a region, or relations of things nearly level. Animals are no objects and
are never counted as their shape or color; nothing is asked about them but name, place and number.
"""

from collections.abc import Callable
from typing import NamedTuple

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.expressions import pick_expression
from kosmos.microcosm.language import NUMBERS, plural, where_words, with_article
from kosmos.microcosm.world import (
    COLORS,
    OPPOSITE,
    REGIONS,
    RELATIONS,
    SHAPES,
    TEXTURES,
    Scene,
    clearly,
    pictured_kinds,
    region,
)

YES_NO = ("yes", "no")


class Question(NamedTuple):
    """A question, its answer and what else might have been answered."""

    text: str
    answer: str
    kind: str
    choices: tuple[str, ...]


def ask(scene: Scene, config: MicrocosmConfig, dice: Dice, *, kind: str = "") -> Question:
    """A question about a scene.

    Args:
        scene: What the picture shows.
        config: The world.
        dice: Chooses.
        kind: Ask this kind of question if the scene allows it; empty: any.
    """
    kinds = [kind] if kind else []
    # a scene with few answers to one kind of question always has one to a later kind; whether a
    # kind of thing is there can be asked of any scene
    for name in [*kinds, *dice.shuffled(_SPREAD), "exists"]:
        question = _ASKERS[name](scene, config, dice)
        if question is not None:
            return question
    raise AssertionError("whether a thing is there can be asked of every scene")


def _objects(scene: Scene) -> list[int]:
    return [index for index, thing in enumerate(scene.things) if not thing.kind]


def _ask_attribute(
    scene: Scene,
    config: MicrocosmConfig,
    dice: Dice,
    *,
    attribute: str,
    templates: tuple[str, ...],
    choices: tuple[str, ...],
) -> Question | None:
    """What color, shape, texture or size an object has, called by anything but that."""
    answers = {index: getattr(scene.things[index], attribute) for index in _objects(scene)}
    order = dice.shuffled(sorted(set(answers.values())))
    # the answer first: of two small things and a large one, the large one every second time
    for index in sorted(dice.shuffled(list(answers)), key=lambda i: order.index(answers[i])):
        said = pick_expression(
            scene, index, config, dice, forms=("attributes", "region", "extreme"), without=attribute
        )
        if said is not None:
            answer = answers[index]
            text = dice.pick(templates).format(said.text)
            return Question(text, answer, attribute, choices)
    return None


def _ask_color(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    return _ask_attribute(
        scene, config, dice,
        attribute="color", templates=config.wording.ask_color, choices=tuple(COLORS),
    )  # fmt: skip


def _ask_shape(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    return _ask_attribute(
        scene, config, dice,
        attribute="shape", templates=config.wording.ask_shape, choices=SHAPES,
    )  # fmt: skip


def _ask_texture(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    # most objects are plain: without this, "plain" would be right every second time
    plain = [index for index in _objects(scene) if scene.things[index].texture == "plain"]
    if len(plain) == len(_objects(scene)) and dice.chance(0.8):
        return None
    return _ask_attribute(
        scene, config, dice,
        attribute="texture", templates=config.wording.ask_texture, choices=TEXTURES,
    )  # fmt: skip


def _ask_size(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    # most objects are small: without this, "small" would be right two times in three
    large = any(scene.things[index].size == "large" for index in _objects(scene))
    if not large and dice.chance(0.5):
        return None
    return _ask_attribute(
        scene, config, dice,
        attribute="size", templates=config.wording.ask_size, choices=("small", "large"),
    )  # fmt: skip


def _ask_where(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    for index in dice.shuffled(range(len(scene.things))):
        answer = region(scene.box(index))
        said = pick_expression(scene, index, config, dice, forms=("attributes",))
        if answer is not None and said is not None:
            text = dice.pick(config.wording.ask_where).format(said.text)
            return Question(text, answer, "where", REGIONS)
    return None


def _ask_count(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    """How many; the number is drawn first among those that some question has."""
    objects = [thing for thing in scene.things if not thing.kind]
    by_count: dict[int, list[str]] = {}
    nouns = [("shape", shape, plural(shape)) for shape in SHAPES]
    nouns += [("color", color, f"{color} objects") for color in COLORS]
    for attribute, value, noun in nouns:
        number = sum(getattr(thing, attribute) == value for thing in objects)
        by_count.setdefault(number, []).append(noun)
    # several times, or they would drown among all the shapes and colors that are not there
    by_count.setdefault(len(objects), []).extend(["objects"] * 3)
    by_count.setdefault(len(scene.things) - len(objects), []).extend(["animals"] * 3)
    count = dice.pick(sorted(by_count))
    text = dice.pick(config.wording.ask_count).format(dice.pick(by_count[count]))
    return Question(text, NUMBERS[count], "count", NUMBERS[: config.max_objects + 1])


def _ask_exists(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question:
    """Whether something is there; what is not shares its color or shape with what is."""
    names = [kind.name for kind in pictured_kinds(config)]
    there = {thing.kind or (thing.color, thing.shape) for thing in scene.things}
    looks = {(thing.color, thing.shape) for thing in scene.things if not thing.kind}
    thing = dice.pick(scene.things)
    if dice.chance(0.5):
        what, answer = thing.kind or f"{thing.color} {thing.shape}", "yes"
    elif thing.kind:
        what, answer = dice.pick([name for name in names if name not in there]), "no"
    else:
        near = [(thing.color, shape) for shape in SHAPES]
        near += [(color, thing.shape) for color in COLORS]
        # half of each, although there are more colors than shapes
        near = near[: len(SHAPES)] if dice.chance(0.5) else near[len(SHAPES) :]
        what, answer = " ".join(dice.pick([look for look in near if look not in looks])), "no"
    text = dice.pick(config.wording.ask_exists).format(with_article(what))
    return Question(text, answer, "exists", YES_NO)


def _ask_relation(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    """Whether one thing stands so to another, never where they are nearly level."""
    things = dice.shuffled(range(len(scene.things)))
    pairs = [(a, b) for a in things for b in things if a != b]
    for a, b in pairs:
        first, second = (
            pick_expression(scene, i, config, dice, forms=("attributes",)) for i in (a, b)
        )
        true = [r for r in RELATIONS if clearly(r, scene.box(a), scene.box(b), config.clear_margin)]
        if first is None or second is None or not true:
            continue
        relation, answer = dice.pick(true), "yes"
        if dice.chance(0.5):
            relation, answer = OPPOSITE[relation], "no"
        text = dice.pick(config.wording.ask_relation).format(first.text, relation, second.text)
        return Question(text, answer, "relation", YES_NO)
    return None


def _ask_kind(scene: Scene, config: MicrocosmConfig, dice: Dice) -> Question | None:
    """The name of an animal, told from other animals by its place."""
    animals = [index for index, thing in enumerate(scene.things) if thing.kind]
    choices = tuple(kind.name for kind in pictured_kinds(config))
    for index in dice.shuffled(animals):
        where = region(scene.box(index))
        others = [region(scene.box(other)) for other in animals if other != index]
        if not others and dice.chance(0.5):
            place = "in the picture"
        elif where is not None and None not in others and where not in others:
            place = where_words(where)
        else:
            continue
        text = dice.pick(config.wording.ask_kind).format(place)
        return Question(text, scene.things[index].kind, "kind", choices)
    return None


_ASKERS: dict[str, Callable[[Scene, MicrocosmConfig, Dice], Question | None]] = {
    "color": _ask_color,
    "shape": _ask_shape,
    "count": _ask_count,
    "exists": _ask_exists,
    "where": _ask_where,
    "relation": _ask_relation,
    "kind": _ask_kind,
    "texture": _ask_texture,
    "size": _ask_size,
}
QUESTION_KINDS = tuple(_ASKERS)
# color, the papers' own question, is asked twice as often as the others; size and texture, which
# have few answers, half as often as those
_SPREAD = (
    *("color",) * 4,
    *("shape", "count", "exists", "where", "relation", "kind") * 2,
    "texture",
    "size",
)
