"""Language-only instructions, and instructions about an expression and a box.

- :func:`write_triplet`: instruction, input, output, as Unnatural Instructions has them
- :func:`generation_parts`, :func:`comprehension_parts`: KOSMOS-2's six templates, and their inverse

Source: KOSMOS-1 (arXiv:2302.14045) section 3.3, KOSMOS-2 (arXiv:2306.14824) Table 9.
"""

from collections.abc import Callable
from typing import NamedTuple

from kosmos.boxes import Box
from kosmos.document.types import Text
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.language import NUMBERS, with_article
from kosmos.microcosm.prose import SIZE_ORDER, random_object
from kosmos.microcosm.world import COLORS, FOODS, HOMES, OPPOSITE, SHAPES, kinds
from kosmos.text import prompts
from kosmos.text.locations import box_to_locations


class Triplet(NamedTuple):
    """What to do, with what, and what comes out."""

    instruction: str
    input: str
    output: str


def write_triplet(config: MicrocosmConfig, dice: Dice) -> Triplet:
    """An instruction of a sort drawn at random."""
    return dice.pick(_TASKS)(config, dice)


def triplet_parts(triplet: Triplet) -> list[Text]:
    """The parts of a document that teaches to answer, and not to instruct."""
    asked = f"{triplet.instruction} {triplet.input}".strip()
    return [Text(asked, role="user", loss=False), Text(f" {triplet.output}", role="assistant")]


def generation_parts(expression: str, box: Box, template: int, num_cells: int) -> list[Text]:
    """Given a box, say what it is: one of the papers' six templates, answered with an expression.

    Args:
        expression: The words, with ``the``.
        box: Where it is.
        template: Which of :data:`kosmos.text.prompts.EXPRESSION_TEMPLATES`.
        num_cells: Cells along each side of the grid of the model that will read it.
    """
    form = prompts.EXPRESSION_TEMPLATES[template]
    asked = form.prompt([box_to_locations(box, num_cells)])
    return [
        Text(asked, role="user", loss=False),
        Text(form.answer(expression), role="assistant"),
    ]


def comprehension_parts(expression: str, box: Box, num_cells: int) -> list[Text]:
    """Given an expression, say where it is; the location tokens alone are learned.

    Args:
        expression: The words.
        box: Where it is.
        num_cells: Cells along each side of the grid of the model that will read it.
    """
    return [
        Text(prompts.phrase(expression), role="user", loss=False),
        Text(prompts.box([box_to_locations(box, num_cells)]), role="assistant"),
    ]


# --- the tasks


def _sentence(dice: Dice) -> tuple[str, str, str]:
    """Two different things and how the first stands to the second."""
    first, second = random_object(dice), random_object(dice)
    while second == first:
        second = random_object(dice)
    return first, dice.pick(tuple(OPPOSITE)), second


def _habit(config: MicrocosmConfig, dice: Dice) -> Triplet:
    kind = dice.pick(kinds(config))
    a_kind = with_article(kind.name)
    asked, answer = dice.pick(
        (
            (f"What does {a_kind} eat?", kind.food),
            (f"Where does {a_kind} live?", f"near {kind.home}"),
            (f"What does {a_kind} feel like?", kind.stuff),
            (f"When can you hear {a_kind}?", kind.time),
        )
    )
    return Triplet(dice.pick(("Answer the question.", "Answer shortly.")), asked, answer)


def _told_look(config: MicrocosmConfig, dice: Dice) -> Triplet:
    """Color and size of kinds whose looks texts may state."""
    told = [kind for kind in kinds(config) if kind.group != "seen"]
    if not told:
        return _habit(config, dice)
    first, second = dice.pick(told), dice.pick(told)
    if first.size == second.size or dice.chance(0.5):
        asked, answer = f"What color is {with_article(first.name)}?", first.color
    else:
        asked = f"Is {first.name} larger than {second.name}?"
        answer = "Yes" if SIZE_ORDER[first.size] > SIZE_ORDER[second.size] else "No"
    return Triplet(dice.pick(("Answer the question.", "Answer with one word.")), asked, answer)


