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
from pathlib import PurePosixPath

from kosmos.corpus.formats.captioned import captioned_rows, held_picture
from kosmos.corpus.formats.config import CocoConfig, FolderConfig, PairsConfig
from kosmos.corpus.formats.official import joined, read_lists
from kosmos.corpus.formats.pictures import Exclusion, PictureFolder, usable
from kosmos.corpus.formats.records import Row, read_rows, source_files, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image, Part, Text
from kosmos.files import Json
from kosmos.remote import AnyPath

_SUFFIXES = frozenset({".tar", ".tsv", ".parquet"})


def read_pairs(source: AnyPath, config: PairsConfig, tally: Tally) -> Iterator[Document]:
    """Pairs of tars, TSV and Parquet files; other members and columns are passed over.

    A row of TSV whose caption holds a tab or a line break is bad, and never read as two.
    """
    excluded = Exclusion(config.exclude_images)
    for file in source_files(source, _SUFFIXES, tally):
        for row in captioned_rows(file, _SUFFIXES, config, tally):
            doc = _pair(row, excluded, config, tally)
            if doc is not None:
                tally.keep()
                yield doc


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


def _pair(row: Row, excluded: Exclusion, config: PairsConfig, tally: Tally) -> Document | None:
    """A picture and its caption; None (counted) if one of them is of no use."""
    if row.fields.get("status", "success") != "success":
        tally.leave_out("not fetched by img2dataset", row.where)
        return None
    caption = text_field(row.fields, "caption")
    if caption is None:
        tally.bad("no caption", row.where)
        return None
    picture = usable(held_picture(row, excluded), config, tally, row.where)
    if picture is None:
        return None
    if min(picture.size) < config.min_caption_side_px:
        tally.leave_out(f"picture with a side under {config.min_caption_side_px} px", row.where)
        return None
    url = text_field(row.fields, "url")
    meta: dict[str, Json] = {"source": picture.name, **({"url": url} if url else {})}
    words = _words(caption, config.prompt)
    return Document([Image(picture.source), *words], id=row.where, meta=meta)


def _words(caption: str, prompt: str) -> list[Part]:
    """A caption, behind the words that ask for it if there are any."""
    if not prompt:
        return [Text(caption)]
    return [Text(prompt, loss=False), Text(f" {caption}")]


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
