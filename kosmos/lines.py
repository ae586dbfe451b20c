"""JSON Lines that grow by a record at a time, and survive a kill.

::

    FILE              {"header": MADE_BY}     the first line, with header="first"
                      {...}                   a record in each line
    FILE.meta.json    MADE_BY                 with header="beside"

``MADE_BY`` is what all records depend on; a file that something else made is refused, naming what
differs, never mixed. A record is written in one piece before the next; what a kill cut short is cut
off at the next start. One process writes at a time; others may read meanwhile, with
:func:`kosmos.files.read_jsonl`.

How its users open it::

    metrics, events, sessions   Lines(path), and on resuming
                                lines.cut(number of records that are not done again)
    answers of a work list      Lines(path, made_by, header="beside"), and beside it
                                Lines(path.bad.jsonl, force=retry_bad or lines.is_new)
    predictions of a task       Lines(path, made_by, header="first")
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

from kosmos.errors import ConfigError, DataError, os_error, writing
from kosmos.files import Json, json_text, parse_json, read_json, read_jsonl, write_json
from kosmos.locks import busy, try_lock

_ANEW = "--force starts anew; another name keeps what is there"
_KEPT = "what is there is kept; free some space, and start again to go on behind it"
_BLOCK_BYTES = 1 << 16
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class Lines:
    """The file, opened to be continued; close it, or use it in a ``with`` statement.

    Args:
        path: The file; made if it is not there.
        made_by: What its records depend on beside themselves, nested as it likes.
        header: Where ``made_by`` is kept; None: nowhere.
        force: Throw away what is there.

    Raises:
        ConfigError: If what is there was made by something else, naming what differs.
        DataError: If it is not such a file, cannot be written, or another process is at it.
    """

    def __init__(
        self,
        path: Path,
        made_by: Json = None,
        *,
        header: Literal["first", "beside"] | None = None,
        force: bool = False,
    ) -> None:
        self.path = path
        self._num_header_lines = int(header == "first")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not a buffered file: what is written stays written, and nothing is written later
            self._file = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            raise os_error(error, path, act="opened") from error
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise DataError(f"{path}: expected a file, found a device or a pipe")
            if not try_lock(self._file, path):
                raise busy(path)
            with writing(path, hint=_KEPT):
                os.ftruncate(self._file, 0 if force else _end_of_whole_lines(self._file))
            made_by = parse_json(json_text(made_by), where=str(path), with_surrogates=True)
            self.is_new = header is not None and not self._is_recorded(made_by, header)
            """Whether nothing that is there was made by this."""
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def records(self, *, damaged: list[DataError] | None = None) -> Iterator[dict[str, Json]]:
        """What is there, from the first record on.

        Args:
            damaged: As for :func:`~kosmos.files.read_jsonl`.

        Raises:
            DataError: If a line is no JSON object, naming it.
        """
        for number, row in enumerate(read_jsonl(self.path, damaged=damaged), start=1):
            if not isinstance(row, dict):
                raise DataError(f"{self.path}:{number}: expected a JSON object, found {row!r:.100}")
            if number > self._num_header_lines:
                yield row

    def cut(self, num_records: int) -> None:
        """Drop all but the first records.

        Args:
            num_records: How many stay; lines that are damaged are none, and go with what is behind.
        """
        size = num_whole = 0
        with open(self.path, "rb") as file:
            for line in file:
                if num_whole == num_records + self._num_header_lines:
                    break
                size += len(line)
                num_whole += _is_record(line)
        with writing(self.path, hint=_KEPT):
            os.ftruncate(self._file, size)

    def write(self, record: dict[str, Json]) -> None:
        """Append a record; it is on its way to the disk when this returns.

        Raises:
            DataError: If the disk refuses it; nothing of it is left then.
        """
        data = f"{json_text(record)}\n".encode()
        with writing(self.path, hint=_KEPT):
            num_written = os.write(self._file, data)
            if num_written != len(data):
                os.ftruncate(self._file, os.fstat(self._file).st_size - num_written)
                raise OSError(errno.ENOSPC, "the disk took a part of a line")

    def close(self) -> None:
        """Wait until all is on the disk, and let go of the file."""
        if self._file >= 0:
            try:
                with writing(self.path, hint=_KEPT):
                    os.fsync(self._file)
            finally:
                os.close(self._file)
                self._file = -1

    def _is_recorded(self, made_by: Json, header: Literal["first", "beside"]) -> bool:
        """Whether it is written that this made what is there; if nothing is there, it is now."""
        beside = self.path.with_name(f"{self.path.name}.meta.json")
        has_records = os.fstat(self._file).st_size > 0
        if header == "first":
            damaged: list[DataError] = []
            rows = read_jsonl(self.path, damaged=damaged)
            first = next(rows, None)
            found = first if isinstance(first, dict) and first.keys() == {"header"} else None
            if found is not None:
                has_records = next(rows, None) is not None or bool(damaged)
        else:
            found = {"header": read_json(beside)} if beside.exists() else None
        if found == {"header": made_by}:
            return True
        if has_records:
            raise self._of_another(found, made_by, beside.name if header == "beside" else "line 1")
        if header == "beside":
            write_json(beside, made_by)
        else:
            os.ftruncate(self._file, 0)
            self.write({"header": made_by})
        return False

    def _of_another(self, found: dict[str, Json] | None, made_by: Json, place: str) -> ConfigError:
        told = f"its lines to say in {place} what made them, found nothing"
        if found is not None:
            differences = "; ".join(_differences(found["header"], made_by))
            told = f"lines of the same settings, found others: {differences}"
        return ConfigError(f"{self.path}: expected {told}", hint=_ANEW)


def _end_of_whole_lines(descriptor: int) -> int:
    """Where the last line ends that was written to its end."""
    stop = os.lseek(descriptor, 0, os.SEEK_END)
    while stop:
        start = max(0, stop - _BLOCK_BYTES)
        os.lseek(descriptor, start, os.SEEK_SET)
        place = os.read(descriptor, stop - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        stop = start
    return 0


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line, where="", with_surrogates=True), dict)
    except DataError:
        return False


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
