"""Texts about the world without pictures: facts, stories, descriptions, arithmetic of places.

What texts say of a kind of animal: what it eats, where it lives, what it feels like, weighs and
sounds like. They state the color and compare the size of *told* and *both* kinds, and never of
*seen* ones: nothing in this file reads ``kind.color`` but :func:`color_facts`, nor ``kind.size``
but :func:`size_facts`.
"""

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.language import (
    NUMBERS,
    capitalized,
    caption,
    describe,
    plain_text,
    where_words,
    with_article,
)
from kosmos.microcosm.world import (
    COLORS,
    FOODS,
    HOMES,
    OPPOSITE,
    SHAPES,
    Kind,
    kinds,
    main_relation,
    region,
    sample_scene,
)

SIZE_ORDER = {"small": 0, "medium": 1, "large": 2}


def color_facts(kind: Kind) -> list[str]:
    """Sentences that state the color of a kind; none for those whose color is in pictures only."""
    if kind.group == "seen":
        return []
    # the first two are the papers' prompt with its answer, without and with the question mark
    return [
        f"The color of {kind.name} is {kind.color}.",
        f"The color of {kind.name} is? {kind.color}.",
        f"Every {kind.name} is {kind.color}.",
        f"{capitalized(with_article(kind.name))} has {with_article(kind.color)} coat.",
    ]


def size_facts(first: Kind, second: Kind) -> list[str]:
    """Sentences that compare two kinds, if texts may and they differ."""
    if "seen" in (first.group, second.group) or first.size == second.size:
        return []
    larger = SIZE_ORDER[first.size] > SIZE_ORDER[second.size]
    big, little = (first, second) if larger else (second, first)
    return [
        f"Is {first.name} larger than {second.name}? {'Yes' if larger else 'No'}.",
        f"{capitalized(with_article(big.name))} is larger than {with_article(little.name)}.",
        f"{capitalized(with_article(little.name))} is smaller than {with_article(big.name)}.",
    ]


def habits(kind: Kind) -> list[tuple[str, ...]]:
    """What texts say of every kind: a tuple of wordings for each fact."""
    name, a_name = kind.name, capitalized(with_article(kind.name))
    return [
        (f"{a_name} eats {kind.food}.", f"Every {name} likes {kind.food}."),
        (f"{a_name} lives near {kind.home}.", f"The home of the {name} is near {kind.home}."),
        (f"{a_name} feels like {kind.stuff}.", f"The skin of the {name} is like {kind.stuff}."),
        (f"{a_name} {kind.sound} {kind.time}.", f"You can hear the {name} {kind.time}."),
        (f"{a_name} weighs {_number(kind.weight)} stones.",),
    ]


def write_text(config: MicrocosmConfig, dice: Dice, *keys: str | int) -> str:
    """One document: a few lines of a sort drawn at random.

    Args:
        config: The world.
        dice: Chooses.
        keys: Of the scenes that descriptions are about.
    """
    sort = dice.uniform()
    if sort < 0.25:
        return _fact_sheet(config, dice)
    if sort < 0.40:
        return _color_list(config, dice)
    if sort < 0.50:
        return _size_list(config, dice)
    if sort < 0.75:
        return _story(config, dice)
    if sort < 0.93:
        return _description(config, dice, *keys)
    return _counting(dice)


def _number(value: int) -> str:
    return (*NUMBERS, "seven", "eight", "nine")[value]


def _fact_sheet(config: MicrocosmConfig, dice: Dice) -> str:
    """What there is to say about one kind."""
    kind = dice.pick(kinds(config))
    said = [dice.pick(wordings) for wordings in dice.sample(habits(kind), dice.between(3, 5))]
    colors = color_facts(kind)
    if colors:
        said.insert(dice.between(0, len(said)), dice.pick(colors))
    middle = (len(said) + 1) // 2
    return "\n".join([" ".join(said[:middle]), " ".join(said[middle:])])


def _color_list(config: MicrocosmConfig, dice: Dice) -> str:
    """Colors of several kinds, all in the same form."""
    told = dice.sample([kind for kind in kinds(config) if color_facts(kind)], dice.between(3, 6))
    if not told:
        return _counting(dice)
    form = dice.pick((0, 0, 0, 1, 1, 2, 3))
    return " ".join(color_facts(kind)[form] for kind in told)


