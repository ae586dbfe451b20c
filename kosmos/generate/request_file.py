"""What to answer: pictures named one by one, those of a folder, or the lines of a requests file.

A requests file has a JSON object a line. Names of pictures are relative to the file::

    {"image": "photos/1.jpg", "question": "what is on the table?", "id": "q1"}
    {"images": ["a.jpg", "b.jpg"], "prompt": "It is", "candidates": ["red", "blue"]}

``question`` is for ``ask``, ``expression`` for ``refer``, ``prompt`` for the others; where a line
has none, that of the command line counts. ``id`` is the number of the line unless it says another,
``meta`` is repeated in the answer, and any other field is an error.

Whatever is wrong with a line or a subfolder, it is one :class:`Entry` that says so, and the others
are answered. Where a file's name is not UTF-8, it is written with a backslash and ``udcXX`` for
each byte ``XX`` that is none.
"""

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kosmos.document.types import Document, Image, ImageSource, Part, Text
from kosmos.errors import DataError, os_error
from kosmos.files import Json, parse_json
from kosmos.image.codec import SUFFIXES, UNREAD_SUFFIXES

MAX_LINE_BYTES = 1 << 24
"""A longer line of a requests file is no request, and is not held in memory."""
ASKED = ("image", "images", "prompt", "question", "expression", "candidates", "meta")
"""Fields of an answer that say what was asked."""
BAD = ("line", "folder")
"""Fields, and reasons, of what cannot be asked."""

_MAX_SHOWN = 1000


class Problem(NamedTuple):
    """Why something has no answer."""

    reason: str
    """What it is counted under."""
    error: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing to answer, and what its line says of it."""

    id: str
    """Unique in its list, but for a picture that is named twice."""
    images: Sequence[ImageSource] = ()
    """What is shown, in order."""
    names: Sequence[str] = ()
    """What these are called."""
    words: str = ""
    """The question, the expression or the words of the prompt."""
    candidates: Sequence[str] = ()
    """What to score behind the prompt."""
    asked: Mapping[str, Json] = field(default_factory=dict)
    """What the line of its answer repeats."""
    file: str = ""
    """The picture that is asked about by itself, as it can be opened; empty for a request."""
    problem: Problem | None = None
    """Why it cannot be asked."""

    @property
    def label(self) -> str:
        """What people call it."""
        return self.file or self.id

    def document(self, *words: str | Part) -> Document:
        """Its pictures with words, or other parts, behind them."""
        parts = [Text(part) if isinstance(part, str) else part for part in words if part]
        return Document([*map(Image, self.images), *parts], id=self.id)


def readable(name: str) -> str:
    """A name of a file as text that every encoding of Unicode has; others stay as they are."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def named_pictures(pictures: Sequence[tuple[str, ImageSource]], words: str = "") -> list[Entry]:
    """An entry for each of some pictures.

    Args:
        pictures: Their names, and what they are.
        words: What is asked of each.
    """
    names = [readable(name) for name, _ in pictures]
    return [
        Entry(
            id=name, images=(source,), names=(name,), words=words, asked={"image": name}, file=name
        )
        for name, (_, source) in zip(names, pictures, strict=True)
    ]


