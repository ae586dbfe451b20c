"""Documents as JSON, pictures left out and referred to by name.

::

    {"id": "grit-17",
     "parts": [{"type": "image", "file": "0.jpg", "bytes": 30211},
               {"type": "grounded", "text": "a dog", "boxes": [[0.1, 0.2, 0.6, 0.9]]},
               {"type": "text", "text": " runs."}],
     "meta": {"source": "grit"}}

A part's ``role`` and ``loss`` are written where they are not the usual ``"text"`` and ``true``;
``bytes`` is the size of the picture's file. Floats keep all their bits.

- :func:`document_to_json`, :func:`document_from_json`: inverses, given the pictures
- :func:`image_files`: which pictures a description refers to
- :func:`checked_json`, :func:`checked_text`: what a JSON file can hold
- :class:`ImageFile`: what is said of a picture in place of its pixels
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from kosmos.boxes import Box
from kosmos.document.types import Document, Grounded, Image, Part, Role, Text
from kosmos.errors import DataError
from kosmos.files import Json

ROLES: tuple[Role, ...] = get_args(Role)
_FIELDS = {
    "text": {"type", "text", "role", "loss"},
    "grounded": {"type", "text", "boxes", "role", "loss"},
    "image": {"type", "file", "bytes", "role"},
}


class ImageFile(NamedTuple):
    """A picture's file name and size."""

    name: str
    num_bytes: int


def document_to_json(doc: Document, files: Sequence[ImageFile], *, where: str) -> dict[str, Json]:
    """The document as JSON values.

    Args:
        doc: The document.
        files: What to say of each of its images, in order.
        where: What to call the document in a message.

    Raises:
        DataError: If a box is not finite, a role is unknown, a text holds what UTF-8 cannot, or
            meta is not JSON.
    """
    if len(files) != len(doc.images):
        raise DataError(
            f"{where}: expected a file for each of {len(doc.images)} images, found {len(files)}"
        )
    remaining = iter(files)
    parts: list[Json] = []
    for index, part in enumerate(doc.parts):
        here = f"{where}, part {index}"
        if part.role not in ROLES:
            raise DataError(f"{here}: expected a role of {', '.join(ROLES)}, found {part.role!r}")
        value: dict[str, Json]
        if isinstance(part, Image):
            file = next(remaining)
            value = {"type": "image", "file": file.name, "bytes": file.num_bytes}
        elif isinstance(part, Grounded):
            boxes: list[Json] = [_box_to_json(box, here) for box in part.boxes]
            value = {"type": "grounded", "text": checked_text(part.text, here), "boxes": boxes}
        else:
            value = {"type": "text", "text": checked_text(part.text, here)}
        if part.role != "text":
            value["role"] = part.role
        if not isinstance(part, Image) and not part.loss:
            value["loss"] = False
        parts.append(value)
    meta = {_checked_key(key, f"{where}, meta"): item for key, item in doc.meta.items()}
    return {
        "id": checked_text(doc.id, f"{where}, id"),
        "parts": parts,
        "meta": {key: checked_json(item, f"{where}, meta.{key}") for key, item in meta.items()},
    }


def document_from_json(value: Json, images: Mapping[str, bytes], *, where: str) -> Document:
    """The document that :func:`document_to_json` described.

    Args:
        value: What it returned, perhaps by way of a file.
        images: The bytes of each picture, by file name.
        where: What to call the document in a message.

    Raises:
        DataError: If the value is not such a description, naming the part.
    """
    if not isinstance(value, dict) or set(value) != {"id", "parts", "meta"}:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{where}: expected a document's id, parts and meta, found {found}")
    doc_id, parts, meta = value["id"], value["parts"], value["meta"]
    if not (isinstance(doc_id, str) and isinstance(parts, list) and isinstance(meta, dict)):
        raise DataError(f"{where}: expected a text id, a list of parts and a meta object")
    return Document(
        [_part_from_json(part, images, f"{where}, part {i}") for i, part in enumerate(parts)],
        id=doc_id,
        meta=meta,
    )


