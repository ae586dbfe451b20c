"""Words about scenes: noun phrases and captions, as plain text or linked to boxes.

- :func:`describe`, :func:`with_article`, :func:`plural`: noun phrases
- :func:`caption`, :func:`detailed`: sentences as segments, of which some are phrases of things
- :func:`references`: what a caption might have said
- :func:`plain_text`, :func:`grounded_parts`: segments as words, or as parts of a document

An animal is only ever called by the name of its kind; its color, shape and size are never said.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from kosmos.document.types import Grounded, Text
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.world import Scene, Thing, main_relation, region
from kosmos.text.prompts import GROUNDED_DETAIL
from kosmos.text.vocabulary import GROUNDING

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
STYLE_WORDS = {
    "plain": "plain",
    "gradient": "shaded",
    "noise": "grainy",
    "grid": "squared",
    "lines": "lined",
}


class Phrase(NamedTuple):
    """Words that stand for things of a scene."""

    text: str
    things: tuple[int, ...]


class Detail(NamedTuple):
    """What is said of an object beside its color and shape."""

    size: bool = False
    texture: bool = False


Segment: TypeAlias = str | Phrase


def describe(thing: Thing, attributes: Iterable[str], size_word: str = "") -> str:
    """A noun with what is said of it, without an article: ``small striped red circle``.

    Args:
        thing: The thing.
        attributes: Of ``size texture color shape``; without shape it is an ``object``. Animals
            are called by their kind whatever is asked for.
        size_word: Another word for the size.
    """
    if thing.kind:
        return thing.kind
    words = {
        "size": size_word or thing.size,
        "texture": thing.texture if thing.texture != "plain" else "",
        "color": thing.color,
        "shape": thing.shape,
    }
    chosen = set(attributes)
    said = [word for name, word in words.items() if name in chosen and word]
    return " ".join(said if "shape" in chosen else [*said, "object"])


def with_article(noun: str) -> str:
    """``a red circle``, ``an orange circle``."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def plural(noun: str) -> str:
    """``red circles``, ``red crosses``; names of kinds stay as they are, like ``fish``."""
    last = noun.rpartition(" ")[2]
    if last.endswith("cross"):
        return f"{noun}es"
    return f"{noun}s"


def where_words(name: str) -> str:
    """A region with its preposition: ``in the top left``, ``on the right``, ``at the top``."""
    preposition = {"left": "on", "right": "on", "top": "at", "bottom": "at"}.get(name, "in")
    return f"{preposition} the {name}"


def capitalized(text: str) -> str:
    """With a capital at the start, the rest as it is."""
    return text[:1].upper() + text[1:]


def listed(items: Sequence[Sequence[Segment]]) -> list[Segment]:
    """Items with commas, and ``and`` before the last."""
    said: list[Segment] = []
    for number, item in enumerate(items):
        if number:
            said.append(" and " if number == len(items) - 1 else ", ")
        said += item
    return said


def caption(
    scene: Scene, config: MicrocosmConfig, dice: Dice, *, whole: bool = False, bare: bool = False
) -> list[Segment]:
    """A sentence that says what is in a scene.

    Args:
        scene: What the picture shows.
        config: The world, for its wording.
        dice: Chooses the form.
        whole: Mention every thing; otherwise some are left out now and then.
        bare: Only what is mentioned, as it would go on after "An image of".
    """
    mentioned = scene.reading_order
    if len(mentioned) > 1 and not whole and dice.chance(0.25):
        start = dice.between(0, len(mentioned) - 1)
        end = dice.between(start + 1, len(mentioned))
        mentioned = mentioned[start:end]
    detail = Detail(size=dice.chance(0.4), texture=dice.chance(0.6))
    nouns = _nouns(scene, mentioned, detail, config, dice)
    body = _body(scene, mentioned, nouns, config, dice)
    if dice.chance(0.1):
        style = STYLE_WORDS[scene.background.style]
        body += [f" on {with_article(style)} background"]
    before, _, after = ("", "", ".") if bare else dice.pick(config.wording.captions).partition("{}")
    if not before and not bare:
        first = body[0]
        body[0] = (
            Phrase(capitalized(first.text), first.things)
            if isinstance(first, Phrase)
            else capitalized(first)
        )
    return [*([before] if before else []), *body, after]


