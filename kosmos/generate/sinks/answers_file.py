"""Answers as JSON Lines that go on where they were stopped.

::

    OUT             {"id": ..., what was asked ..., what was answered ...}   a line for each answer,
                    in the order in which they came
    OUT.meta.json   what all lines were made by: model, decoding, prompt
    OUT.bad.jsonl   {"id": ..., what was asked ..., "reason": ..., "error": ...}   what has none

What a kill cut short is cut off at the next start, and asked again. A file made by other settings
is refused rather than mixed, and so is an id that was asked something else. One process writes at a
time. See :mod:`kosmos.lines`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, json_text
from kosmos.generate.request_file import ASKED, BAD, Entry, Problem
from kosmos.generate.sinks.sink import Row
from kosmos.lines import Lines


class AnswersFile:
    """The file, opened to be continued, and to be closed.

    Args:
        path: OUT.
        made_by: What answers depend on beside their entry, nested as it likes; recorded.
        force: Throw away what is there.
        retry_bad: Forget what has no answer, so that it is tried again.

    Raises:
        ConfigError: If the lines that are there were made by something else, naming what differs.
        DataError: If the file is not such a file, cannot be written, or another process is at it.
    """

    def __init__(
        self,
        path: Path,
        made_by: Mapping[str, Json],
        *,
        force: bool = False,
        retry_bad: bool = False,
    ) -> None:
        self.path = path
        self.bad_path = path.with_name(f"{path.name}.bad.jsonl")
        with ExitStack() as opened:
            lines = Lines(path, dict(made_by), header="beside", force=force)
            self._lines = opened.enter_context(lines)
            bad_lines = Lines(self.bad_path, force=force or retry_bad or lines.is_new)
            self._bad_lines = opened.enter_context(bad_lines)
            self._done = {name: _digest(row) for name, row in self._rows(lines)}
            self._bad = {name: _digest(row) for name, row in self._rows(bad_lines)}
            opened.pop_all()

    def close(self) -> None:
        """Wait until all is on the disk; a list of what has no answer goes if it is empty."""
        self._lines.close()
        self._bad_lines.close()
        if self.bad_path.stat().st_size == 0:
            self.bad_path.unlink()

    def has(self, entry: Entry) -> bool:
        """Whether an entry is answered.

        Raises:
            ConfigError: If its id is, to something else.
        """
        found = self._done.get(entry.id)
        if found is not None and found != _digest(entry.asked):
            raise ConfigError(
                f"{self.path}: expected {entry.id!r} to be what is asked now, found an answer to "
                "something else",
                hint="give each request an id of its own; --force starts anew",
            )
        return found is not None

    def has_failed(self, entry: Entry) -> bool:
        """Whether an entry is recorded as bad, and is still what it was then."""
        return self._bad.get(entry.id) == _digest(entry.asked)

    def rows(self) -> Iterator[tuple[str, Row | Problem]]:
        """What is recorded, by id."""
        yield from self._rows(self._lines)
        for name, row in self._rows(self._bad_lines):
            yield name, Problem(str(row.get("reason")), str(row.get("error")))

    def put(self, entry: Entry, found: Row | Problem) -> None:
        """Write the line of an answer, or record what has none, once."""
        asked = {"id": entry.id, **entry.asked}
        if not isinstance(found, Problem):
            self._lines.write({**asked, **found})
            self._done[entry.id] = _digest(entry.asked)
        elif not self.has_failed(entry):
            error = found.error if found.hint is None else f"{found.error} (hint: {found.hint})"
            self._bad_lines.write({**asked, "reason": found.reason, "error": error})
            self._bad[entry.id] = _digest(entry.asked)

    def _rows(self, lines: Lines) -> Iterator[tuple[str, dict[str, Json]]]:
        for number, row in enumerate(lines.records(), start=1):
            if not isinstance(row.get("id"), str):
                raise DataError(f"{lines.path}:{number}: expected an object with an id, found none")
            yield str(row["id"]), row


def _digest(row: Mapping[str, Json]) -> str:
    """What was asked, in a few bytes."""
    asked = {name: row[name] for name in sorted((*ASKED, *BAD)) if name in row}
    return hashlib.sha256(json_text(asked).encode("utf-8", "surrogatepass")).hexdigest()[:16]
