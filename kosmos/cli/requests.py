"""What to answer: the pictures of a folder, or the lines of a requests file.

A requests file has a JSON object a line. Names of pictures are relative to the file::

    {"image": "photos/1.jpg", "question": "what is on the table?", "id": "q1"}
    {"images": ["a.jpg", "b.jpg"], "prompt": "It is", "candidates": ["red", "blue"]}

``question`` is for ``ask``, ``expression`` for ``refer``, ``prompt`` for the others; where a line
has none, that of the command line counts. ``id`` is the number of the line unless it says another,
``meta`` is repeated in the answer, and any other field is an error.
"""

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError, DataError
from kosmos.files import Json
from kosmos.generate.worklist import Item

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".avif", ".jp2", ".j2k"}
)
"""What is taken for a picture in a folder, in small or capital letters."""

ASKED = ("image", "images", "prompt", "question", "expression", "candidates", "meta", "line")
"""Fields of an answer that say what was asked; ``line`` is one that was no request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a command asks of each picture or line."""

    field: str
    """Where a line has its words: prompt, question or expression."""
    words: str | None
    """Those of the command line; None if a line must have its own."""
    prompt: Callable[[str], str] = str
    """Words to the prompt behind the pictures."""
    needs_image: bool = True
    """Whether a line must show a picture."""
    candidates: Sequence[str] | None = None
    """Those of the command line, for scoring; None where nothing is scored."""


class BadLine(NamedTuple):
    """A line of a requests file that is not a request."""

    id: str
    asked: Mapping[str, Json]
    error: str


def folder_items(folder: Path, form: Form, *, limit: int | None = None) -> list[Item]:
    """An item for each picture below a folder, in the order of their names.

    Hidden files and folders are passed over. An item's id is the path from the folder on.

    Raises:
        DataError: If there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with pictures, found none there")
    names = sorted(_picture_names(folder))
    if not names:
        raise DataError(
            f"{folder}: expected pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), found none"
        )
    return [file_item(name, form, source=folder / name) for name in names[:limit]]


def file_item(name: str, form: Form, *, source: Path) -> Item:
    """An item for one picture."""
    doc = Document([Image(source), *_text(form, form.words or "")], id=name)
    return Item(id=name, doc=doc, asked={"image": name})


def request_items(
    path: Path, form: Form, *, limit: int | None = None
) -> tuple[list[Item], list[BadLine]]:
    """Items of the lines of a file, and the lines that are none; empty lines are passed over.

    Raises:
        DataError: If the file is missing, or has no line.
    """
    items: list[Item] = []
    bad: list[BadLine] = []
    places: dict[str, int] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: expected a requests file, found {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if limit is not None and len(items) + len(bad) >= limit:
            break
        try:
            item = _item(line, form, folder=path.parent, default_id=str(number))
            first = places.setdefault(item.id, number)
            if first != number:
                raise DataError(f"expected an id of its own, found {item.id!r} of line {first}")
            items.append(item)
        except (DataError, ConfigError) as error:
            asked = {"line": line.decode("utf-8", "replace")}
            bad.append(BadLine(f"line {number}", asked, f"{path}:{number}: {error}"))
    if not items and not bad:
        raise DataError(f"{path}: expected a JSON object a line, found no line")
    return items, bad


def _picture_names(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            is_picture = os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES
            if is_picture and not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _item(line: bytes, form: Form, *, folder: Path, default_id: str) -> Item:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"expected JSON, found {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"expected an object, found {type(row).__name__}")
    known = ["id", "image", "images", form.field, "meta"]
    known += ["candidates"] if form.candidates is not None else []
    for name in row:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise DataError(
                f"expected fields among {', '.join(known)}, found {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "other facts go under 'meta'",
            )
    if "image" in row and "images" in row:
        raise DataError("expected image or images, found both")
    item_id = row.get("id", default_id)
    if not isinstance(item_id, str | int) or isinstance(item_id, bool) or item_id == "":
        raise DataError(f"id: expected a name, found {item_id!r}")
    names = _strings(row, "images") if "images" in row else []
    names += [_string(row, "image")] if "image" in row else []
    if form.needs_image and not names:
        raise DataError("expected an image, found none")
    if form.field not in row and form.words is None:
        raise DataError(
            f"expected a {form.field}, found none",
            hint=f"--{form.field} gives one to the lines that have none",
        )
    words = _string(row, form.field) if form.field in row else form.words or ""
    candidates = _strings(row, "candidates") if "candidates" in row else form.candidates
    if candidates is not None and not candidates:
        raise DataError("candidates: expected at least one, found none")
    shown = [Image(folder / name) for name in names]
    return Item(
        id=str(item_id),
        doc=Document([*shown, *_text(form, words)], id=str(item_id)),
        asked={name: row[name] for name in ASKED if name in row},
        candidates=tuple(candidates or ()),
    )


def _text(form: Form, words: str) -> list[Text]:
    prompt = form.prompt(words)
    return [Text(prompt)] if prompt else []


def _string(row: Mapping[str, Json], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value:
        raise DataError(f"{name}: expected a string, found {value!r}")
    return value


def _strings(row: Mapping[str, Json], name: str) -> list[str]:
    value = row[name]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise DataError(f"{name}: expected a list of strings, found {value!r}")
    return [str(item) for item in value]
