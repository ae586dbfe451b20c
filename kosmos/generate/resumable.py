"""A JSON Lines file that grows by a line for each item, and goes on where it was stopped.

::

    OUT             {"id": ..., what was asked ..., what was answered ...}   a line for each item,
                    in the order in which they finished
    OUT.meta.json   what all lines were made by: model, decoding, prompt
    OUT.bad.jsonl   {"id": ..., what was asked ..., "reason": ..., "error": ...}   items that failed

A line is written in one piece before the next item's; what a kill cut short is cut off at the next
start, and that item is answered again. A file made by other settings is refused rather than mixed,
and so is an id that was asked something else. One process writes at a time.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType

from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, read_json, write_json
from kosmos.locks import busy, try_lock

_ANEW = "--force starts anew; another --jsonl keeps what is there"


class ResumableLines:
    """The file, opened to be continued.

    Args:
        path: OUT.
        made_by: What lines depend on beside their item, nested as it likes; recorded.
        asked: Fields of a line that say what was asked; the others are the answer.
        force: Throw away what is there.
        retry_bad: Forget which items failed, so that they are tried again.

    Raises:
        ConfigError: If the lines that are there were made by something else, naming what differs.
        DataError: If the file is not such a file, cannot be written, or another process is at it.
    """

    def __init__(
        self,
        path: Path,
        made_by: Mapping[str, Json],
        *,
        asked: Collection[str],
        force: bool = False,
        retry_bad: bool = False,
    ) -> None:
        self.path = path
        self.bad_path = path.with_name(f"{path.name}.bad.jsonl")
        self._asked = frozenset(asked)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # no buffer: what is written stays written, and nothing is written later
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise DataError(f"{path}: could not be opened: {error.strerror}") from error
        try:
            if not try_lock(self._file.fileno(), path):
                raise busy(path)
            if force:
                self._file.truncate(0)
            is_same = self._check_made_by(dict(made_by))
            self._done = self._read(path)
            self._bad_file = open(self.bad_path, "ab", buffering=0)  # noqa: SIM115 - as above
            if force or retry_bad or not is_same:
                self._bad_file.truncate(0)
            self._bad = self._read(self.bad_path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "ResumableLines":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._file, self._bad_file):
            os.fsync(file.fileno())
            file.close()
        if self.bad_path.stat().st_size == 0:
            self.bad_path.unlink()

    def has(self, item_id: str, asked: Mapping[str, Json]) -> bool:
        """Whether an item is answered.

        Raises:
            ConfigError: If its id is, to something else.
        """
        found = self._done.get(item_id)
        if found is not None and found != _digest(asked):
            raise ConfigError(
                f"{self.path}: expected {item_id!r} to be what is asked now, found an answer to "
                "something else",
                hint=f"give each request an id of its own; {_ANEW}",
            )
        return found is not None

    def has_failed(self, item_id: str, asked: Mapping[str, Json]) -> bool:
        """Whether an item is recorded as bad, and is still what it was then."""
        return self._bad.get(item_id) == _digest(asked)

    def add(self, item_id: str, asked: Mapping[str, Json], answer: Mapping[str, Json]) -> None:
        """Write the line of an item that is answered."""
        self._write(self._file, self.path, {"id": item_id, **asked, **answer})
        self._done[item_id] = _digest(asked)

    def add_bad(self, item_id: str, asked: Mapping[str, Json], *, reason: str, error: str) -> None:
        """Record an item that cannot be answered, once."""
        if not self.has_failed(item_id, asked):
            row = {"id": item_id, **asked, "reason": reason, "error": error}
            self._write(self._bad_file, self.bad_path, row)
            self._bad[item_id] = _digest(asked)

    def _check_made_by(self, made_by: dict[str, Json]) -> bool:
        """Whether what is recorded is this; lines of anything else are refused."""
        path = self.path.with_name(f"{self.path.name}.meta.json")
        is_empty = os.fstat(self._file.fileno()).st_size == 0
        if not is_empty and not path.exists():
            raise ConfigError(
                f"{self.path}: expected {path.name} beside it, which says what made its lines, "
                "found none",
                hint=_ANEW,
            )
        found = read_json(path) if path.exists() else None
        if found == made_by:
            return True
        if not is_empty:
            raise ConfigError(
                f"{self.path}: expected lines of the same settings, found others: "
                + "; ".join(_differences(found, made_by)),
                hint=_ANEW,
            )
        write_json(path, made_by)
        return False

    def _read(self, path: Path) -> dict[str, str]:
        """What was asked, as a digest by id; a last line that was cut short is cut off."""
        found: dict[str, str] = {}
        offset = 0
        with open(path, "r+b") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    os.truncate(path, offset)
                    break
                offset += len(line)
                row = _row(line, f"{path}:{number}")
                asked = {name: value for name, value in row.items() if name in self._asked}
                found[str(row["id"])] = _digest(asked)
        return found

    def _write(self, file: FileIO, path: Path, row: Mapping[str, Json]) -> None:
        # escapes, since names of files need not be UTF-8
        data = json.dumps(row).encode("ascii") + b"\n"
        try:
            num_written = file.write(data)
        except OSError as error:
            raise _unwritten(path, error.strerror or str(error)) from error
        if num_written != len(data):
            raise _unwritten(path, "the disk took a part of a line")


def _row(line: bytes, where: str) -> dict[str, Json]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: expected JSON, found {error}", hint=_ANEW) from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise DataError(f"{where}: expected an object with an id, found none", hint=_ANEW)
    return row


def _unwritten(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: could not be written: {why}",
        hint="what is there is kept; free some space, and the same command goes on with it",
    )


def _digest(asked: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("ascii")).hexdigest()[:16]


def _differences(found: Json, wanted: Json) -> Iterator[str]:
    """Settings that differ, by dotted name."""
    ours, theirs = dict(_flat(wanted)), dict(_flat(found))
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} here"


def _flat(value: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value
