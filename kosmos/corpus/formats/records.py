"""Records of the containers that formats share: files of a folder, lines, JSON values, tables.

What is parsed is parsed a record at a time, whatever the container, and never more of it than
limits.py allows: a record that is larger, or that cannot be read, is counted and passed over.

- :func:`source_files`, :func:`files_below`: the files of a source
- :func:`read_rows`: JSON Lines, JSON lists and Parquet as :class:`Row`
- :func:`read_lines`, :func:`read_object`, :func:`read_whole`: what those are made of
- :func:`undamaged`: what becomes of a file that ends early
"""

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.limits import MAX_LINE_BYTES, MAX_SKIPPED_BYTES, MAX_WHOLE_BYTES, MiB
from kosmos.corpus.formats.parquet import read_parquet
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.tars import unpacked
from kosmos.errors import DataError, os_error
from kosmos.files import Json, parse_json
from kosmos.remote import AnyPath, RemotePath

ROW_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".parquet"})
"""Of files that :func:`read_rows` reads."""
CUT = "last line that ends early"
"""A reason that may mean that the file has lost more than this line."""
_PROTOCOL = re.compile(r"\w+:/+")
_TOO_LONG = f"line over {MAX_LINE_BYTES // MiB} MiB"
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
"""A string, or what JSON is nested by; a quotation mark alone begins a string without an end."""

logger = logging.getLogger(__name__)
_Item = TypeVar("_Item")


class SourceFile(NamedTuple):
    """A file of a source."""

    path: AnyPath
    name: str
    """Where it is in the folder that is the source; what its records are called by."""


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON object of a file or a row of a table, and what to call it."""

    where: str
    fields: dict[str, Json]
    files: Mapping[str, list[bytes | None]] = field(default_factory=dict)
    """Bytes by column, where a table holds them."""

    @property
    def picture(self) -> bytes | None:
        """The bytes of the first column that holds any."""
        found = (data for column in self.files.values() for data in column if data)
        return next(found, None)


def source_files(
    source: AnyPath | SourceFile, suffixes: frozenset[str], tally: Tally
) -> list[SourceFile]:
    """The file itself, or those of a folder with one of the suffixes, sorted by name.

    Raises:
        DataError: If there is none.
    """
    if isinstance(source, SourceFile):
        return [source]
    if source.is_file():
        return [SourceFile(source, source.name)]
    files = files_below(source, suffixes, tally)
    if not files:
        wanted = ", ".join(sorted(suffixes))
        found = "none in the folder" if source.is_dir() else "nothing there"
        raise DataError(f"{source}: expected a file, or a folder of {wanted} files, found {found}")
    return [SourceFile(path, _name_in(source, path)) for path in files]


def files_below(folder: AnyPath, suffixes: frozenset[str], tally: Tally) -> list[AnyPath]:
    """Files with one of the suffixes in a folder and all folders in it, sorted by name.

    Folders that cannot be read, and links to folders, which are not entered, are counted.
    """
    found: list[AnyPath] = []
    if isinstance(folder, RemotePath):
        found += (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
        return sorted(found, key=str)

    def refused(error: OSError) -> None:
        if error.filename != str(folder) or folder.is_dir():
            tally.bad("folder that cannot be read", f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=refused):
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                tally.leave_out("link to a folder", str(path))
        for path in (Path(parent, name) for name in names):
            if path.suffix.lower() in suffixes and path.is_file():
                found.append(path)
            elif path.suffix.lower() in suffixes:
                tally.leave_out("no regular file", str(path))
    return sorted(found, key=str)


def _name_in(folder: AnyPath, path: AnyPath) -> str:
    if isinstance(path, Path):
        return path.relative_to(str(folder)).as_posix()
    bare, start = (_PROTOCOL.sub("", str(name)) for name in (path, folder))
    return bare.removeprefix(start).lstrip("/")


def undamaged(items: Iterator[_Item], config: ImportConfig, tally: Tally) -> Iterator[_Item]:
    """Items of one file; one that is damaged ends there, where the config says so.

    Raises:
        DataError: If the file is damaged and that is to stop the import.
    """
    try:
        yield from items
    except (DataError, OSError) as error:
        told = error if isinstance(error, DataError) else os_error(error)
        if config.damaged_files == "stop":
            hint = "--set damaged_files=count keeps what is whole and counts the file as bad"
            raise DataError(told.message, hint=told.hint or hint) from error
        tally.bad("file that is damaged or ends early", told.message)


def read_rows(
    source: AnyPath | SourceFile,
    config: ImportConfig,
    tally: Tally,
    *,
    suffixes: frozenset[str] = ROW_SUFFIXES,
    needs: Collection[str] = (),
) -> Iterator[Row]:
    """JSON objects of JSON Lines files or of files that hold one JSON list, rows of Parquet files.

    A line that is no JSON object is counted as bad and passed over.

    Args:
        source: A file or a folder.
        config: What a damaged file does.
        tally: Takes what is bad.
        suffixes: Of the files to read in a folder.
        needs: Columns that a table must have.

    Raises:
        DataError: If a file is damaged, a ``.json`` file does not hold a list, a table lacks a
            column, or there is no file.
    """
    for file in source_files(source, suffixes, tally):
        suffix = file.path.suffix.lower()
        if suffix == ".parquet":
            rows = _read_table(file, needs, tally)
        elif suffix == ".json":
            rows = _read_list(file, tally)
        else:
            rows = _read_json_lines(file, tally)
        yield from undamaged(rows, config, tally)


def read_lines(file: SourceFile, tally: Tally) -> Iterator[tuple[int, bytes]]:
    """Lines of a file with their numbers, from 1; those that are too long are counted.

    Raises:
        OSError, DataError: If the file cannot be read.
    """
    with file.path.open("rb") as packed:
        lines, number = unpacked(packed), 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
                yield number, line
                continue
            tally.bad(_TOO_LONG, f"{file.name}:{number}")
            num_skipped = 0
            while not line.endswith(b"\n") and (line := lines.readline(MiB)):
                num_skipped += len(line)
                if num_skipped > MAX_SKIPPED_BYTES:
                    tally.bad("file without line breaks, not read further", file.name)
                    return


def read_object(data: bytes, where: str, tally: Tally, *, is_cut: bool = False) -> Row | None:
    """A JSON object as a row; None, counted, if it is none.

    Args:
        data: Its text.
        where: What to call it.
        tally: Takes what is wrong.
        is_cut: Whether the text may lack its end.
    """
    if len(data) > MAX_LINE_BYTES:
        tally.bad(_TOO_LONG.replace("line", "JSON"), where)
        return None
    try:
        value = parse_json(data, where=where)
    except DataError as error:
        is_json = error.__cause__ is None  # but nests too deeply, say
        what = error.message.removeprefix(f"{where}: expected JSON, found ")
        tally.bad(what if is_json else CUT if is_cut else "not JSON", where)
        if is_cut:
            logger.warning("%s: has no end and is no JSON; the source may be cut", where)
        return None
    if isinstance(value, dict):
        return Row(where, value)
    tally.bad("not a JSON object", where)
    return None


def read_whole(path: AnyPath) -> Json:
    """The JSON value that a file is.

    Raises:
        DataError: If it cannot be read, is none, or is larger than what is read as a whole.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_WHOLE_BYTES + 1)
    except OSError as error:
        raise os_error(error, path) from error
    if len(data) > MAX_WHOLE_BYTES:
        raise DataError(f"{path}: expected at most {MAX_WHOLE_BYTES / 1e9:.1f} GB of JSON")
    return parse_json(data, where=str(path))


