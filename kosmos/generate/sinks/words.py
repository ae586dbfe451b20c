"""Answers for the one who asked: words, or JSON, as they are told to somebody."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from kosmos.files import Json
from kosmos.generate.request_file import Entry, Problem, readable
from kosmos.generate.sinks.sink import Row, spans
from kosmos.logs import printable


class Told:
    """Tells each answer, and what has none.

    Args:
        say: Takes an answer.
        warn: Takes what is wrong.
        lines: An answer as people read it; None for JSON.
        several: Whether to put the name of the picture before each line of words.
        ids: Whether JSON says the id: that of a line of a requests file.
        drawn: Where the drawing of an answer is, which JSON says.
    """

    def __init__(
        self,
        say: Callable[[str], object],
        warn: Callable[[str], object],
        *,
        lines: Callable[[Row], list[str]] | None,
        several: bool = False,
        ids: bool = False,
        drawn: Callable[[int, Entry], Path | None] | None = None,
    ) -> None:
        self._say = say
        self._warn = warn
        self._lines = lines
        self._several = several
        self._ids = ids
        self._drawn = drawn

    def put(self, place: int, entry: Entry, found: Row | Problem) -> None:
        """Tell one."""
        if isinstance(found, Problem):
            self._warn(f"error: {printable(found.error)}")
            if found.hint is not None:
                self._warn(f"hint: {printable(found.hint)}")
            return
        if self._lines is None:
            self._say(json.dumps({**self._asked(entry), **found, **self._drawing(place, entry)}))
            return
        label = printable(entry.label)
        for reason in found.get("dropped", ()):
            self._warn(printable(f"{entry.label}: left out of the reply: {reason}"))
        lines = self._lines(found)
        if not lines:
            self._warn("not found: the reply has no box")
        head = f"{label}\t" if self._several else ""
        self._say("\n".join(head + line for line in lines or [""]))

    def finish(self) -> None:
        """Nothing: all is told."""

    def _asked(self, entry: Entry) -> Mapping[str, Json]:
        name = {"id": entry.id} if self._ids else {}
        file = {"image": entry.file} if entry.file else {}
        return {**name, **entry.asked, **file}

    def _drawing(self, place: int, entry: Entry) -> Mapping[str, Json]:
        target = None if self._drawn is None else self._drawn(place, entry)
        return {} if target is None else {"drawn": readable(str(target))}


def reply_lines(row: Row) -> list[str]:
    """The words."""
    return [printable(line) for line in row["text"].split("\n")]


def box_lines(row: Row) -> list[str]:
    """For each box its phrase, corners in pixels of the picture as it is, and confidence."""
    return [
        f"{printable(span.text)}\t" + " ".join(f"{side:.1f}" for side in box) + f"\t{sure:.2f}"
        for span in spans(row)
        for box, sure in zip(span.boxes_px, span.confidence, strict=True)
    ]


def grounded_lines(row: Row) -> list[str]:
    """The words, and the boxes below them."""
    return [*reply_lines(row), *box_lines(row)]


def score_lines(row: Row) -> list[str]:
    """For each candidate the sum, the mean, the number of tokens, and itself."""
    return [
        f"{score['logprob']:.4f}\t{score['mean_logprob']:.4f}\t{score['num_tokens']}\t"
        + printable(score["candidate"])
        for score in row["scores"]
    ]
