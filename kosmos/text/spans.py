"""Token ids to words, phrases and boxes in one pass, without writing markup to read it again.

- :func:`parse_ids`: grounding markup, leniently
- :func:`hf_entities_of_ids`: what the Hugging Face processor extracts from the decoded text

Every grounding token becomes one character that no word holds, here drawn as ``[ ] ( )`` and
capitals, and one regular expression reads the grammar::

    ids    9  64007  10  43867  64008 64009 64057 64876 64010 5950
    signs  of   [    a  snowman   ]     (     A     B     )   warming

What it leaves over is broken markup. That, and ids whose text depends on their neighbors (a line
break, a byte, an image), go one by one to the parser of markup.py, which says what is wrong.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, islice
from typing import NamedTuple

from kosmos.boxes import Box
from kosmos.text.entities import Corners, HFEntity, hf_entities
from kosmos.text.locations import cells_to_box
from kosmos.text.markup import Markup, Span, parse_lexemes
from kosmos.text.surfaces import FIRST_LOCATION_SIGN, SIGNS, say
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import Vocabulary

_PHRASE, _PHRASE_END, _OBJECT, _OBJECT_END, _DELIMITER, _GROUNDING = SIGNS
_SIGN = re.compile("[\ud800-\udfff]")
_LOCATION = f"[{chr(FIRST_LOCATION_SIGN)}-{chr(ord(SIGNS[0]) - 1)}]"
_OPENING = re.compile(rf"\s*{_GROUNDING}")
_ENTITY = re.compile(
    f"{_PHRASE}([^\ud800-\udfff]+){_PHRASE_END}"
    f"(?:{_OBJECT}({_LOCATION}{{2}}(?:{_DELIMITER}{_LOCATION}{{2}})*){_OBJECT_END})?"
)


def parse_ids(token_ids: Sequence[int], tokenizer: Tokenizer) -> Markup:
    """Read grounding markup in ids, leniently.

    What is a token is told by its id, so words that are spelled like one are words. But for that
    it is what :func:`~kosmos.text.markup.parse_markup` reads in the decoded text, with positions
    (``Span.positions``, ``Dropped.position``) that are indices into the ids.

    Args:
        token_ids: Any ids, such as a model's reply.
        tokenizer: What they mean.

    Raises:
        DataError: If an id is not in the vocabulary.
    """
    num_cells = tokenizer.vocabulary.num_cells
    read = _read(token_ids, tokenizer)
    if read is None:
        lexemes = tokenizer.lex(token_ids)
        return parse_lexemes(lexemes, end=len(token_ids), num_cells=num_cells, lenient=True)
    boxes = tuple([Box(*corners) for corners in _corners(read.cells, num_cells)])
    locations = _in_pairs(read.cells)
    places = _in_pairs(_places(token_ids, tokenizer.vocabulary)) if boxes else ()
    spans, first = [], 0
    for phrase, start, count in zip(read.phrases, read.starts, read.num_boxes, strict=True):
        own = slice(first, first + count)
        end = start + len(phrase)
        spans.append(Span(phrase, start, end, boxes[own], locations[own], places[own]))
        first += count
    return Markup(read.text, tuple(spans), read.is_grounding)


def hf_entities_of_ids(
    token_ids: Sequence[int], tokenizer: Tokenizer
) -> tuple[str, list[HFEntity]]:
    """The caption and entities that the Hugging Face processor extracts from what ids say.

    The same as :func:`~kosmos.text.entities.hf_entities` of the decoded text.

    Raises:
        DataError: If an id is not in the vocabulary.
    """
    num_cells = tokenizer.vocabulary.num_cells
    read = _read(token_ids, tokenizer)
    if read is None or "<" in read.text:
        return hf_entities(tokenizer.decode(token_ids), num_cells)
    corners = _corners(read.cells, num_cells)
    entities, first = [], 0
    for phrase, start, count in zip(read.phrases, read.starts, read.num_boxes, strict=True):
        if count:
            own = corners[first : first + count]
            entities.append(HFEntity(phrase, (start, start + len(phrase)), own))
            first += count
    return read.text, entities


class _Read(NamedTuple):
    """Well-formed markup in columns, a row for each phrase."""

    text: str
    is_grounding: bool
    phrases: list[str]
    starts: list[int]
    num_boxes: list[int]
    """0 without an object."""
    cells: list[int]
    """Locations of all boxes, two by two."""


def _read(token_ids: Sequence[int], tokenizer: Tokenizer) -> _Read | None:
    """Well-formed markup in ids that stand for themselves; None for anything else."""
    said = say(token_ids, tokenizer.surfaces.signs)
    if said is None:
        return None
    opening = _OPENING.match(said)
    if opening:
        said = said[opening.end() :]
    # words, phrase, object, words, phrase, object, ..., words
    parts = _ENTITY.split(said)
    objects = parts[2::3]
    del parts[2::3]
    text = "".join(parts)
    phrases = [phrase.strip() for phrase in parts[1::2]]
    if _SIGN.search(text) or not all(phrases):
        return None
    cut = len(text) - len(text.lstrip())
    starts = [
        end - len(part.lstrip()) - cut
        for end, part in zip(
            islice(accumulate(map(len, parts)), 1, None, 2), parts[1::2], strict=True
        )
    ]
    # a box is two signs, with a delimiter before the next
    num_boxes = [(len(signs) + 1) // 3 if signs else 0 for signs in objects]
    signs = "".join(filter(None, objects)).replace(_DELIMITER, "")
    cells = [code - FIRST_LOCATION_SIGN for code in map(ord, signs)]
    return _Read(text.strip(), opening is not None, phrases, starts, num_boxes, cells)


def _corners(cells: Sequence[int], num_cells: int) -> list[Corners]:
    """:func:`~kosmos.text.locations.cells_to_box` of cells two by two, without making boxes."""
    centers = map(_centers(num_cells).__getitem__, cells)
    corners = [(*near, *far) for near, far in zip(centers, centers, strict=True)]
    for index, (x0, y0, x1, y1) in enumerate(corners):
        if x0 == x1 or y0 == y1:  # such a box takes whole cells
            box = cells_to_box(cells[2 * index], cells[2 * index + 1], num_cells)
            corners[index] = (box.x0, box.y0, box.x1, box.y1)
    return corners


@cache
def _centers(num_cells: int) -> list[tuple[float, float]]:
    """Centers of the cells of a grid, by location index."""
    steps = [(cell + 0.5) / num_cells for cell in range(num_cells)]
    return [(x, y) for y in steps for x in steps]


def _places(token_ids: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Where locations stand among ids."""
    first = vocabulary.first_location_id
    return [index for index, token_id in enumerate(token_ids) if token_id >= first]


def _in_pairs(indices: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(indices[::2], indices[1::2], strict=True))