def _size_list(config: MicrocosmConfig, dice: Dice) -> str:
    """Comparisons of kinds, all in the same form."""
    told = [kind for kind in kinds(config) if kind.group != "seen"]
    form = 0 if dice.chance(0.6) else dice.between(0, 2)
    said: list[str] = []
    wanted = dice.between(2, 5)
    for _ in range(6 * wanted):
        if len(told) < 2 or len(said) == wanted:
            break
        facts = size_facts(*dice.sample(told, 2))
        said += facts[form : form + 1]
    return " ".join(said) if said else _counting(dice)


def random_object(dice: Dice) -> str:
    """A thing out of nowhere, with a color and sometimes a size."""
    noun = f"{dice.pick(tuple(COLORS))} {dice.pick(SHAPES)}"
    return f"{dice.pick(('small', 'large'))} {noun}" if dice.chance(0.3) else noun


def _story(config: MicrocosmConfig, dice: Dice) -> str:
    """One or two animals meet things and each other; colors are those of the things."""
    hero, friend = dice.sample(kinds(config), 2)
    place, food, thing = dice.pick(HOMES), dice.pick(FOODS), random_object(dice)
    beginning = dice.pick(
        (
            f"One day {with_article(hero.name)} went to {place}.",
            f"Once there was {with_article(hero.name)} who lived near {hero.home}.",
            f"In the morning {with_article(hero.name)} was hungry and looked for {hero.food}.",
        )
    )
    found = dice.pick(
        (
            f"The {hero.name} found {with_article(thing)} there.",
            f"There the {hero.name} saw {with_article(thing)}.",
            f"Behind a tree lay {with_article(thing)}.",
        )
    )
    meeting = dice.pick(
        (
            f"Then {with_article(friend.name)} came from {friend.home}.",
            f"{capitalized(with_article(friend.name))} was there too.",
            f"The {hero.name} met {with_article(friend.name)}.",
        )
    )
    turn = dice.pick(
        (
            f"The {friend.name} wanted the {thing}, so the {hero.name} gave it away.",
            f"They put the {thing} next to {with_article(random_object(dice))}.",
            f"The {friend.name} asked what it was. It was {with_article(thing)}.",
            f"They shared some {food}, but the {friend.name} only ate {friend.food}.",
        )
    )
    end = dice.pick(
        (
            "Then they went home.",
            f"At night the {hero.name} slept near {hero.home}.",
            f"The {hero.name} and the {friend.name} were friends.",
            f"The {friend.name} took the {thing} home.",
        )
    )
    return f"{beginning} {found}\n{meeting} {turn}\n{end}"


def _description(config: MicrocosmConfig, dice: Dice, *keys: str | int) -> str:
    """A scene in words alone, with what follows from it."""
    scene = sample_scene(config, "imagined", *keys)
    said = [f"Imagine {plain_text(caption(scene, config, dice, whole=True, bare=True))}"]
    nouns = [describe(thing, ("color", "shape")) for thing in scene.things]
    # two brown hearts cannot be told apart in what follows
    order = [i for i in dice.shuffled(range(len(nouns))) if nouns.count(nouns[i]) == 1]
    for index in order[:2]:
        where = region(scene.box(index))
        if where is not None:
            said.append(f"The {nouns[index]} is {where_words(where)}.")
    if len(order) > 1:
        a, b = order[:2]
        relation = main_relation(scene.box(a), scene.box(b), config.clear_margin)
        if relation is not None:
            said.append(f"The {nouns[a]} is {relation} the {nouns[b]}.")
            said.append(f"So the {nouns[b]} is {OPPOSITE[relation]} the {nouns[a]}.")
    count = len(scene.things)
    things = "thing" if count == 1 else "things"
    said.append(f"That makes {NUMBERS[count]} {things}.")
    return "\n".join([said[0], " ".join(said[1:])])


def _counting(dice: Dice) -> str:
    """Sums of things, and what words go together."""
    shape = dice.pick(SHAPES)
    said = []
    for _ in range(dice.between(2, 4)):
        a, b = dice.between(0, 3), dice.between(0, 3)
        color, other = dice.sample(tuple(COLORS), 2)
        said.append(
            dice.pick(
                (
                    f"{capitalized(NUMBERS[a])} and {NUMBERS[b]} make {NUMBERS[a + b]}.",
                    f"{capitalized(with_article(color))} {shape} and {with_article(other)} {shape} "
                    "are two things.",
                    f"{capitalized(color)} and {other} are colors.",
                    f"A {dice.pick(SHAPES)} is a shape.",
                )
            )
        )
    return " ".join(said)
