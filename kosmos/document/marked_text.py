"""A run of words and the control tokens among them, as token ids.

A run is what is tokenized together. Two ways of bringing words and tags together are published
and give different ids at punctuation; the words are ``a dog, and a cat``::

    splice      <phrase> ▁a ▁dog </phrase> , ▁and ▁a ▁cat       the words tokenized as a whole
    separate    <phrase> ▁a ▁dog </phrase> ▁ , ▁and ▁a ▁cat     each stretch between tags by itself

Released training splices; prompts, and the Hugging Face processor, separate.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kosmos.document.layout import Layout
from kosmos.errors import DataError, MarkupError
from kosmos.text.markup import Lexeme, lex
from kosmos.text.tokenizer import Tokenizer


class Mark(NamedTuple):
    """Control tokens around a stretch of words, or at a place between two words."""

    start: int
    """Character the first of them stand before."""
    end: int
    """Character the last of them stand before; ``start`` for tokens at a place."""
    opening: tuple[int, ...]
    """Ids before the stretch."""
    closing: tuple[int, ...]
    """Ids behind the stretch, or at the place."""
    typed: bool
    """Whether they were typed in a text, and are thus an error where they cannot be put."""


class MarkedText(NamedTuple):
    """Words and the marks in them, in reading order."""

    words: str
    marks: tuple[Mark, ...] = ()


class Tokens(NamedTuple):
    """Ids of a run, and how many phrases lost their tags: no whole tokens answer to them."""

    ids: list[int]
    num_unaligned: int


def mark_text(text: str, tokenizer: Tokenizer, *, ground: bool) -> MarkedText:
    """The words of a text, and its grounding markup as marks.

    Args:
        text: Words and markup.
        tokenizer: A vocabulary without grounding tokens takes them for words.
        ground: Whether markup is kept; False takes it out.

    Raises:
        MarkupError: If a location token is not in the vocabulary, with its position.
    """
    vocabulary = tokenizer.vocabulary
    if "<" not in text or (ground and vocabulary.num_cells == 0):
        return MarkedText(text)
    lexemes = lex(text)
    if not ground:
        return MarkedText("".join(lexeme.text for lexeme in lexemes if lexeme.kind == "words"))
    words, marks = "", list[Mark]()
    opened = -1
    for index, (kind, token, position, _) in enumerate(lexemes):
        if kind == "words":
            words += token
            continue
        token_id = tokenizer.grounding_ids.get(token)
        if token_id is None:
            raise MarkupError(
                f"expected a location on a grid of {vocabulary.num_cells} x "
                f"{vocabulary.num_cells}, found {token!r}",
                position=position,
            )
        place = len(words)
        if kind == "phrase" and _opens(lexemes, index):
            opened = place
        elif kind == "phrase_end" and opened >= 0:
            start, end = _without_blanks(words, opened, place)
            marks.append(Mark(start, end, (vocabulary.phrase_id,), (token_id,), typed=True))
            opened = -1
        elif marks and marks[-1].start == marks[-1].end == place:
            marks[-1] = marks[-1]._replace(closing=(*marks[-1].closing, token_id))
        else:
            marks.append(Mark(place, place, (), (token_id,), typed=True))
    return MarkedText(words, tuple(marks))


def mark_phrase(
    words: str, locations: Sequence[tuple[int, int]], tokenizer: Tokenizer, *, where: str
) -> MarkedText:
    """A phrase and the locations of its boxes.

    Raises:
        DataError: If the phrase has no words.
    """
    if not words.strip():
        raise DataError(f"{where}: expected the words that the boxes belong to, found {words!r}")
    vocabulary = tokenizer.vocabulary
    closing = [vocabulary.phrase_end_id, vocabulary.object_id]
    for number, pair in enumerate(locations):
        closing += [vocabulary.delimiter_id] * (number > 0)
        closing += [vocabulary.location_id(index) for index in pair]
    closing.append(vocabulary.object_end_id)
    start, end = _without_blanks(words, 0, len(words))
    mark = Mark(start, end, (vocabulary.phrase_id,), tuple(closing), typed=False)
    return MarkedText(words, (mark,))


def join_runs(runs: Sequence[MarkedText]) -> MarkedText:
    """One run of the words of several."""
    if len(runs) == 1:
        return runs[0]
    words, marks = "", list[Mark]()
    for run in runs:
        offset = len(words)
        marks += [
            mark._replace(start=mark.start + offset, end=mark.end + offset) for mark in run.marks
        ]
        words += run.words
    return MarkedText(words, tuple(marks))


def tokenize_run(run: MarkedText, tokenizer: Tokenizer, layout: Layout) -> Tokens:
    """Token ids of a run, as the layout says.

    Raises:
        MarkupError: If typed markup stands inside a token of the words, or overlaps a phrase.
    """
    ids: list[int] = []
    num_unaligned = 0
    for number, line in enumerate(_lines(run) if layout.line_tokens else [run]):
        if number:
            ids.append(tokenizer.vocabulary.line_end_id)
        if layout.spans == "separate":
            ids += _separate(line, tokenizer, layout)
        else:
            spliced = _splice(line, tokenizer)
            ids += spliced.ids
            num_unaligned += spliced.num_unaligned
    return Tokens(ids, num_unaligned)


def _opens(lexemes: Sequence[Lexeme], index: int) -> bool:
    """Whether words and ``</phrase>`` follow a lexeme."""
    following = [lexeme.kind for lexeme in lexemes[index + 1 : index + 3]]
    return following == ["words", "phrase_end"]


def _without_blanks(words: str, start: int, end: int) -> tuple[int, int]:
    """A span without the blanks at its ends, which the tokenizer gives to the word that follows."""
    stretch = words[start:end]
    if not stretch.strip():
        return start, end
    return end - len(stretch.lstrip()), start + len(stretch.rstrip())


def _lines(run: MarkedText) -> list[MarkedText]:
    """The lines of a run that are not blank; a mark goes to the first one that reaches it."""
    lines: list[tuple[int, str]] = []
    start = 0
    for line in run.words.split("\n"):
        if line.strip():
            lines.append((start, line))
        start += len(line) + 1
    if not lines:
        return [MarkedText("", tuple(mark._replace(start=0, end=0) for mark in run.marks))]
    split: list[MarkedText] = []
    left = list(run.marks)
    for number, (start, line) in enumerate(lines):
        is_last = number == len(lines) - 1
        here = [mark for mark in left if is_last or mark.start <= start + len(line)]
        left = left[len(here) :]
        size = len(line)
        marks = [
            mark._replace(
                start=min(max(mark.start - start, 0), size), end=min(max(mark.end - start, 0), size)
            )
            for mark in here
        ]
        split.append(MarkedText(line, tuple(marks)))
    return split


def _separate(run: MarkedText, tokenizer: Tokenizer, layout: Layout) -> list[int]:
    ids: list[int] = []
    cursor = 0

    def say(end: int) -> None:
        if cursor < end:
            words = run.words[cursor:end]
            ids.extend(tokenizer.encode_markup(words, typed_control=layout.typed_control))

    for mark in run.marks:
        say(mark.start)
        ids += mark.opening
        cursor = mark.start
        say(mark.end)
        ids += mark.closing
        cursor = mark.end
    say(len(run.words))
    return ids


def _splice(run: MarkedText, tokenizer: Tokenizer) -> Tokens:
    """Words tokenized as a whole, control tokens put between their tokens by the release's rule."""
    whole = tokenizer.encode(run.words)
    ids: list[int] = []
    cursor = num_unaligned = 0
    for mark in run.marks:
        try:
            first, end = _place(run.words, mark, whole, tokenizer)
            if first < cursor:
                raise MarkupError(
                    "expected markup between two tokens, found it inside the phrase before",
                    position=mark.start,
                )
        except MarkupError:
            if mark.typed:
                raise
            num_unaligned += 1
            continue
        ids += [*whole[cursor:first], *mark.opening, *whole[first:end], *mark.closing]
        cursor = end
    return Tokens(ids + whole[cursor:], num_unaligned)


def _place(words: str, mark: Mark, whole: list[int], tokenizer: Tokenizer) -> tuple[int, int]:
    """The tokens of the whole that a mark goes around."""
    if mark.start < mark.end:
        return tokenizer.span_tokens(words, mark.start, mark.end)
    before = tokenizer.encode(words[: mark.start])
    if whole[: len(before)] != before:
        raise MarkupError(
            f"expected markup between two tokens, found it inside one behind "
            f"{words[: mark.start]!r}",
            position=mark.start,
        )
    return len(before), len(before)