def text_field(fields: Mapping[str, Json], *names: str) -> str | None:
    """The first of some fields that holds text, its ends stripped; None if none does."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _read_table(file: SourceFile, needs: Collection[str], tally: Tally) -> Iterator[Row]:
    for number, fields, files in read_parquet(file.path, needs=needs):
        if fields is None:
            tally.bad("row that cannot be read", f"{file.name}[{number}]")
        else:
            yield Row(f"{file.name}[{number}]", fields, files)


def _read_json_lines(file: SourceFile, tally: Tally) -> Iterator[Row]:
    for number, line in read_lines(file, tally):
        if line.strip():
            where, is_cut = f"{file.name}:{number}", not line.endswith(b"\n")
            if (row := read_object(line, where, tally, is_cut=is_cut)) is not None:
                yield row


def _read_list(file: SourceFile, tally: Tally) -> Iterator[Row]:
    for number, text in enumerate(_values(file.path)):
        if (row := read_object(text, f"{file.name}[{number}]", tally)) is not None:
            yield row


def _values(path: AnyPath) -> Iterator[bytes]:
    """The texts of the values in a JSON list, not looked into."""
    text, begin, end, depth = b"", 0, 0, 0
    with path.open("rb") as packed:
        file = unpacked(packed)
        while chunk := file.read(MiB):
            text, begin, end = text[begin:] + chunk, 0, end - begin
            if len(text) > MAX_LINE_BYTES + MiB:
                limit = f"{MAX_LINE_BYTES // MiB} MiB"
                raise DataError(f"{path}: expected a JSON list of values up to {limit}, found more")
            for match in _TOKEN.finditer(text, end):
                token, start = match[0], match.start()
                if token == b'"':
                    break
                end = match.end()
                if depth == 0 and (token != b"[" or text[:start].strip(b" \t\r\n\xef\xbb\xbf")):
                    raise DataError(f"{path}: expected a JSON list, found {text[:20]!r}")
                depth += (token in b"[{") - (token in b"]}")
                if depth == 0 or (depth == 1 and token == b","):
                    if text[begin:start].strip() or depth:
                        yield text[begin:start]
                    begin = end
                elif depth == 1 and token == b"[":
                    begin = end
                if depth == 0:
                    return
    found = "its end missing" if depth else f"{text[:20]!r}"
    raise DataError(f"{path}: expected a JSON list, found {found}")
