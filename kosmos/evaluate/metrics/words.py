"""Which colors and things a caption speaks of, compared with those that are there.

A caption is right about colors if it names those of the objects and no others; the score is the
harmonic mean of both (F1). Things are compared likewise, and so are pairs: a color right before a
thing, at most two words between, as in ``red striped circle``.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from kosmos.evaluate.metrics.ptb import ptb_words
from kosmos.files import Json

MAX_GAP = 2


class Facts(NamedTuple):
    """Colors, things, and which thing has which color."""

    colors: frozenset[str]
    things: frozenset[str]
    pairs: frozenset[tuple[str, str]]


class Lexicon(NamedTuple):
    """The words that count as colors and things."""

    colors: frozenset[str]
    things: frozenset[str]


def facts_of(objects: Sequence[Mapping[str, Json]]) -> Facts:
    """What a caption should say of objects.

    Args:
        objects: ``{"name", "color", "kind"}``; the color of a thing with a kind is not said. The
            name defaults to ``shape``.
    """
    colors, things, pairs = set(), set(), set()
    for item in objects:
        name = str(item.get("name") or item.get("shape"))
        things.add(name)
        if not item.get("kind") and item.get("color"):
            colors.add(str(item["color"]))
            pairs.add((str(item["color"]), name))
    return Facts(frozenset(colors), frozenset(things), frozenset(pairs))


def lexicon_of(all_objects: Collection[Sequence[Mapping[str, Json]]]) -> Lexicon:
    """The colors and things of a whole set."""
    colors = {str(o["color"]) for objects in all_objects for o in objects if o.get("color")}
    things = {thing for objects in all_objects for thing in facts_of(objects).things}
    return Lexicon(frozenset(colors), frozenset(things))


def facts_said(caption: str, lexicon: Lexicon) -> Facts:
    """What a caption says, plurals taken for their singular."""
    words = [_singular(word, lexicon.things) for word in ptb_words(caption)]
    colors = frozenset(words) & lexicon.colors
    things = frozenset(words) & lexicon.things
    pairs = set()
    for index, word in enumerate(words):
        if word in lexicon.colors:
            # up to the next color: in "red and blue circles" red belongs to nothing said
            for other in words[index + 1 : index + 2 + MAX_GAP]:
                if other in lexicon.colors:
                    break
                if other in lexicon.things:
                    pairs.add((word, other))
                    break
    return Facts(colors, things, frozenset(pairs))


def f1(said: Collection[object], true: Collection[object]) -> float:
    """Harmonic mean of precision and recall; 1 where there is nothing to say and nothing said."""
    if not said and not true:
        return 1.0
    return 2.0 * len(set(said) & set(true)) / (len(said) + len(true))


def _singular(word: str, things: frozenset[str]) -> str:
    for ending in ("es", "s"):
        if word not in things and word.endswith(ending) and word.removesuffix(ending) in things:
            return word.removesuffix(ending)
    return word