def detailed(scene: Scene) -> list[Segment]:
    """Everything there is, each thing in a sentence with all that can be said of it.

    Begins with the papers' prompt for a long caption, which a model then knows how to answer.
    """
    said: list[Segment] = [GROUNDED_DETAIL.removeprefix(GROUNDING)]
    for index in scene.reading_order:
        noun = with_article(describe(scene.things[index], ("size", "texture", "color", "shape")))
        where = region(scene.box(index))
        if where is None:
            said += [" There is ", Phrase(noun, (index,)), "."]
        else:
            said += [" ", Phrase(capitalized(noun), (index,)), f" is {where_words(where)}."]
    return said


def references(scene: Scene, config: MicrocosmConfig, dice: Dice, count: int = 5) -> list[str]:
    """Different ways to go on after "An image of", each mentioning everything."""
    said: list[str] = []
    for _ in range(8 * count):
        text = plain_text(caption(scene, config, dice, whole=True, bare=True))
        if text not in said and "background" not in text:
            said.append(text)
        if len(said) == count:
            break
    return said


def plain_text(segments: Sequence[Segment]) -> str:
    """The words alone."""
    return "".join(s.text if isinstance(s, Phrase) else s for s in segments)


def grounded_parts(segments: Sequence[Segment], scene: Scene) -> list[Text | Grounded]:
    """The words as parts of a document, phrases with the boxes of their things."""
    parts: list[Text | Grounded] = []
    for segment in segments:
        if isinstance(segment, Phrase):
            boxes = [scene.box(index) for index in segment.things]
            parts.append(Grounded(segment.text, boxes))
        else:
            parts.append(Text(segment))
    return parts


def _nouns(
    scene: Scene, mentioned: Sequence[int], detail: Detail, config: MicrocosmConfig, dice: Dice
) -> dict[int, str]:
    attributes = ["color", "shape"]
    attributes += ["size"] * detail.size + ["texture"] * detail.texture
    sizes = {"small": dice.pick(config.wording.small), "large": dice.pick(config.wording.large)}
    return {
        index: describe(scene.things[index], attributes, sizes.get(scene.things[index].size, ""))
        for index in mentioned
    }


def _body(
    scene: Scene,
    mentioned: list[int],
    nouns: dict[int, str],
    config: MicrocosmConfig,
    dice: Dice,
) -> list[Segment]:
    """What is mentioned: in a row, by a relation, or by regions."""
    form = dice.uniform()
    if form < 0.35 and len(mentioned) > 1:
        related = _related(scene, mentioned, nouns, config, dice)
        if related is not None:
            return related
    if 0.35 <= form < 0.55:
        return listed([_placed(scene, index, nouns[index]) for index in mentioned])
    groups: dict[str, list[int]] = {}
    for index in mentioned:
        groups.setdefault(nouns[index], []).append(index)
    return listed([[_group(noun, members, scene)] for noun, members in groups.items()])


def _group(noun: str, members: list[int], scene: Scene) -> Phrase:
    if len(members) == 1:
        return Phrase(with_article(noun), tuple(members))
    many = noun if scene.things[members[0]].kind else plural(noun)
    return Phrase(f"{NUMBERS[len(members)]} {many}", tuple(members))


def _placed(scene: Scene, index: int, noun: str) -> list[Segment]:
    where = region(scene.box(index))
    phrase = Phrase(with_article(noun), (index,))
    return [phrase] if where is None else [phrase, f" {where_words(where)}"]


def _related(
    scene: Scene,
    mentioned: list[int],
    nouns: dict[int, str],
    config: MicrocosmConfig,
    dice: Dice,
) -> list[Segment] | None:
    """Two things in relation, the others after them; None if no two clearly stand apart."""
    pairs = [(a, b) for a in mentioned for b in mentioned if a != b]
    first, second = dice.pick(pairs)
    relation = main_relation(scene.box(first), scene.box(second), config.clear_margin)
    if relation is None:
        return None
    a, b = (Phrase(with_article(nouns[i]), (i,)) for i in (first, second))
    rest = [[Phrase(with_article(nouns[i]), (i,))] for i in mentioned if i not in (first, second)]
    said: list[Segment] = [a, f" {relation} ", b]
    return [*said, ", and ", *listed(rest)] if rest else said