def image_files(value: Json, *, where: str) -> list[ImageFile]:
    """The files that the JSON of a document refers to, in order.

    Raises:
        DataError: If the value is not the description of a document.
    """
    parts = value.get("parts") if isinstance(value, dict) else None
    if not isinstance(parts, list):
        raise DataError(f"{where}: expected a document's id, parts and meta")
    files = []
    for index, part in enumerate(parts):
        if isinstance(part, dict) and part.get("type") == "image":
            name, num_bytes = part.get("file"), part.get("bytes")
            if not (isinstance(name, str) and isinstance(num_bytes, int) and num_bytes >= 0):
                raise DataError(
                    f"{where}, part {index}: expected the file and bytes of an image, found {part}"
                )
            files.append(ImageFile(name, num_bytes))
    return files


def checked_json(value: object, where: str) -> Json:
    """The value, if a JSON file can hold it; tuples become lists.

    Raises:
        DataError: If something in it is not JSON, naming the place: a key that is no text (which
            ``json`` would turn into one), a number that is not finite, an object.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return checked_text(value, where)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [checked_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _checked_key(key, where): checked_json(item, f"{where}.{key}")
            for key, item in value.items()
        }
    raise DataError(f"{where}: expected a JSON value, found {value!r}")


def _part_from_json(value: Json, images: Mapping[str, bytes], where: str) -> Part:
    kind = value.get("type") if isinstance(value, dict) else None
    if not (isinstance(value, dict) and isinstance(kind, str) and kind in _FIELDS):
        raise DataError(f"{where}: expected a part of type {', '.join(_FIELDS)}, found {value!r}")
    unknown = sorted(set(value) - _FIELDS[kind])
    if unknown:
        raise DataError(f"{where}: expected the fields of a {kind} part, found also {unknown}")
    role, loss = _role_from_json(value.get("role", "text"), where), value.get("loss", True)
    if not isinstance(loss, bool):
        raise DataError(f"{where}: expected true or false for loss, found {loss!r}")
    if kind == "image":
        name = value.get("file")
        if not (isinstance(name, str) and name in images):
            raise DataError(f"{where}: expected one of the images {list(images)}, found {name!r}")
        return Image(images[name], role=role)
    text = value.get("text")
    if not isinstance(text, str):
        raise DataError(f"{where}: expected a text, found {text!r}")
    if kind == "text":
        return Text(text, role=role, loss=loss)
    boxes = value.get("boxes")
    if not isinstance(boxes, list):
        raise DataError(f"{where}: expected a list of boxes, found {boxes!r}")
    return Grounded(text, [_box_from_json(box, where) for box in boxes], role=role, loss=loss)


def _role_from_json(value: Json, where: str) -> Role:
    for role in ROLES:
        if value == role:
            return role
    raise DataError(f"{where}: expected a role of {', '.join(ROLES)}, found {value!r}")


def _box_to_json(box: Box, where: str) -> list[Json]:
    # float() also takes numpy's numbers, which json does not
    corners: list[float] = [float(v) for v in (box.x0, box.y0, box.x1, box.y1)]
    if not all(map(math.isfinite, corners)):
        raise DataError(f"{where}: expected finite box corners, found {corners}")
    return list(corners)


def _box_from_json(value: Json, where: str) -> Box:
    if isinstance(value, list) and len(value) == 4:
        corners = [
            float(v) for v in value if isinstance(v, int | float) and not isinstance(v, bool)
        ]
        if len(corners) == 4:
            return Box(*corners)
    raise DataError(f"{where}: expected the four corners of a box, found {value!r}")


def checked_text(text: str, where: str) -> str:
    """A text that a file and a tokenizer can hold.

    Raises:
        DataError: If UTF-8 cannot write it, which half of a surrogate pair is enough for, or if it
            is no text.
    """
    if not isinstance(text, str):
        raise DataError(f"{where}: expected text, found {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: expected text that UTF-8 can hold, found {text[error.start]!r} "
            f"at character {error.start}"
        ) from error
    return text


def _checked_key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise DataError(f"{where}: expected text as keys, found {key!r}")
    return checked_text(key, where)
