"""Grounding markup: text whose phrases are linked to boxes in a picture.

The grammar, with the paper's names behind the release's spelling::

    markup  = [ <grounding> ] { WORDS | entity }
    entity  = <phrase> WORDS </phrase> [ object ]                         <p> ... </p>
    object  = <object> pair { </delimiter_of_multi_objects/> pair } </object>   <box> ... </box>
    pair    = <patch_index_KKKK> <patch_index_KKKK>                       top left, bottom right

- :func:`lex` cuts text into words and tokens; anything else in angle brackets is words
- :func:`parse_markup` reads the grammar; strict, or lenient with an account of what it dropped;
  :func:`parse_lexemes` the same of what is cut already, as ids are
- :func:`print_markup` is its inverse

A phrase without an object is a question for its place, and has no boxes. Spaces at the ends of
the text and of a phrase mean nothing (each stretch of words is tokenized by itself), so parsing
takes them away.

>>> parse_markup("<phrase> a dog</phrase><object><patch_index_0044><patch_index_0863></object>")
Markup(text='a dog', spans=(Span(text='a dog', start=0, end=5, boxes=(Box(x0=0.390625, ...

What the release and the Hugging Face port make of a text, quirks included, is in entities.py.

Source: KOSMOS-2 (arXiv:2306.14824) section 2.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from kosmos.boxes import Box
from kosmos.errors import MarkupError
from kosmos.text.locations import NUM_CELLS, cells_to_box
from kosmos.text.vocabulary import (
    DELIMITER,
    GROUNDING,
    OBJECT,
    OBJECT_END,
    PHRASE,
    PHRASE_END,
    location_token,
)

Kind: TypeAlias = Literal[
    "words", "grounding", "phrase", "phrase_end", "object", "object_end", "delimiter", "location"
]

_KINDS: dict[str, Kind] = {
    GROUNDING: "grounding",
    PHRASE: "phrase",
    PHRASE_END: "phrase_end",
    OBJECT: "object",
    OBJECT_END: "object_end",
    DELIMITER: "delimiter",
}
_LOCATION = "<patch_index_"
TOKEN = re.compile("(" + "|".join(map(re.escape, _KINDS)) + f"|{_LOCATION}[0-9]{{1,9}}>)")
"""A grounding token; ``split`` gives words and tokens in turns."""


class Lexeme(NamedTuple):
    """A stretch of words or one token."""

    kind: Kind
    text: str
    position: int
    """Where it starts: a character of a text, or an index into ids."""
    location: int = -1
    """The location index, of a location."""


@dataclass(frozen=True, slots=True)
class Span:
    """A phrase and where it is: ``Markup.text[start:end]`` and its boxes.

    ``boxes`` is empty where the markup asks for the place; ``text`` is empty (and ``start ==
    end``) where lenient parsing found an object without a phrase.
    """

    text: str
    start: int
    end: int
    boxes: tuple[Box, ...]
    locations: tuple[tuple[int, int], ...]
    positions: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    """Where the two location tokens of each box stand in what was parsed: characters of a text,
    or indices into ids."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Markup that lenient parsing left out: why, where in what was parsed, and what."""

    reason: str
    position: int
    text: str


@dataclass(frozen=True, slots=True)
class Markup:
    """Parsed markup: clean words, spans into them in reading order, and what was dropped."""

    text: str
    spans: tuple[Span, ...] = ()
    grounding: bool = False
    dropped: tuple[Dropped, ...] = ()


def lex(text: str) -> list[Lexeme]:
    """Cut a text into words and tokens, in one pass; joined, they are the text again."""
    lexemes = []
    end = 0
    for match in TOKEN.finditer(text):
        start = match.start()
        if start > end:
            lexemes.append(Lexeme("words", text[end:start], end))
        token, end = match[0], match.end()
        kind = _KINDS.get(token)
        if kind is None:
            lexemes.append(Lexeme("location", token, start, int(token[len(_LOCATION) : -1])))
        else:
            lexemes.append(Lexeme(kind, token, start))
    if end < len(text):
        lexemes.append(Lexeme("words", text[end:], end))
    return lexemes


def parse_markup(text: str, *, num_cells: int = NUM_CELLS, lenient: bool = False) -> Markup:
    """Read grounding markup.

    Lenient parsing is for what models say. It keeps all words, links what can be linked, gives
    an object that no phrase precedes a span without words, reads locations written with any
    number of digits, and reports every token it left out. For text without stray ``<`` it finds
    the phrases and boxes that the release and the Hugging Face port find.

    Args:
        text: Words and markup.
        num_cells: Cells along each side of the location grid; 0 for a vocabulary without
            grounding tokens, in which all text is words.
        lenient: Report what does not parse in ``Markup.dropped`` instead of raising.

    Raises:
        MarkupError: Strict only: at the first token that the grammar does not allow, with its
            position.
    """
    lexemes = lex(text) if num_cells else [Lexeme("words", text, 0)]
    return parse_lexemes(lexemes, end=len(text), num_cells=num_cells, lenient=lenient)


