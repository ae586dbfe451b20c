"""Image-caption pairs into documents: tars, tables and lines of the web, and COCO.

- :func:`read_pairs`: WebDataset tars as img2dataset writes them, ``KEY.jpg`` beside ``KEY.txt`` or
  ``KEY.json`` with a field ``caption``; Parquet with a column of pictures (``jpg``, or ``image`` as
  Hugging Face has it) and ``caption``; the release's TSV (tsv.py), its boxes not looked at
- :func:`read_coco`: the official ``captions_*.json``, or JSON Lines of ``file`` (or ``image``) and
  ``captions``, or ``caption`` for one

With ``prompt`` in the config, every caption follows those words and alone carries loss.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

import PIL.Image

from kosmos.corpus.formats.config import CocoConfig, FolderConfig, PairsConfig
from kosmos.corpus.formats.official import joined, read_lists
from kosmos.corpus.formats.pictures import PictureFolder, check_picture, usable
from kosmos.corpus.formats.records import (
    Row,
    SourceFile,
    read_rows,
    source_files,
    text_field,
    undamaged,
)
from kosmos.corpus.formats.samples import Sample, read_samples, sample_fields
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.tsv import TsvRow, read_tsv
from kosmos.document.types import Document, Image, Part, Text
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.remote import AnyPath


def read_pairs(source: AnyPath, config: PairsConfig, tally: Tally) -> Iterator[Document]:
    """Pairs of tars, TSV and Parquet files; other members and columns are passed over.

    A row of TSV whose caption holds a tab or a line break is bad, and never read as two.
    """
    for file in source_files(source, frozenset({".tar", ".tsv", ".parquet"}), tally):
        for doc in _pairs(file, config, tally):
            if doc is not None:
                tally.keep()
                yield doc


def _pairs(file: SourceFile, config: PairsConfig, tally: Tally) -> Iterator[Document | None]:
    match file.path.suffix.lower():
        case ".tar":
            for sample in read_samples(file, config, tally):
                yield _sample_pair(sample, config, tally)
        case ".tsv":
            for row in undamaged(read_tsv(file, tally), config, tally):
                yield _tsv_pair(row, config, tally)
        case ".parquet":
            for table_row in read_rows(file, config, tally, needs=("caption",)):
                yield _table_pair(table_row, config, tally)
        case _:
            raise DataError(f"{file.path}: expected a file named .tar, .tsv or .parquet")


def read_coco(source: AnyPath, config: CocoConfig, tally: Tally) -> Iterator[Document]:
    """A document per caption; all of a picture's go to the same side of a held-out split."""
    folder = PictureFolder(source, config, tally)
    counts: Counter[str] = Counter()  # captions of a picture may be rows apart
    for where, name, captions in coco_captions(source, config, tally):
        picture = usable(folder.find(name), config, tally, where)
        if picture is None:
            continue
        stem = PurePosixPath(name).stem
        for caption in captions:
            tally.keep()
            parts: list[Part] = [Image(picture.source), *_words(caption, config.prompt)]
            yield Document(parts, f"{stem}#{counts[stem]}", {"source": picture.name})
            counts[stem] += 1


def _sample_pair(sample: Sample, config: PairsConfig, tally: Tally) -> Document | None:
    fields = sample_fields(sample, tally)
    if fields is None or not _is_fetched(fields, sample.where, tally):
        return None
    caption = text_field(fields, "caption")
    if caption is None and ".txt" in sample.members:
        with suppress(UnicodeDecodeError):
            caption = sample.members[".txt"].decode("utf-8").strip()
    meta = {"source": sample.key, **_url(fields)}
    return _pair(sample.picture, caption, sample.where, meta, config, tally)


def _tsv_pair(row: TsvRow, config: PairsConfig, tally: Tally) -> Document | None:
    meta: dict[str, Json] = {"source": row.key}
    return _pair(row.picture, row.caption.strip(), row.where, meta, config, tally)


def _table_pair(row: Row, config: PairsConfig, tally: Tally) -> Document | None:
    if not _is_fetched(row.fields, row.where, tally):
        return None
    meta = {"source": text_field(row.fields, "key") or row.where, **_url(row.fields)}
    return _pair(row.picture, text_field(row.fields, "caption"), row.where, meta, config, tally)


def _pair(
    data: bytes | None,
    caption: str | None,
    where: str,
    meta: dict[str, Json],
    config: PairsConfig,
    tally: Tally,
) -> Document | None:
    """A picture and its caption; None (counted) if one of them is of no use."""
    if not caption:
        tally.bad("no caption", where)
        return None
    if data is None:
        tally.bad("no picture", where)
        return None
    picture = check_picture(data, config)
    if not isinstance(picture, PIL.Image.Image):
        tally.bad(picture, where)
        return None
    if min(picture.size) < config.min_caption_side_px:
        tally.leave_out(f"picture with a side under {config.min_caption_side_px} px", where)
        return None
    return Document([Image(data), *_words(caption, config.prompt)], id=where, meta=meta)


def _words(caption: str, prompt: str) -> list[Part]:
    """A caption, behind the words that ask for it if there are any."""
    if not prompt:
        return [Text(caption)]
    return [Text(prompt, loss=False), Text(f" {caption}")]


def _is_fetched(fields: dict[str, Json], where: str, tally: Tally) -> bool:
    if fields.get("status", "success") != "success":
        tally.leave_out("not fetched by img2dataset", where)
        return False
    return True


def _url(fields: dict[str, Json]) -> dict[str, Json]:
    url = text_field(fields, "url")
    return {} if url is None else {"url": url}


def coco_captions(
    source: AnyPath, config: FolderConfig, tally: Tally
) -> Iterator[tuple[str, str, list[str]]]:
    """Where it stands, file name and captions of each picture of a COCO file.

    What is no text, or has no words, is bad and none of the captions.

    Raises:
        DataError: If a ``.json`` file is not the official layout.
    """
    for row, name, given in _captions(source, config, tally):
        if name is None:
            tally.bad("no file", row.where)
            continue
        if not given:
            tally.leave_out("picture without captions", row.where)
        captions = [value.strip() for value in given if isinstance(value, str) and value.strip()]
        for _ in range(len(given) - len(captions)):
            tally.bad("no caption", row.where)
        if captions:
            yield row.where, name, captions


def _captions(
    source: AnyPath, config: FolderConfig, tally: Tally
) -> Iterator[tuple[Row, str | None, list[Json]]]:
    if source.suffix == ".json":
        images, annotations = read_lists(source, tally, "images", "annotations")
        for row, found in joined(images, annotations, tally, on=("id", "image_id")):
            captions = [annotation.fields.get("caption") for annotation in found]
            yield row, text_field(row.fields, "file_name"), captions
        return
    for row in read_rows(source, config, tally, suffixes=frozenset({".jsonl"})):
        given = row.fields.get("captions", [row.fields.get("caption")])
        name = text_field(row.fields, "file", "image")
        yield row, name, given if isinstance(given, list) else [None]
