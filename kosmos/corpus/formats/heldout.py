"""Test sets into documents that show only what a model may see; the gold is in their meta.

- :func:`read_coco_references`: pictures, ``references``
- :func:`read_refcoco`: pictures, ``expression`` and ``box``; JSON Lines of
  ``{"file", "expression", "width", "height", "bbox_xyxy"}`` in pixels
- :func:`read_vqa`: pictures, ``question`` and ``answers``; what questions.py reads

Evaluation tasks put their prompts around them.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.frame import OTHER_SIZE, Frame
from kosmos.corpus.formats.pairs import coco_captions
from kosmos.corpus.formats.pictures import PictureFolder, usable
from kosmos.corpus.formats.questions import question_samples
from kosmos.corpus.formats.records import read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image
from kosmos.files import Json
from kosmos.remote import AnyPath

_JSONL = frozenset({".jsonl"})


def read_coco_references(source: AnyPath, config: FolderConfig, tally: Tally) -> Iterator[Document]:
    """A document per picture, with all its captions."""
    folder = PictureFolder(source, config, tally)
    for where, name, captions in coco_captions(source, config, tally):
        picture = usable(folder.find(name), config, tally, where)
        if picture is not None:
            tally.keep()
            meta: dict[str, Json] = {"references": [*captions], "source": picture.name}
            yield Document([Image(picture.source)], id=Path(name).stem, meta=meta)


def read_refcoco(source: AnyPath, config: FolderConfig, tally: Tally) -> Iterator[Document]:
    """A document per expression."""
    folder = PictureFolder(source, config, tally)
    for row in read_rows(source, config, tally, suffixes=_JSONL):
        name, expression = (text_field(row.fields, field) for field in ("file", "expression"))
        if name is None or expression is None:
            tally.bad("no file or expression", row.where)
            continue
        picture = usable(folder.find(name), config, tally, row.where)
        if picture is None:
            continue
        frame = Frame.stated(row.fields, picture)
        if frame is None:
            tally.bad(OTHER_SIZE, row.where)
            continue
        for box in frame.boxes(
            [row.fields.get("bbox_xyxy")],
            "xyxy-pixels",
            tally,
            phrase=expression,
            where=row.where,
            overhang=math.inf,
        ):
            tally.keep()
            meta: dict[str, Json] = {
                "expression": expression,
                "box": [box.x0, box.y0, box.x1, box.y1],
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