def parse_lexemes(
    lexemes: Sequence[Lexeme], *, end: int, num_cells: int = NUM_CELLS, lenient: bool = False
) -> Markup:
    """:func:`parse_markup` of what is cut already.

    :meth:`~kosmos.text.tokenizer.Tokenizer.lex` cuts ids, so that words which are spelled like a
    token stay words, and every box knows which ids it was read from.

    Args:
        lexemes: Words and tokens in order.
        end: The position behind the last of them.
        num_cells: Cells along each side of the location grid.
        lenient: Report what does not parse instead of raising.

    Raises:
        MarkupError: Strict only, as :func:`parse_markup`.
    """
    return _Parser(lexemes, end, num_cells, lenient).parse()


def print_markup(markup: Markup) -> str:
    """Write markup as text; parsing it gives the same words and spans.

    Raises:
        MarkupError: If that cannot be: spans overlap, lie outside the text or do not match it,
            or the words hold something that reads as a token.
    """
    parts = [GROUNDING] if markup.grounding else []
    position = 0
    asked = False  # a phrase without boxes ended right here: an object would become its own
    for span in markup.spans:
        if not position <= span.start <= span.end <= len(markup.text):
            raise MarkupError(
                f"expected spans in order and inside the text, found {(span.start, span.end)}",
                position=span.start,
            )
        if markup.text[span.start : span.end] != span.text:
            raise MarkupError(
                f"expected the words of the span, {span.text!r}, "
                f"found {markup.text[span.start : span.end]!r}",
                position=span.start,
            )
        if not span.text and (not span.locations or (asked and position == span.start)):
            raise MarkupError("expected a phrase, found a span without words", position=span.start)
        parts.append(_plain(markup.text[position : span.start], position))
        if span.text:
            parts += [PHRASE, _plain(span.text, span.start), PHRASE_END]
        if span.locations:
            pairs = (location_token(a) + location_token(b) for a, b in span.locations)
            parts += [OBJECT, DELIMITER.join(pairs), OBJECT_END]
        position, asked = span.end, not span.locations
    parts.append(_plain(markup.text[position:], position))
    return "".join(parts)


def _plain(words: str, position: int) -> str:
    match = TOKEN.search(words)
    if match is not None:
        raise MarkupError(
            f"expected words, found {match[0]!r}, which would read as a token",
            position=position + match.start(),
        )
    return words


class _Pair(NamedTuple):
    locations: tuple[int, int]
    positions: tuple[int, int]


