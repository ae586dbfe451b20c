"""Things with boxes, of one's own or as detectors are trained on them, into grounded documents.

- :func:`read_boxes`: JSON Lines of pictures and what is where in them, or COCO's detection file

Rows of JSON Lines, with or without a caption that the phrases stand in::

    {"file": "kite.jpg", "boxes": "xyxy-pixels", "objects": [
        {"phrase": "a red kite", "box": [40, 30, 120, 90]},
        {"phrase": "trees", "boxes": [[0, 100, 30, 119], [130, 98, 160, 120]]}]}
    {"file": "kite.jpg", "caption": "a red kite over trees", "objects": [
        {"phrase": "a red kite", "box": [40, 30, 120, 90]}]}
    {"file": "kite.jpg", "phrase": "a red kite", "box": [40, 30, 120, 90]}

What four numbers mean is said by the row (``"boxes": "xyxy-pixels"``, or ``"convention"``), or by
the setting ``boxes`` for all rows that do not; COCO's file says it by being one: a corner and a
size, in pixels. Nothing is guessed, and a row that nobody speaks for is bad. Pixels are those of
the ``width`` and ``height`` that the row states, or else of the picture as it is.

With a caption, the row is one document, and its phrases must stand in it, the first of equals
unless ``start`` says where. Without, every phrase is a document: its words, and its boxes behind
them. COCO's boxes of one category in a picture are those of one phrase; crowds are left out.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from kosmos.boxes import Box
from kosmos.corpus.formats.config import BoxesConfig
from kosmos.corpus.formats.grit import Phrase, grounded_parts
from kosmos.corpus.formats.pictures import PictureFolder, find_usable
from kosmos.corpus.formats.records import Row, read_rows, read_whole, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Grounded, Image, Part
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.image.codec import image_size
from kosmos.remote import AnyPath

CONVENTIONS = ("xyxy-pixels", "xywh-pixels", "xyxy-fractions", "xywh-fractions")
_COCO = "xywh-pixels"
_OVERHANG = 0.02
"""Reaching so far out of the picture is a slip, and cut; further is another convention."""


class _Thing(NamedTuple):
    """A phrase and where it is."""

    phrase: str
    start: int | None
    boxes: list[Box]


def read_boxes(source: AnyPath, config: BoxesConfig, tally: Tally) -> Iterator[Document]:
    """A document per caption, or per phrase where there is none."""
    folder = PictureFolder(source, config, tally)
    for row in _rows(source, config, tally):
        name = text_field(row.fields, "file", "image")
        if name is None:
            tally.bad("no file", row.where)
            continue
        convention = _convention(row.fields, config)
        if convention not in CONVENTIONS:
            what = f"expected one of {', '.join(CONVENTIONS)}, found {convention!r}"
            tally.bad("nothing says what the numbers of a box mean", f"{row.where}: {what}")
            continue
        picture = find_usable(folder, [name], config, tally, row.where)
        if picture is None:
            continue
        size = _size(row.fields) or image_size(picture.source, where=row.where)
        found = _things(row, convention, size, tally)
        documents = found if isinstance(found, str) else _documents(row, found)
        if isinstance(documents, str):
            tally.bad(documents, row.where)
            continue
        for number, parts in enumerate(documents):
            tally.keep()
            where = f"{row.where}#{number}" if len(documents) > 1 else row.where
            yield Document([Image(picture.source), *parts], id=where, meta={"source": picture.name})


def _rows(source: AnyPath, config: BoxesConfig, tally: Tally) -> Iterator[Row]:
    if source.suffix == ".json":
        yield from _coco_rows(source, config, tally)
    else:
        yield from read_rows(source, config, tally, suffixes=frozenset({".jsonl"}))


def _coco_rows(source: AnyPath, config: BoxesConfig, tally: Tally) -> Iterator[Row]:
    """Pictures of a COCO file with the boxes of each category."""
    if config.boxes not in ("", _COCO):
        raise DataError(
            f"{source}: expected boxes={_COCO}, which COCO's file has by definition, found "
            f"boxes={config.boxes}",
            hint="--set boxes= leaves it to the file; other boxes go into JSON Lines",
        )
    value: Any = read_whole(source)
    try:
        names = {row["id"]: str(row["name"]) for row in value["categories"]}
        boxes_of: dict[int, dict[str, list[Json]]] = {}
        for row in value["annotations"]:
            if row.get("iscrowd"):
                tally.leave_out("crowd", f"{source.name}: annotation {row.get('id')}")
                continue
            phrases = boxes_of.setdefault(row["image_id"], {})
            phrases.setdefault(names[row["category_id"]], []).append(row["bbox"])
        images = [(row["id"], row) for row in value["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{source}: expected COCO's images, annotations and categories, found {error!r}"
        ) from error
    for image_id, image in images:
        where = f"{source.name}: {image.get('file_name')}"
        if image_id not in boxes_of:
            tally.leave_out("picture without boxes", where)
            continue
        objects: list[Json] = [
            {"phrase": phrase, "boxes": boxes} for phrase, boxes in boxes_of[image_id].items()
        ]
        fields: dict[str, Json] = {
            "file": image.get("file_name"),
            "width": image.get("width"),
            "height": image.get("height"),
            "convention": _COCO,
            "objects": objects,
        }
        yield Row(where, fields)


def _convention(fields: dict[str, Json], config: BoxesConfig) -> str:
    """As the row names it, or the setting; a row of one phrase may have its boxes in ``boxes``."""
    named = fields.get("convention", fields.get("boxes"))
    return named if isinstance(named, str) else config.boxes


def _size(fields: dict[str, Json]) -> tuple[int, int] | None:
    """Width and height that a row states."""
    width, height = fields.get("width"), fields.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _things(row: Row, convention: str, size: tuple[int, int], tally: Tally) -> list[_Thing] | str:
    """Phrases of a row and their boxes; or in few words what is wrong with it."""
    objects = row.fields.get("objects", [row.fields])
    things = []
    for item in objects if isinstance(objects, list) else []:
        fields = item if isinstance(item, dict) else {}
        phrase, start = text_field(fields, "phrase", "expression", "category"), fields.get("start")
        if phrase is None:
            return "object without a phrase"
        boxes = []
        for numbers in _numbers(fields):
            box = _box(numbers, convention, size)
            if box is None:
                return "box that is not four numbers"
            tally.see_box(box, size=size, phrase=phrase)
            if not (box.x0 < box.x1 and box.y0 < box.y1):
                return f"box without area, or reversed, read as {convention}"
            if min(box.x0, box.y0) < -_OVERHANG or max(box.x1, box.y1) > 1 + _OVERHANG:
                return f"box outside the picture, read as {convention}"
            boxes.append(box.clipped())
        if not boxes or any(box.area == 0.0 for box in boxes):
            return "object without a box in the picture"
        things.append(_Thing(phrase, start if isinstance(start, int) else None, boxes))
    return things or "no objects"


def _numbers(fields: dict[str, Json]) -> list[Json]:
    """The boxes of an object: one, or several in a list."""
    one = fields.get("box", fields.get("bbox", fields.get("bbox_xyxy")))
    if one is not None:
        return [one]
    several = fields.get("boxes")
    return several if isinstance(several, list) else []


def _box(numbers: Json, convention: str, size: tuple[int, int]) -> Box | None:
    """Four numbers as a box; None if they are none."""
    values = numbers if isinstance(numbers, list) else []
    four = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(four) != 4 or len(values) != 4 or not all(map(math.isfinite, four)):
        return None
    x0, y0, x1, y1 = four
    if convention.startswith("xywh"):
        x1, y1 = x0 + x1, y0 + y1
    if convention.endswith("fractions"):
        return Box(x0, y0, x1, y1)
    return Box.from_pixels(x0, y0, x1, y1, width=size[0], height=size[1])


def _documents(row: Row, things: list[_Thing]) -> list[list[Part]] | str:
    """What stands behind the picture of each document; or in few words what is wrong."""
    caption = row.fields.get("caption")
    if caption is None:
        return [[Grounded(thing.phrase, thing.boxes)] for thing in things]
    if not isinstance(caption, str) or not caption.strip():
        return "no caption"
    boxes_of: dict[tuple[int, int], list[Box]] = {}
    for thing in things:
        start = caption.find(thing.phrase) if thing.start is None else thing.start
        if start < 0 or not caption.startswith(thing.phrase, start):
            return "phrase that does not stand in the caption"
        boxes_of.setdefault((start, start + len(thing.phrase)), []).extend(thing.boxes)
    spans = sorted(boxes_of)
    if any(one[1] > other[0] for one, other in pairwise(spans)):
        return "phrases that overlap"
    phrases = [Phrase(*span, tuple(boxes_of[span])) for span in spans]
    return [grounded_parts(caption, phrases)]