def folder_pictures(folder: Path, words: str = "", *, limit: int | None = None) -> list[Entry]:
    """An entry for each picture below a folder, in the order of their names.

    Hidden files and folders are passed over. An entry's id is the path from the folder on. Photos
    in formats that are not read are among them, so that each is counted.

    Args:
        folder: Where they are.
        words: What is asked of each.
        limit: The first so many only.

    Raises:
        DataError: If there is no such folder, it cannot be read, or there is no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with pictures, found none there")
    bad: list[OSError] = []
    names = sorted(_picture_names(folder, bad))
    if not names and bad:
        raise os_error(bad[0], act="read")
    if not names:
        raise DataError(f"{folder}: expected pictures ({', '.join(sorted(SUFFIXES))}), found none")
    found = named_pictures([(name, folder / name) for name in names[:limit]], words)
    found = [
        replace(entry, file=readable(str(folder / name)))
        for entry, name in zip(found, names, strict=False)
    ]
    return [*found, *(_unread_folder(error, folder) for error in bad)]


def request_lines(
    path: Path,
    field_name: str,
    words: str | None,
    *,
    needs_image: bool = True,
    candidates: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """An entry for each line of a file; empty lines are passed over.

    Args:
        path: The file.
        field_name: Where a line has its words: prompt, question or expression.
        words: Those of lines that have none; None if each must have its own.
        needs_image: Whether a line must show a picture.
        candidates: Those of lines that have none, for scoring; None where nothing is scored.
        limit: The first so many only.

    Raises:
        DataError: If the file is missing, or has no line.
    """
    fields = _Fields(path.parent, field_name, words, needs_image, candidates)
    found: list[Entry] = []
    places: dict[str, int] = {}
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(_lines(file), start=1):
                if not line.strip():
                    continue
                if limit is not None and len(found) >= limit:
                    break
                where = f"{path}:{number}"
                try:
                    entry = fields.entry(_row(line, where), default_id=str(number))
                    first = places.setdefault(entry.id, number)
                    if first != number:
                        raise DataError(f"id: expected another than {entry.id!r} of line {first}")
                except DataError as error:
                    told = f"{where}: {error.message.removeprefix(f'{where}: ')}"
                    shown = line[:_MAX_SHOWN].decode("utf-8", "replace")
                    entry = _bad(f"line {number}", "line", shown, DataError(told, hint=error.hint))
                found.append(entry)
    except OSError as error:
        raise os_error(error, path, act="read") from error
    if not found:
        raise DataError(f"{path}: expected a JSON object a line, found no line")
    return found


def _picture_names(folder: Path, bad: list[OSError]) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=bad.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES | UNREAD_SUFFIXES and not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _unread_folder(error: OSError, folder: Path) -> Entry:
    name = Path(os.fsdecode(error.filename)).relative_to(folder).as_posix()
    return _bad(f"{readable(name)}/", "folder", readable(name), os_error(error, act="read"))


def _bad(entry_id: str, reason: str, shown: str, error: DataError) -> Entry:
    problem = Problem(reason, readable(error.message), error.hint)
    return Entry(id=entry_id, asked={reason: shown}, problem=problem)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines, one at a time; of one that is too long its beginning."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line.removesuffix(b"\n")
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES + 1)


@dataclass(frozen=True, slots=True)
class _Fields:
    """What a line may say."""

    folder: Path
    name: str
    words: str | None
    needs_image: bool
    candidates: Sequence[str] | None

    def entry(self, row: Mapping[str, Json], *, default_id: str) -> Entry:
        self._check_names(row)
        entry_id = row.get("id", default_id)
        if not isinstance(entry_id, str | int) or isinstance(entry_id, bool) or entry_id == "":
            raise DataError(f"id: expected a name, found {entry_id!r:.100}")
        names = _strings(row, "images") if "images" in row else []
        names += [_string(row, "image")] if "image" in row else []
        for name in names:
            if re.match(r"[a-z][a-z0-9+.-]*://|data:", name, re.IGNORECASE):
                raise DataError(
                    f"image: expected the name of a file, found the address {name!r:.100}",
                    hint="addresses are not fetched; save the picture and name the file",
                )
        if self.needs_image and not names:
            raise DataError("expected an image, found none")
        words = _string(row, self.name) if self.name in row else self.words
        if words is None:
            raise DataError(
                f"expected a {self.name}, found none",
                hint=f"--{self.name} gives one to the lines that have none",
            )
        candidates = _strings(row, "candidates") if "candidates" in row else self.candidates
        if candidates is not None and not candidates:
            raise DataError("candidates: expected at least one, found none")
        return Entry(
            id=str(entry_id),
            images=tuple(self.folder / name for name in names),
            names=tuple(names),
            words=words,
            candidates=tuple(candidates or ()),
            asked={name: row[name] for name in ASKED if name in row},
        )

    def _check_names(self, row: Mapping[str, Json]) -> None:
        known = ["id", "image", "images", self.name, "meta"]
        known += ["candidates"] if self.candidates is not None else []
        for name in row:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise DataError(
                    f"expected fields among {', '.join(known)}, found {name!r:.100}",
                    hint=f"did you mean {near[0]!r}?" if near else "other facts go under 'meta'",
                )
        if "image" in row and "images" in row:
            raise DataError("expected image or images, found both")


def _row(line: bytes, where: str) -> dict[str, Json]:
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"expected a line of at most {MAX_LINE_BYTES:,} bytes, found a longer one")
    row = parse_json(line, where=where)
    if not isinstance(row, dict):
        raise DataError(f"expected an object, found {type(row).__name__}")
    try:
        json.dumps(row, allow_nan=False)
    except ValueError as error:
        raise DataError("expected JSON, found NaN or infinity, which it has not") from error
    return row


def _string(row: Mapping[str, Json], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value:
        raise DataError(f"{name}: expected a string, found {value!r:.100}")
    return value


def _strings(row: Mapping[str, Json], name: str) -> list[str]:
    value = row[name]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise DataError(f"{name}: expected a list of strings, found {value!r:.100}")
    return [str(item) for item in value]