class _Parser:
    """Recursive descent over the lexemes, one method per rule; each reads from ``self.next`` on.

    Where the grammar is broken a rule calls :meth:`drop` with what it expected: strict parsing
    raises there, lenient parsing notes the lexemes it passes over and goes on.
    """

    def __init__(self, lexemes: Sequence[Lexeme], end: int, num_cells: int, lenient: bool) -> None:
        self.lexemes = lexemes
        self.end = end
        self.num_cells = num_cells
        self.lenient = lenient
        self.next = 0
        self.words: list[str] = []
        self.num_chars = 0
        self.found: list[tuple[int, int, list[_Pair]]] = []
        self.grounding = False
        self.dropped: list[Dropped] = []

    def parse(self) -> Markup:
        """``markup = [ <grounding> ] { WORDS | entity }``."""
        while self.next < len(self.lexemes):
            lexeme = self.lexemes[self.next]
            if lexeme.kind == "words":
                self.say(lexeme.text)
                self.next += 1
            elif lexeme.kind == "phrase":
                self.entity()
            elif lexeme.kind == "object":
                self.lone_object()
            elif lexeme.kind == "grounding" and not self.grounding and self.is_blank():
                self.grounding = True
                self.next += 1
            elif lexeme.kind == "grounding":
                self.drop(1, "<grounding> only at the start of the text")
            else:
                self.stray()
        return self.cleaned()

    def entity(self) -> None:
        """``entity = <phrase> WORDS </phrase> [ object ]``."""
        if self.kind(1) == "phrase_end":
            self.drop(2, "words between <phrase> and </phrase>", at=1)
        elif self.kind(1) != "words":
            self.drop(1, "words behind <phrase>", at=1)
        elif self.kind(2) != "phrase_end":
            self.drop(1, "</phrase> behind the words of a phrase", at=2)
        elif self.lexemes[self.next + 1].text.isspace():
            words = self.lexemes[self.next + 1].text
            self.drop(3, "words between <phrase> and </phrase>", at=1)
            self.say(words)
        else:
            start = self.num_chars
            self.say(self.lexemes[self.next + 1].text)
            self.next += 3
            pairs = self.object() if self.kind() == "object" else []
            self.found.append((start, self.num_chars, pairs))

    def lone_object(self) -> None:
        """An object that touches no phrase: a span without words, or an error if strict."""
        if not self.lenient:
            raise self.error("<object> only directly behind </phrase>", 0)
        pairs = self.object()
        if pairs:
            self.found.append((self.num_chars, self.num_chars, pairs))

    def object(self) -> list[_Pair]:
        """``object = <object> pair { delimiter pair } </object>``; empty if dropped."""
        pairs = []
        ahead = 1
        while self.kind(ahead) == "location" and self.kind(ahead + 1) == "location":
            pairs.append(ahead)
            ahead += 2
            if self.kind(ahead) == "object_end":
                kept = self.on_grid(pairs)
                self.next += ahead + 1
                return kept
            if self.kind(ahead) != "delimiter":
                break
            ahead += 1
        self.broken_object(ahead)
        return []

    def on_grid(self, pairs: list[int]) -> list[_Pair]:
        """An object's pairs, less those with a location outside the grid.

        Args:
            pairs: Where each begins, in lexemes from the next one on.
        """
        kept = []
        for ahead in pairs:
            first, second = self.lexemes[self.next + ahead : self.next + ahead + 2]
            problems = [self.location_problem(ahead + index) for index in (0, 1)]
            reason = problems[0] or problems[1]
            if reason:
                self.dropped.append(Dropped(reason, first.position, first.text + second.text))
            else:
                kept.append(
                    _Pair((first.location, second.location), (first.position, second.position))
                )
        return kept

    def location_problem(self, ahead: int) -> str:
        """Why a location is none; strict parsing raises, and wants four digits as well."""
        lexeme = self.lexemes[self.next + ahead]
        canonical = location_token(lexeme.location)
        if lexeme.location >= self.num_cells**2:
            expected = f"a location on a grid of {self.num_cells} x {self.num_cells}"
        elif lexeme.text != canonical and not self.lenient:
            expected = canonical
        else:
            return ""
        if not self.lenient:
            raise self.error(expected, ahead)
        return self.problem(expected, ahead)

    def broken_object(self, ahead: int) -> None:
        """Drop an object and whatever follows that could only stand inside one."""
        if self.kind(ahead) == "location":
            at, expected = ahead + 1, "a second location"
        elif self.kind(ahead - 1) == "location":
            at, expected = ahead, f"{DELIMITER} or {OBJECT_END}"
        else:
            at, expected = ahead, "two locations"
        end = ahead
        while self.kind(end) in ("location", "delimiter"):
            end += 1
        self.drop(end + (self.kind(end) == "object_end"), expected, at=at)

    def stray(self) -> None:
        """Tokens that mean nothing outside an object or a phrase."""
        ahead = 1
        while self.kind(ahead) in ("location", "delimiter", "object_end", "phrase_end"):
            ahead += 1
        self.drop(ahead, "words, <phrase> or the end of the text")

    def drop(self, num_lexemes: int, expected: str, *, at: int = 0) -> None:
        """Pass over lexemes, which is an error if strict.

        Args:
            num_lexemes: How many, from the next one on.
            expected: What the grammar expects.
            at: Where, in lexemes from the next one on; may lie behind those passed over.
        """
        if not self.lenient:
            raise self.error(expected, at)
        lexemes = self.lexemes[self.next : self.next + num_lexemes]
        text = "".join(lexeme.text for lexeme in lexemes)
        self.dropped.append(Dropped(self.problem(expected, at), lexemes[0].position, text))
        self.next += num_lexemes

    def say(self, words: str) -> None:
        """Add to the clean text."""
        self.words.append(words)
        self.num_chars += len(words)

    def is_blank(self) -> bool:
        """Whether nothing but space has been said and no object found."""
        return not self.found and all(words.isspace() for words in self.words)

    def kind(self, ahead: int = 0) -> str:
        """Kind of a lexeme to come; empty behind the last."""
        index = self.next + ahead
        return self.lexemes[index].kind if index < len(self.lexemes) else ""

    def problem(self, expected: str, ahead: int) -> str:
        """What is wrong with a lexeme to come."""
        index = self.next + ahead
        if index >= len(self.lexemes):
            return f"expected {expected}, found the end of the text"
        found = self.lexemes[index]
        words = found.text if len(found.text) <= 40 else found.text[:40] + "..."
        return f"expected {expected}, found {words!r}"

    def error(self, expected: str, ahead: int) -> MarkupError:
        """The same as an error, with its position in the text."""
        index = self.next + ahead
        behind = index >= len(self.lexemes)
        position = self.end if behind else self.lexemes[index].position
        return MarkupError(
            self.problem(expected, ahead),
            position=position,
            hint="what a model says is read with lenient=True",
        )

    def cleaned(self) -> Markup:
        """What was read, with the spaces at the ends of the text and of the phrases gone."""
        said = "".join(self.words)
        text = said.strip()
        cut = len(said) - len(said.lstrip())
        spans = []
        for start, end, pairs in self.found:
            phrase = said[start:end].strip()
            if phrase:
                first = said.index(phrase, start) - cut
            else:
                first = min(max(start - cut, 0), len(text))
            locations = tuple(pair.locations for pair in pairs)
            boxes = tuple(cells_to_box(*pair, self.num_cells) for pair in locations)
            positions = tuple(pair.positions for pair in pairs)
            spans.append(Span(phrase, first, first + len(phrase), boxes, locations, positions))
        return Markup(text, tuple(spans), self.grounding, tuple(self.dropped))
