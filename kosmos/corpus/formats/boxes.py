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
the ``width`` and ``height`` that the row states (frame.py), or else of the picture as it is. A box
that is none is bad, and costs no other one.

With a caption, the row is one document, and its phrases must stand in it, the first of equals
unless ``start`` says where. Without, every phrase is a document: its words, and its boxes behind
them. COCO's boxes of one category in a picture are those of one phrase; crowds are left out.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from kosmos.boxes import Box
from kosmos.corpus.formats.config import BoxesConfig
from kosmos.corpus.formats.frame import CONVENTIONS, OTHER_SIZE, Frame, whole_number
from kosmos.corpus.formats.grit import Phrase, grounded_parts
from kosmos.corpus.formats.official import joined, read_lists
from kosmos.corpus.formats.pictures import PictureFolder, usable
from kosmos.corpus.formats.records import Row, read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Grounded, Image, Part
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.remote import AnyPath

_COCO = "xywh-pixels"


class _Thing(NamedTuple):
    """A phrase and where it is."""

    phrase: str
    start: Json
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
        picture = usable(folder.find(name), config, tally, row.where)
        if picture is None:
            continue
        frame = Frame.stated(row.fields, picture)
        if frame is None:
            tally.bad(OTHER_SIZE, row.where)
            continue
        things = _things(row, convention, frame, tally)
        documents = _documents(row, things) if things else []
        if isinstance(documents, str):
            tally.bad(documents, row.where)
            continue
        for number, parts in enumerate(documents):
            tally.keep()
            where = f"{row.where}#{number}" if len(documents) > 1 else row.where
            yield Document([Image(picture.source), *parts], id=where, meta={"source": picture.name})


def _rows(source: AnyPath, config: BoxesConfig, tally: Tally) -> Iterator[Row]:
    if source.suffix == ".json":
        return _coco_rows(source, config, tally)
    return read_rows(source, config, tally, suffixes=frozenset({".jsonl"}))


def _coco_rows(source: AnyPath, config: BoxesConfig, tally: Tally) -> Iterator[Row]:
    """Pictures of a COCO file with the boxes of each category."""
    if config.boxes not in ("", _COCO):
        raise DataError(
            f"{source}: expected boxes={_COCO}, which COCO's file has by definition, found "
            f"boxes={config.boxes}",
            hint="--set boxes= leaves it to the file; other boxes go into JSON Lines",
        )
    images, annotations, categories = read_lists(
        source, tally, "images", "annotations", "categories"
    )
    names = {
        whole_number(row.fields.get("id")): text_field(row.fields, "name") for row in categories
    }
    for image, found in joined(images, annotations, tally, on=("id", "image_id")):
        where = f"{source.name}: {image.fields.get('file_name')}"
        boxes_of: dict[str, list[Json]] = {}
        for row in found:
            name = names.get(whole_number(row.fields.get("category_id")))
            if row.fields.get("iscrowd"):
                tally.leave_out("crowd", row.where)
            elif name is None:
                tally.bad("box of no category", row.where)
            else:
                boxes_of.setdefault(name, []).append(row.fields.get("bbox"))
        if not boxes_of:
            tally.leave_out("picture without boxes", where)
            continue
        fields: dict[str, Json] = {
            "file": image.fields.get("file_name"),
            "width": image.fields.get("width"),
            "height": image.fields.get("height"),
            "convention": _COCO,
            "objects": [{"phrase": name, "boxes": boxes} for name, boxes in boxes_of.items()],
        }
        yield Row(where, fields)


def _convention(fields: dict[str, Json], config: BoxesConfig) -> str:
    """As the row names it, or the setting; a row of one phrase may have its boxes in ``boxes``."""
    named = fields.get("convention", fields.get("boxes"))
    return named if isinstance(named, str) else config.boxes


def _things(row: Row, convention: str, frame: Frame, tally: Tally) -> list[_Thing]:
    """Phrases of a row with boxes that are of use."""
    objects = row.fields.get("objects", [row.fields])
    things = []
    for item in objects if isinstance(objects, list) else []:
        fields = item if isinstance(item, dict) else {}
        phrase, given = text_field(fields, "phrase", "expression", "category"), _given(fields)
        if phrase is None or not given:
            tally.bad("object without a " + ("phrase" if phrase is None else "box"), row.where)
        elif boxes := frame.boxes(given, convention, tally, phrase=phrase, where=row.where):
            things.append(_Thing(phrase, fields.get("start"), boxes))
    if not objects or not isinstance(objects, list):
        tally.bad("no objects", row.where)
    return things


def _given(fields: dict[str, Json]) -> list[Json]:
    """The boxes of an object: one, or several in a list."""
    one = fields.get("box", fields.get("bbox", fields.get("bbox_xyxy")))
    if one is not None:
        return [one]
    several = fields.get("boxes")
    return several if isinstance(several, list) else []


def _documents(row: Row, things: list[_Thing]) -> list[list[Part]] | str:
    """What stands behind the picture of each document; or in few words what is wrong."""
    caption = row.fields.get("caption")
    if caption is None:
        return [[Grounded(thing.phrase, thing.boxes)] for thing in things]
    if not isinstance(caption, str) or not caption.strip():
        return "no caption"
    boxes_of: dict[tuple[int, int], list[Box]] = {}
    for phrase, place, boxes in things:
        start = caption.find(phrase) if place is None else whole_number(place)
        if start is None:
            return "start that is no whole number"
        if start < 0 or not caption.startswith(phrase, start):
            return "phrase that does not stand in the caption"
        boxes_of.setdefault((start, start + len(phrase)), []).extend(boxes)
    spans = sorted(boxes_of)
    if any(one[1] > other[0] for one, other in pairwise(spans)):
        return "phrases that overlap"
    phrases = [Phrase(*span, tuple(boxes_of[span])) for span in spans]
    return [grounded_parts(caption, phrases)]
