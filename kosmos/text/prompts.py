"""The prompts of both papers, letter for letter, as constants and functions.

Captions and questions are given in the order of the papers' tables; grounding prompts carry
markup (markup.py). Spelling mistakes are the papers'.

Source: KOSMOS-1 (arXiv:2302.14045) sections 4 and 5, Tables 15 and 21; KOSMOS-2
(arXiv:2306.14824) section 4 and Table 9; the released demo.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kosmos.text.vocabulary import (
    DELIMITER,
    GROUNDING,
    OBJECT,
    OBJECT_END,
    PHRASE,
    PHRASE_END,
    location_token,
)

CAPTION = "An image of"
"""Captioning, in both papers; beam search with 5 beams."""
GROUNDED_CAPTION = f"{GROUNDING}An image of"
"""A short caption with boxes: the demo's brief mode."""
GROUNDED_DETAIL = f"{GROUNDING}Describe this image in detail:"
"""A long caption with boxes: the demo's detailed mode."""
IMAGENET = "The photo of the"
"""Zero-shot image classification."""
SENTIMENT = "Question: what is the sentiment of the opinion? Answer:"
"""Rendered SST-2."""
RATIONALE = "Introduce this picture in detail:"
"""First of two steps on Rendered SST-2: the answer goes into the context of the second."""
HATEFUL_MEMES = "Question: does this picture contain real hate speech? Answer:"
"""Scored by the probability of the answer yes."""
RAVEN_COUNTS = {3: "three", 4: "four", 8: "eight"}
RAVEN_CANDIDATE = "The following image is:"
"""Between the images of a Raven puzzle and a candidate for the missing one."""
RAVEN_QUESTION = "Is it correct?"
"""Behind the candidate; the one with the highest probability of Yes is chosen."""


def question(text: str) -> str:
    """Visual question answering, in both papers and in SEED-Bench."""
    return f"Question: {text} Answer:"


def raven(num_images: int) -> str:
    """What stands before the images of a Raven puzzle: three, four or eight of them."""
    return f"Here are {RAVEN_COUNTS.get(num_images, num_images)} images:"


def web_question(text: str, web_text: str) -> str:
    """WebSRC, with the words of the page."""
    return (
        "Given the context below from web page, extract the answer from the given text like "
        "this: Qusestion: Who is the publisher of this book? Answer: Penguin Books Ltd. "
        f"Context: {web_text} Q: {text} A:"
    )


def category(general: str) -> str:
    """Classification with descriptions: what kind of a general category is in the picture."""
    return f"Question:what is the name of {general} in the picture? Answer:"


def size_comparison(first: str, second: str) -> str:
    """Visual commonsense without a picture, answered Yes or No: RelativeSize."""
    return f"Is {first} larger than {second}?"


def color_of(thing: str) -> str:
    """Visual commonsense without a picture, answered with a color: MemoryColor, ColorTerms."""
    return f"The color of {thing} is?"


def phrase(expression: str) -> str:
    """Referring expression comprehension: where is this?"""
    return f"{GROUNDING}{PHRASE}{expression}{PHRASE_END}"


def phrase_in_caption(caption: str, start: int, end: int) -> str:
    """Phrase grounding: where is this phrase of a caption? The words before it are the context."""
    return f"{GROUNDING}{caption[:start]} {PHRASE}{caption[start:end]}{PHRASE_END}"


def box(locations: Sequence[tuple[int, int]]) -> str:
    """An ``<object>`` of one or more boxes, as pairs of location indices."""
    pairs = (location_token(first) + location_token(second) for first, second in locations)
    return f"{OBJECT}{DELIMITER.join(pairs)}{OBJECT_END}"


def expression(locations: Sequence[tuple[int, int]]) -> str:
    """Referring expression generation: what is this? The answer completes the sentence."""
    return EXPRESSION_TEMPLATES[3].prompt(locations)


class ExpressionTemplate(NamedTuple):
    """One of the ways to ask for an expression and to answer, around the box asked about."""

    before: str
    """Up to the box, its phrase included."""
    after: str
    """Behind the box, to the end of the prompt."""
    reply: str
    """The answer; ``{}`` is the expression."""

    def prompt(self, locations: Sequence[tuple[int, int]]) -> str:
        """The question about a region, given as pairs of location indices."""
        return f"{GROUNDING}{self.before}{box(locations)}{self.after}"

    def answer(self, text: str) -> str:
        """The answer that an expression makes; starts with a space, behind the prompt."""
        return self.reply.format(text)


EXPRESSION_TEMPLATES = (
    ExpressionTemplate(f"What is {PHRASE} it {PHRASE_END}", "?", " It is {}."),
    ExpressionTemplate(f"What is {PHRASE} this {PHRASE_END}", "?", " This is {}."),
    ExpressionTemplate(f"Describe {PHRASE} this object {PHRASE_END}", ".", " This object is {}."),
    ExpressionTemplate(f"{PHRASE} It {PHRASE_END}", " is", " {}."),
    ExpressionTemplate(f"{PHRASE} This {PHRASE_END}", " is", " {}."),
    ExpressionTemplate(f"{PHRASE} The object {PHRASE_END}", " is", " {}."),
)
"""KOSMOS-2 Table 9, in its order. The fourth is also the prompt of evaluation."""
