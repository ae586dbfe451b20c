"""A work list: many items through one generator, each answered once, whatever befalls the others.

Items are answered in windows. Within one, the generator puts those of like length and those that
share a picture into a batch, so the list may be in any order; the window bounds what is held in
memory and how long the first answer takes, however long the list is. Answers come as they finish.

- :class:`Item`, :class:`Totals`
- :func:`replies`, :func:`scores`: answers to items as they finish
- :func:`unfinished`, :func:`run`: a list into lines of a file, with progress
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable

from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError, ImageError, KosmosError, MarkupError
from kosmos.files import Json
from kosmos.generate.config import Decoding
from kosmos.generate.reply import CandidateScore, Failure, Reply
from kosmos.logs import Progress

if TYPE_CHECKING:
    # the protocol's file imports torch
    from kosmos.generate.constraints import Constraint

WINDOW_BATCHES = 16
"""Batches whose prompts are sorted by length together."""
SCORED_ITEMS = 64
"""Items scored in one call, where those that begin alike are read once."""

_REASONS = {
    ImageError: "picture",
    MarkupError: "markup",
    DataError: "document",
    ConfigError: "request",
}
"""What failures are counted under, the narrowest class first."""

_BAD_ITEM = (DataError, MarkupError, ConfigError)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something to answer."""

    id: str
    """Unique in its list."""
    doc: Document
    """The prompt; its id is the item's."""
    asked: Mapping[str, Json] = field(default_factory=dict)
    """What the line says of it beside the answer, such as the name of its picture."""
    candidates: Sequence[str] = ()
    """What to score behind the prompt."""


class Answered(NamedTuple):
    """What a line says, and the tokens it took."""

    row: Mapping[str, Json]
    num_tokens: int


@runtime_checkable  # so that shape checks in tests can look at it
class Engine(Protocol):
    """What answers; :class:`~kosmos.generate.generator.Generator` does."""

    def replies(
        self,
        docs: Sequence[Document],
        *,
        decoding: Decoding,
        batch_size: int,
        constraint: "Constraint | None",
    ) -> Iterator[tuple[int, Reply | Failure]]:
        """A reply to each document, or why there is none, by index, as they finish."""
        ...

    def score_many(
        self,
        asks: Sequence[tuple[Document, Sequence[str]]],
        *,
        end: bool,
        neutral: str | None,
    ) -> list[list[CandidateScore]]:
        """How likely each candidate is behind its document."""
        ...


@runtime_checkable
class Lines(Protocol):
    """Where lines go: a :class:`~kosmos.generate.resumable.ResumableLines`, or a pipe."""

    def has(self, item_id: str, asked: Mapping[str, Json]) -> bool:
        """Whether an item is answered already."""
        ...

    def has_failed(self, item_id: str, asked: Mapping[str, Json]) -> bool:
        """Whether an item was found bad already."""
        ...

    def add(self, item_id: str, asked: Mapping[str, Json], answer: Mapping[str, Json]) -> None:
        """Write a line."""
        ...

    def add_bad(self, item_id: str, asked: Mapping[str, Json], *, reason: str, error: str) -> None:
        """Record an item that cannot be answered."""
        ...


@dataclass(slots=True)
class Totals:
    """What became of a list so far."""

    num_done: int = 0
    """Items answered."""
    num_kept: int = 0
    """Items that were answered by an earlier run."""
    failed: Counter[str] = field(default_factory=Counter)
    """Items that could not be answered, by reason."""
    num_failed_before: int = 0
    """Items that an earlier run found bad."""
    num_tokens: int = 0
    """Tokens of the answers."""
    seconds: float = 0.0
    """Time it took."""


def replies(
    engine: Engine,
    items: Sequence[Item],
    *,
    decoding: Decoding,
    batch_size: int = 16,
    constraint: "Constraint | None" = None,
) -> Iterator[tuple[Item, Reply | Failure]]:
    """Replies to items, or why there is none, as they finish.

    Args:
        engine: Who answers.
        items: Any number, in any order.
        decoding: How tokens are chosen.
        batch_size: Most items read at once.
        constraint: What replies may say; None for anything.
    """
    window = WINDOW_BATCHES * batch_size
    for first in range(0, len(items), window):
        part = items[first : first + window]
        docs = [item.doc for item in part]
        for index, reply in engine.replies(
            docs, decoding=decoding, batch_size=batch_size, constraint=constraint
        ):
            yield part[index], reply


def scores(
    engine: Engine, items: Sequence[Item], *, end: bool = False, neutral: str | None = None
) -> Iterator[tuple[Item, list[CandidateScore] | Failure]]:
    """Scores of the candidates of items, or why there are none, as they finish.

    Args:
        engine: Who answers.
        items: Any number, in any order.
        end: Whether ``</s>`` behind a candidate counts as well.
        neutral: A prompt to compare with, for pointwise mutual information.
    """

    def ask(part: Sequence[Item]) -> list[list[CandidateScore]]:
        asks = [(item.doc, item.candidates) for item in part]
        return engine.score_many(asks, end=end, neutral=neutral)

    for first in range(0, len(items), SCORED_ITEMS):
        part = items[first : first + SCORED_ITEMS]
        try:
            found = ask(part)
        except _BAD_ITEM:
            # one of them is bad; alone, each says for itself
            for item in part:
                try:
                    yield item, ask([item])[0]
                except _BAD_ITEM as error:
                    yield item, Failure(name=item.id, error=error)
        else:
            yield from zip(part, found, strict=True)


def unfinished(items: Sequence[Item], out: Lines, totals: Totals) -> list[Item]:
    """Items that are neither answered nor found bad; the others are counted.

    Raises:
        DataError: If two items have the same id.
        ConfigError: If an id is answered, but to something else.
    """
    doubled = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if doubled:
        raise DataError(f"items: expected ids that differ, found {doubled[0]!r} more than once")
    todo = []
    for item in items:
        if out.has(item.id, item.asked):
            totals.num_kept += 1
        elif out.has_failed(item.id, item.asked):
            totals.num_failed_before += 1
        else:
            todo.append(item)
    return todo


def run(
    items: Sequence[Item],
    answer: Callable[[Sequence[Item]], Iterator[tuple[Item, Answer | Failure]]],
    describe: Callable[[Answer], Answered],
    *,
    out: Lines,
    title: str,
    totals: Totals,
) -> None:
    """Answer items and write a line for each as it finishes.

    Args:
        items: What :func:`unfinished` left.
        answer: :func:`replies` or :func:`scores` with their options.
        describe: What the line says of an answer.
        out: Where lines go.
        title: What is being done, for the progress line.
        totals: Counted up while the list is worked on, so that they stand when it is interrupted.
    """
    began_s = time.monotonic()
    before = totals.num_kept + totals.num_failed_before
    with Progress(title, total=before + len(items), unit="items", start=before) as progress:
        for item, found in answer(items):
            if isinstance(found, Failure):
                reason = reason_of(found.error)
                out.add_bad(item.id, item.asked, reason=reason, error=str(found.error))
                totals.failed[reason] += 1
            else:
                row, num_tokens = describe(found)
                out.add(item.id, item.asked, row)
                totals.num_done += 1
                totals.num_tokens += num_tokens
            totals.seconds = max(time.monotonic() - began_s, 1e-9)
            rate = (totals.num_done + totals.failed.total()) / totals.seconds
            progress.advance(1, **{"items/s": rate, "failed": totals.failed.total()})


def reason_of(error: KosmosError) -> str:
    """What a failure is counted under: picture, markup, document or request."""
    return next(name for kind, name in _REASONS.items() if isinstance(error, kind))