def _name_colors(config: MicrocosmConfig, dice: Dice) -> Triplet:
    first, relation, second = _sentence(dice)
    colors = [word for word in f"{first} {second}".split() if word in COLORS]
    instruction = dice.pick(("Name the colors.", "Which colors does the text name?"))
    text = f"{with_article(first)} {relation} {with_article(second)}"
    return Triplet(instruction, text, " and ".join(dict.fromkeys(colors)))


def _name_shapes(config: MicrocosmConfig, dice: Dice) -> Triplet:
    first, relation, second = _sentence(dice)
    shapes = [word for word in f"{first} {second}".split() if word in SHAPES]
    instruction = dice.pick(("Name the shapes.", "Which shapes does the text name?"))
    text = f"{with_article(first)} {relation} {with_article(second)}"
    return Triplet(instruction, text, " and ".join(dict.fromkeys(shapes)))


def _turn_round(config: MicrocosmConfig, dice: Dice) -> Triplet:
    first, relation, second = _sentence(dice)
    instruction = dice.pick(("Say it the other way round.", "Turn the sentence round."))
    return Triplet(
        instruction,
        f"{with_article(first)} {relation} {with_article(second)}",
        f"{with_article(second)} {OPPOSITE[relation]} {with_article(first)}",
    )


def _which(config: MicrocosmConfig, dice: Dice) -> Triplet:
    first, relation, second = _sentence(dice)
    asked = dice.pick((relation, OPPOSITE[relation]))
    side = {"left of": "on the left", "right of": "on the right"}.get(asked, asked)
    return Triplet(
        f"Which one is {side}?",
        f"The {first} is {relation} the {second}.",
        f"the {first if asked == relation else second}",
    )


def _leave_out(config: MicrocosmConfig, dice: Dice) -> Triplet:
    first, relation, second = _sentence(dice)
    bare = [noun.rpartition(" ")[2] for noun in (first, second)]
    return Triplet(
        dice.pick(("Leave out the colors and sizes.", "Name only the shapes and their places.")),
        f"{with_article(first)} {relation} {with_article(second)}",
        f"{with_article(bare[0])} {relation} {with_article(bare[1])}",
    )


def _replace(config: MicrocosmConfig, dice: Dice) -> Triplet:
    color, new = dice.sample(tuple(COLORS), 2)
    shape, other = dice.sample(SHAPES, 2)
    return Triplet(
        f"Change {color} to {new}.",
        f"{with_article(color)} {shape} and {with_article(color)} {other}",
        f"{with_article(new)} {shape} and {with_article(new)} {other}",
    )


def _sort(config: MicrocosmConfig, dice: Dice) -> Triplet:
    words = dice.sample((*COLORS, *SHAPES), dice.between(2, 4))
    instruction = dice.pick(("Put the words in alphabetical order.", "Sort the words."))
    return Triplet(instruction, ", ".join(words), ", ".join(sorted(words)))


def _count_words(config: MicrocosmConfig, dice: Dice) -> Triplet:
    words = [dice.pick((*COLORS, *SHAPES)) for _ in range(dice.between(1, 6))]
    instruction = dice.pick(("Count the words.", "How many words are there?"))
    return Triplet(instruction, ", ".join(words), NUMBERS[len(words)])


def _repeat(config: MicrocosmConfig, dice: Dice) -> Triplet:
    noun, times = random_object(dice), dice.between(2, 3)
    return Triplet(f"Say it {NUMBERS[times]} times.", noun, ", ".join([noun] * times))


def _read(config: MicrocosmConfig, dice: Dice) -> Triplet:
    """A claim against a text that says otherwise or the same."""
    kind, place, food = dice.pick(kinds(config)).name, dice.pick(HOMES), dice.pick(FOODS)
    true = dice.chance(0.5)
    asked = place if true else dice.pick([home for home in HOMES if home != place])
    return Triplet(
        dice.pick(("Answer yes or no.", "Read and answer yes or no.")),
        f"This {kind} went to {place} and ate {food}. Did it go to {asked}?",
        "yes" if true else "no",
    )


_TASKS: tuple[Callable[[MicrocosmConfig, Dice], Triplet], ...] = (
    _habit,
    _told_look,
    _name_colors,
    _name_shapes,
    _turn_round,
    _which,
    _leave_out,
    _replace,
    _sort,
    _count_words,
    _repeat,
    _read,
)
