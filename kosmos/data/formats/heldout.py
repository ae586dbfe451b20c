"""Test sets into documents that show only what a model may see; the gold is in their meta.

- :func:`read_coco_references`: pictures, ``references``
- :func:`read_refcoco`: pictures, ``expression`` and ``box``; JSON Lines of
  ``{"file", "expression", "width", "height", "bbox_xyxy"}`` in pixels
- :func:`read_vqa`: pictures, ``question`` and ``answers``; JSON Lines of ``{"question_id",
  "image_id" or "file", "question", "answers"}``, or a folder with VQAv2's official
  ``questions.json`` and ``annotations.json``

Evaluation tasks put their prompts around them.
"""

from collections.abc import Iterator
from pathlib import Path

from kosmos.boxes import Box
from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.pairs import coco_captions
from kosmos.data.formats.pictures import Picture, PictureFolder, check_picture
from kosmos.data.formats.records import Row, read_rows
from kosmos.data.formats.tally import Tally
from kosmos.document.types import Document, Image
from kosmos.errors import DataError
from kosmos.files import Json, read_json
from kosmos.remote import AnyPath

_JSONL = frozenset({".jsonl"})
# how COCO's files are named in VQAv2, by split, and in later releases
_IMAGE_NAMES = (
    "{}.jpg",
    "{}.png",
    "{:0>12}.jpg",
    "COCO_val2014_{:0>12}.jpg",
    "COCO_train2014_{:0>12}.jpg",
    "COCO_test2015_{:0>12}.jpg",
)


def read_coco_references(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """A document per picture, with all its captions."""
    folder = PictureFolder(source, config)
    for name, captions in coco_captions(source, config, tally):
        references: list[Json] = [caption.strip() for caption in captions if caption.strip()]
        where = f"{source.name}: {name}"
        if not references:
            tally.leave_out("picture without captions", where)
            continue
        picture = _picture(folder, [name], config, tally, where)
        if picture is not None:
            tally.keep()
            meta: dict[str, Json] = {"references": references, "source": picture.name}
            yield Document([Image(picture.source)], id=Path(name).stem, meta=meta)


def read_refcoco(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """A document per expression."""
    folder = PictureFolder(source, config)
    for row in read_rows(source, config, tally, suffixes=_JSONL):
        name, expression = row.fields.get("file"), row.fields.get("expression")
        if not isinstance(name, str) or not isinstance(expression, str) or not expression.strip():
            tally.bad("no file or expression", row.where)
            continue
        box = _box(row, tally)
        if box is None:
            tally.bad("no box in pixels, or one without area", row.where)
            continue
        picture = _picture(folder, [name], config, tally, row.where)
        if picture is not None:
            tally.keep()
            corners: list[Json] = [box.x0, box.y0, box.x1, box.y1]
            meta: dict[str, Json] = {
                "expression": expression.strip(),
                "box": corners,
                "source": picture.name,
            }
            yield Document([Image(picture.source)], id=row.where, meta=meta)


def read_vqa(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """A document per question."""
    rows = (
        _official_vqa(source)
        if source.is_dir()
        else read_rows(source, config, tally, suffixes=_JSONL)
    )
    folder = PictureFolder(source / "questions.json" if source.is_dir() else source, config)
    for row in rows:
        question, answers = row.fields.get("question"), row.fields.get("answers")
        if not isinstance(question, str) or not isinstance(answers, list) or not answers:
            tally.bad("no question or answers", row.where)
            continue
        image_id = row.fields.get("image_id")
        name = row.fields.get("file")
        names = [name] if isinstance(name, str) else [n.format(image_id) for n in _IMAGE_NAMES]
        picture = _picture(folder, names, config, tally, row.where)
        if picture is not None:
            tally.keep()
            meta: dict[str, Json] = {
                "question": question,
                "answers": [str(answer) for answer in answers],
                "source": picture.name,
            }
            doc_id = str(row.fields.get("question_id"))
            yield Document([Image(picture.source)], id=doc_id, meta=meta)


def _official_vqa(source: AnyPath) -> Iterator[Row]:
    """Questions joined with their answers."""
    answers_of: dict[str, Json] = {}
    for row in _list(source / "annotations.json", "annotations"):
        answers = row.get("answers")
        if isinstance(answers, list):
            given = [answer.get("answer") for answer in answers if isinstance(answer, dict)]
            answers_of[str(row.get("question_id"))] = given
    for row in _list(source / "questions.json", "questions"):
        question_id = str(row.get("question_id"))
        fields: dict[str, Json] = {**row, "answers": answers_of.get(question_id)}
        yield Row(f"question {question_id}", fields)


def _list(path: AnyPath, name: str) -> list[dict[str, Json]]:
    """The objects of a list in a JSON file."""
    value = read_json(path)
    rows = value.get(name) if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected an object with a list {name!r}, found none")
    return [row for row in rows if isinstance(row, dict)]


def _picture(
    folder: PictureFolder, names: list[str], config: ImportConfig, tally: Tally, where: str
) -> Picture | None:
    picture = folder.find(*names)
    if picture is None:
        tally.leave_out("no file of the picture", where)
        return None
    if isinstance(problem := check_picture(picture.source, config), str):
        tally.bad(problem, where)
        return None
    return picture


def _box(row: Row, tally: Tally) -> Box | None:
    corners, width, height = (row.fields.get(name) for name in ("bbox_xyxy", "width", "height"))
    if not isinstance(corners, list) or len(corners) != 4:
        return None
    try:
        pixels = [float(corner) for corner in corners]  # type: ignore[arg-type]
        size = int(width), int(height)  # type: ignore[arg-type]
        box = Box.from_pixels(*pixels, width=size[0], height=size[1])
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    tally.see_box(box, size=size, phrase=str(row.fields.get("expression")))
    box = box.clipped()
    return box if box.area > 0.0 else None
