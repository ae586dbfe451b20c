"""Test sets into documents that show only what a model may see; the gold is in their meta.

- :func:`read_coco_references`: pictures, ``references``
- :func:`read_refcoco`: pictures, ``expression`` and ``box``; JSON Lines of
  ``{"file", "expression", "width", "height", "bbox_xyxy"}`` in pixels
- :func:`read_vqa`: pictures, ``question`` and ``answers``; what questions.py reads

Evaluation tasks put their prompts around them.
"""

from collections.abc import Iterator
from pathlib import Path

from kosmos.boxes import Box
from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.pairs import coco_captions
from kosmos.corpus.formats.pictures import PictureFolder, find_usable
from kosmos.corpus.formats.questions import question_samples
from kosmos.corpus.formats.records import Row, read_rows
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image
from kosmos.files import Json
from kosmos.remote import AnyPath

_JSONL = frozenset({".jsonl"})


def read_coco_references(source: AnyPath, config: FolderConfig, tally: Tally) -> Iterator[Document]:
    """A document per picture, with all its captions."""
    folder = PictureFolder(source, config, tally)
    for name, captions in coco_captions(source, config, tally):
        references: list[Json] = [caption.strip() for caption in captions if caption.strip()]
        where = f"{source.name}: {name}"
        if not references:
            tally.leave_out("picture without captions", where)
            continue
        picture = find_usable(folder, [name], config, tally, where)
        if picture is not None:
            tally.keep()
            meta: dict[str, Json] = {"references": references, "source": picture.name}
            yield Document([Image(picture.source)], id=Path(name).stem, meta=meta)


def read_refcoco(source: AnyPath, config: FolderConfig, tally: Tally) -> Iterator[Document]:
    """A document per expression."""
    folder = PictureFolder(source, config, tally)
    for row in read_rows(source, config, tally, suffixes=_JSONL):
        name, expression = row.fields.get("file"), row.fields.get("expression")
        if not isinstance(name, str) or not isinstance(expression, str) or not expression.strip():
            tally.bad("no file or expression", row.where)
            continue
        box = _box(row, tally)
        if box is None:
            tally.bad("no box in pixels, or one without area", row.where)
            continue
        picture = find_usable(folder, [name], config, tally, row.where)
        if picture is not None:
            tally.keep()
            corners: list[Json] = [box.x0, box.y0, box.x1, box.y1]
            meta: dict[str, Json] = {
                "expression": expression.strip(),
                "box": corners,
                "source": picture.name,
            }
            yield Document([Image(picture.source)], id=row.where, meta=meta)


def read_vqa(source: AnyPath, config: FolderConfig, tally: Tally) -> Iterator[Document]:
    """A document per question."""
    for sample in question_samples(source, config, tally):
        tally.keep()
        meta: dict[str, Json] = {
            "question": sample.question,
            "answers": [*sample.answers],
            "source": sample.picture.name,
        }
        yield Document([Image(sample.picture.source)], id=sample.id, meta=meta)


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
