"""Sink: what takes the answers of a list, one by one and in any order.

All that a sink knows of an answer is its row, the JSON that a line of the answers file has, so that
it can be given what an earlier run has answered just as well. Boxes lie in the last picture of an
entry.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from kosmos.generate.export import span_from_json
from kosmos.generate.reply import GroundedSpan
from kosmos.generate.request_file import Entry, Problem

Row: TypeAlias = Mapping[str, Any]
"""An answer as :func:`~kosmos.generate.export.answer_to_json` has it."""


@runtime_checkable  # so that shape checks in tests can look at it
class Sink(Protocol):
    """Takes answers."""

    def put(self, place: int, entry: Entry, found: Row | Problem) -> None:
        """Take the answer to the entry at a place of the list, or why there is none."""
        ...

    def finish(self) -> None:
        """Write what takes all of them."""
        ...


def spans(row: Row) -> list[GroundedSpan]:
    """The phrases with boxes of an answer."""
    return [span_from_json(span) for span in row.get("grounded", ())]
