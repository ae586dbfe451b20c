"""Pages of several pictures with words between them that are about them.

- album: each picture with its caption, all after or all before their pictures
- quiz: each picture with a question and its answer, of one kind throughout
- comparison: two pictures, then what tells them apart and what they share
- naming: words that mean a shape on this page only, to be learned from the page itself
- story: words that lead from one picture to the next

Source: KOSMOS-1 (arXiv:2302.14045) section 3.1: interleaved documents of at most 5 images.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from kosmos.document.types import Text
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.language import NUMBERS, caption, plain_text, where_words, with_article
from kosmos.microcosm.questions import QUESTION_KINDS, ask
from kosmos.microcosm.world import SHAPES, Scene, region, sample_scene

PagePart: TypeAlias = Text | Scene
# words of pages only; no kind is called so
PAGE_NAMES = ("blap", "zib", "norf", "teg", "pomu", "krell", "fiddo", "swee")


def write_page(config: MicrocosmConfig, dice: Dice, *keys: str | int) -> list[PagePart]:
    """A page, with scenes where its pictures go.

    Args:
        config: The world.
        dice: Chooses.
        keys: Of the page; its scenes are drawn with them and their number.
    """
    count = dice.between(2, config.max_page_images)
    scenes = [sample_scene(config, *keys, number) for number in range(count)]
    sort = dice.uniform()
    if sort < 0.15 and count > 2:
        return _naming(config, dice, count, *keys)
    for limit, write in _SORTS:
        if sort < limit:
            return write(config, dice, scenes)
    return _story(config, dice, scenes)


def _album(config: MicrocosmConfig, dice: Dice, scenes: Sequence[Scene]) -> list[PagePart]:
    before = dice.chance(0.5)
    # one lead on the whole page, so that a caption announces what the next will look like
    lead = dice.pick(config.wording.captions)
    page: list[PagePart] = []
    for scene in scenes:
        said = plain_text(caption(scene, config, dice, bare=True)).removesuffix(".")
        words = lead.format(said) if lead != "{}." else f"{said[0].upper()}{said[1:]}."
        page += [Text(f"{words} "), scene] if before else [scene, Text(f"{words} ")]
    return page


def _quiz(config: MicrocosmConfig, dice: Dice, scenes: Sequence[Scene]) -> list[PagePart]:
    kind = dice.pick(QUESTION_KINDS)
    page: list[PagePart] = []
    for scene in scenes:
        question = ask(scene, config, dice, kind=kind)
        page += [scene, Text(f"Question: {question.text} Answer: {question.answer} ")]
    return page


def _story(config: MicrocosmConfig, dice: Dice, scenes: Sequence[Scene]) -> list[PagePart]:
    page: list[PagePart] = []
    for number, scene in enumerate(scenes):
        said = plain_text(caption(scene, config, dice, bare=True))
        opening = "First there was" if number == 0 else "Then came"
        if number and number == len(scenes) - 1:
            opening = "At last we saw"
        page += [Text(f"{opening} {said} "), scene]
    return page


def _comparison(config: MicrocosmConfig, dice: Dice, scenes: Sequence[Scene]) -> list[PagePart]:
    first, second = scenes[:2]
    claims = dice.sample(comparisons(first, second), dice.between(2, 3))
    return [first, second, Text(" ".join(claims))]


def comparisons(first: Scene, second: Scene) -> list[str]:
    """Everything our grammar says about two scenes side by side."""
    claims = []
    a, b = len(first.things), len(second.things)
    if a != b:
        more = "first" if a > b else "second"
        claims.append(f"There are more things in the {more} picture.")
        claims.append(
            f"The first picture shows {NUMBERS[a]} {_things(a)} and the second {NUMBERS[b]}."
        )
    else:
        claims.append(f"Both pictures show {NUMBERS[a]} {_things(a)}.")
    names = [_names(scene) for scene in (first, second)]
    claims += [f"Both pictures show {with_article(name)}." for name in sorted(names[0] & names[1])]
    for number, order in enumerate(("first", "second")):
        claims += [
            f"Only the {order} picture shows {with_article(name)}."
            for name in sorted(names[number] - names[1 - number])
        ]
    places = [_only_places(scene) for scene in (first, second)]
    for name in sorted(places[0].keys() & places[1].keys()):
        if places[0][name] != places[1][name]:
            there = [where_words(place[name]) for place in places]
            claims.append(f"The {name} is {there[0]} first and then {there[1]}.")
    return claims


def _things(count: int) -> str:
    return "thing" if count == 1 else "things"


def _names(scene: Scene) -> set[str]:
    """Kinds, and shapes and colored shapes of what is no animal."""
    names = {thing.kind for thing in scene.things if thing.kind}
    for thing in scene.things:
        if not thing.kind:
            names |= {thing.shape, f"{thing.color} {thing.shape}"}
    return names


def _only_places(scene: Scene) -> dict[str, str]:
    """Regions of the shapes and kinds that are there once."""
    nouns = [thing.kind or thing.shape for thing in scene.things]
    places = {}
    for index, noun in enumerate(nouns):
        where = region(scene.box(index))
        if nouns.count(noun) == 1 and where is not None:
            places[noun] = where
    return places


def _naming(config: MicrocosmConfig, dice: Dice, count: int, *keys: str | int) -> list[PagePart]:
    """Two new words for two shapes; every picture after the first two repeats one of them."""
    alone = replace(config, max_objects=1, kind_share=0.0)
    shapes, names = dice.sample(SHAPES, 2), dice.sample(PAGE_NAMES, 2)
    turns = dice.shuffled([0, 1]) + [dice.between(0, 1) for _ in range(max(0, count - 2))]
    page: list[PagePart] = []
    tried = 0
    for turn in turns:
        while True:
            scene = sample_scene(alone, *keys, "naming", tried)
            tried += 1
            if scene.things[0].shape == shapes[turn]:
                break
        page += [scene, Text(f"This is a {names[turn]}. ")]
    return page


_Write: TypeAlias = Callable[[MicrocosmConfig, Dice, Sequence[Scene]], list[PagePart]]
_SORTS: tuple[tuple[float, _Write], ...] = ((0.45, _album), (0.65, _quiz), (0.85, _comparison))
