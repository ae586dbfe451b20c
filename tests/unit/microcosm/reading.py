"""Reads the microcosm's sentences back, knowing nothing of how they were written.

The tests' own grammar and their own idea of what is true of a scene; kept apart from the package
on purpose, so that a mistake there is not repeated here.
"""

import re

SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring"]
COLORS = ["black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red"]
COLORS += ["white", "yellow"]
SIZES = {"small": "small", "little": "small", "large": "large", "big": "large"}
TEXTURES = ["striped", "dotted", "checkered"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six"]
WHERE = r"(?: (?:in|on|at) the (?P<region>(?:top|bottom)?(?: ?(?:left|right))?|center))?"
RELATION = r"(?: (?P<relation>left of|right of|above|below) the (?P<anchor>.+))?"
EXPRESSION = re.compile(
    r"the (?:(?P<extreme>leftmost|rightmost|highest|lowest) )?(?P<noun>[a-z ]+?)"
    + WHERE
    + RELATION
    + "$"
)


def center(thing):
    return thing.x + thing.width / 2, thing.y + thing.height / 2


def is_called(thing, noun):
    """Whether a noun phrase without article fits a thing; shape words are for objects only."""
    *adjectives, head = noun.split()
    head = {"crosses": "cross"}.get(head, head)
    head = head[:-1] if head not in SHAPES and head[:-1] in [*SHAPES, "object"] else head
    if thing.kind or head not in [*SHAPES, "object"]:
        return not adjectives and head == thing.kind
    for word in adjectives:
        said = (
            SIZES.get(word) == thing.size if word in SIZES else word in (thing.color, thing.texture)
        )
        if not said:
            return False
    return head in ("object", thing.shape)


def stands(relation, a, b):
    (ax, ay), (bx, by) = center(a), center(b)
    return {
        "left of": ax < bx,
        "right of": ax > bx,
        "above": ay < by,
        "below": ay > by,
    }[relation]


def region_of(thing, side):
    x, y = (value / side for value in center(thing))
    row = "top" if y < 0.4 else "bottom" if y > 0.6 else ""
    column = "left" if x < 0.4 else "right" if x > 0.6 else ""
    return f"{row} {column}".strip() or "center"


def referents(expression, scene):
    """Indices of the things an expression fits."""
    match = EXPRESSION.fullmatch(expression)
    assert match, expression
    fit = [i for i, thing in enumerate(scene.things) if is_called(thing, match["noun"])]
    if match["region"]:
        fit = [i for i in fit if region_of(scene.things[i], scene.side) == match["region"]]
    if match["relation"]:
        anchors = referents(f"the {match['anchor']}", scene)
        assert len(anchors) == 1, expression
        anchor = scene.things[anchors[0]]
        fit = [i for i in fit if stands(match["relation"], scene.things[i], anchor)]
    if match["extreme"]:
        axis = 0 if match["extreme"] in ("leftmost", "rightmost") else 1
        pick = min if match["extreme"] in ("leftmost", "highest") else max
        best = pick(center(scene.things[i])[axis] for i in fit)
        fit = [i for i in fit if center(scene.things[i])[axis] == best]
    return fit


def without_objects(text):
    """The text with every mention of an object ("small red circle", "red objects") taken out."""
    adjectives = "|".join([*SIZES, *TEXTURES, *COLORS])
    nouns = "|".join([*SHAPES, "object"])
    return re.sub(rf"\b(?:(?:{adjectives}) )*(?:{nouns})(?:es|s)?\b", "THING", text)


def color_words(text):
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word in COLORS]
