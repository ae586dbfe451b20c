"""Entities of a text exactly as the two published programs extract them, quirks included.

- :func:`hf_entities`: the Hugging Face processor's cleaned caption and entities
- :func:`release_entities`: the released demo's and scorers' rows of a name and a box

For comparing with published results. To read what a model says, use markup.py, which recovers
the same phrases and boxes without these quirks:

- any ``<`` swallows the words up to the next ``>`` of its line (Hugging Face)
- a phrase of spaces has a negative end, a span at the end may lie outside the text (Hugging Face)
- locations beyond the grid give corners beyond 1, and any number of digits will do (both)
- an entity without a phrase is named after its locations (both, differently)
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from kosmos.boxes import Box
from kosmos.text.locations import NUM_CELLS, cells_to_box
from kosmos.text.vocabulary import DELIMITER

Corners = tuple[float, float, float, float]

_IMAGE_END = "</image>"
_PAIR = r"<patch_index_\d+><patch_index_\d+>"
_ENTITY = re.compile(
    rf"(?:<phrase>(?P<name>[^<]+)</phrase>)?"
    rf"<object>(?P<pairs>(?:{_PAIR}{DELIMITER})*{_PAIR})</object>"
)
_DIGITS = re.compile(r"\d+")
_IN_BRACKETS = re.compile(r"<.*?>")


class HFEntity(NamedTuple):
    """One entity; equal to the plain tuple that the Hugging Face processor returns."""

    name: str
    span: tuple[int, int]
    boxes: list[Corners]


def hf_entities(text: str, num_cells: int = NUM_CELLS) -> tuple[str, list[HFEntity]]:
    """The caption and entities that the Hugging Face processor extracts.

    Args:
        text: Decoded text; what comes before the last ``</image>`` is cut off.
        num_cells: Cells along each side of the location grid.

    Source: Kosmos2Processor.post_process_generation in transformers 5.23.
    """
    text = text.rsplit(_IMAGE_END, maxsplit=1)[-1]
    caption = _IN_BRACKETS.sub("", text)
    brackets = [match.span() for match in _IN_BRACKETS.finditer(text)]
    ends = [end for _, end in brackets]
    lengths = [0, *accumulate(end - start for start, end in brackets)]

    def in_caption(position: int) -> int:
        # the program strips the brackets of the text up to here, so only whole ones count
        return position - lengths[bisect_right(ends, position)]

    cut = len(caption) - len(caption.lstrip())
    entities = []
    for match in _ENTITY.finditer(text):
        name = match["name"]
        span = match.span("name") if name else (match.start(), match.start())
        start, end = (in_caption(position) - cut for position in span)
        boxes = [(pair, _corners(*pair, num_cells)) for pair in _pairs(match)]
        if name:
            leading, trailing = (len(name) - len(s) for s in (name.lstrip(), name.rstrip()))
            trimmed = (start + leading, end - trailing)
            entities.append(HFEntity(name.strip(), trimmed, [box for _, box in boxes]))
        else:
            for (first, second), box in boxes:
                made_up = f"<patch_index_{int(first)}><patch_index_{int(second)}>"
                entities.append(HFEntity(made_up, (start, end), [box]))
    return caption.strip(), entities


def release_entities(text: str, num_cells: int = NUM_CELLS) -> list[tuple[str, Box]]:
    """The names and boxes that the released demo and scorers extract, a row for each box.

    Names keep their spaces; the scorers strip them when they compare.

    Args:
        text: Decoded text, all of it.
        num_cells: Cells along each side of the location grid.

    Source: decode_string.py of the released demo.
    """
    return [
        (match["name"] or f"<{first}><{second}>", cells_to_box(int(first), int(second), num_cells))
        for match in _ENTITY.finditer(text)
        for first, second in _pairs(match)
    ]


def _pairs(match: re.Match[str]) -> Iterator[tuple[str, str]]:
    """The digits of an entity's locations, two by two."""
    digits = iter(_DIGITS.findall(match["pairs"]))
    return zip(digits, digits, strict=True)


def _corners(first: str, second: str, num_cells: int) -> Corners:
    box = cells_to_box(int(first), int(second), num_cells)
    return box.x0, box.y0, box.x1, box.y1
