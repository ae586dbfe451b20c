"""Image-caption pairs into documents: WebDataset tars, as img2dataset writes them, and COCO.

- :func:`read_pairs`: ``KEY.jpg`` beside ``KEY.txt`` or ``KEY.json`` with a field ``caption``
- :func:`read_coco`: the official ``captions_*.json``, or JSON Lines of ``file`` and ``captions``
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.pictures import PictureFolder, check_picture
from kosmos.data.formats.records import (
    Sample,
    read_rows,
    read_samples,
    sample_fields,
    source_files,
    text_field,
)
from kosmos.data.formats.tally import Tally
from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from kosmos.files import Json


def read_pairs(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Pairs of WebDataset tars; other members of a sample are passed over."""
    for path in source_files(source, frozenset({".tar"})):
        for sample in read_samples(path, tally):
            doc = _pair(sample, config, tally)
            if doc is not None:
                tally.keep()
                yield doc


def read_coco(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """A document per caption; all of a picture's go to the same side of a held-out split."""
    folder = PictureFolder(source, config)
    for name, captions in coco_captions(source, tally):
        if not captions:
            tally.leave_out("picture without captions", f"{source.name}: {name}")
            continue
        path = folder.find(name)
        if path is None:
            tally.leave_out("no file of the picture", f"{source.name}: {name}")
            continue
        if isinstance(problem := check_picture(path, config), str):
            tally.bad(problem, f"{source.name}: {name}")
            continue
        for number, caption in enumerate(captions):
            where = f"{Path(name).stem}#{number}"
            if not caption.strip():
                tally.bad("no caption", where)
                continue
            tally.keep()
            meta: dict[str, Json] = {"source": path.name}
            yield Document([Image(path), Text(caption.strip())], id=where, meta=meta)


def _pair(sample: Sample, config: ImportConfig, tally: Tally) -> Document | None:
    fields = sample_fields(sample, tally)
    if fields is None:
        return None
    if fields.get("status", "success") != "success":
        tally.leave_out("not fetched by img2dataset", sample.where)
        return None
    caption = text_field(fields, "caption")
    if caption is None and ".txt" in sample.members:
        caption = sample.members[".txt"].decode("utf-8", errors="replace").strip()
    if not caption:
        tally.bad("no caption", sample.where)
        return None
    if sample.picture is None:
        tally.bad("no picture", sample.where)
        return None
    if isinstance(problem := check_picture(sample.picture, config), str):
        tally.bad(problem, sample.where)
        return None
    meta: dict[str, Json] = {"source": sample.key}
    if (url := text_field(fields, "url")) is not None:
        meta["url"] = url
    return Document([Image(sample.picture), Text(caption)], id=sample.where, meta=meta)


def coco_captions(source: Path, tally: Tally) -> Iterator[tuple[str, list[str]]]:
    """File names and captions of each picture of a COCO file.

    Raises:
        DataError: If a ``.json`` file is not the official layout.
    """
    if source.suffix != ".json":
        for row in read_rows(source, tally, suffixes=frozenset({".jsonl"})):
            name, captions = row.fields.get("file"), row.fields.get("captions")
            if not isinstance(name, str) or not isinstance(captions, list):
                tally.bad("no file or captions", row.where)
                continue
            yield name, [str(caption) for caption in captions]
        return
    try:
        value = json.loads(source.read_bytes())
        names = {row["id"]: row["file_name"] for row in value["images"]}
        captions_of: dict[int, list[str]] = defaultdict(list)
        for row in value["annotations"]:
            captions_of[row["image_id"]].append(row["caption"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{source}: expected COCO captions with images and annotations, found {error!r}"
        ) from error
    for image_id, name in names.items():
        yield name, captions_of[image_id]
