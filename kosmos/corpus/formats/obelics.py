"""OBELICS: web pages as parallel lists of texts and pictures, into interleaved documents.

A row, of Parquet or JSON Lines::

    {"images": ["https://host/a.jpg", None, ...], "texts": [None, "A paragraph.", ...],
     "metadata": '[{"src": ...}, null, ...]', "general_metadata": '{"url": ...}'}

At each place stands a picture or a text. The rules of interleaved.py then apply.

The collection names pictures by URL. One is found in the folder by the hash of its URL (SHA-256,
MD5 or SHA-1) or by its file name there; or in the row, where ``images`` holds bytes.

Source: OBELICS (arXiv:2306.16527), HuggingFaceM4/OBELICS.
"""

import json
from collections.abc import Iterator

from kosmos.corpus.formats.config import PagesConfig
from kosmos.corpus.formats.interleaved import Page, Piece, page_document
from kosmos.corpus.formats.pictures import Picture, PictureFolder
from kosmos.corpus.formats.records import Row, read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document
from kosmos.files import Json
from kosmos.remote import AnyPath

_SUFFIXES = frozenset({".parquet", ".jsonl"})


def read_obelics(source: AnyPath, config: PagesConfig, tally: Tally) -> Iterator[Document]:
    """Pages with at least one picture that is there."""
    folder = PictureFolder(source, config, tally)
    needs = ("images", "texts")
    for row in read_rows(source, config, tally, suffixes=_SUFFIXES, needs=needs):
        pieces = _pieces(row, folder)
        if isinstance(pieces, str):
            tally.bad(pieces, row.where)
            continue
        url = _url(row.fields)
        if url is None:
            tally.bad("general_metadata that is no JSON object", row.where)
            continue
        page = Page(row.where, url or row.where, pieces, separator="\n\n")
        doc = page_document(page, config, tally)
        if doc is not None:
            yield doc


def _pieces(row: Row, folder: PictureFolder) -> list[Piece] | str:
    """The page in order; or in few words why there is none."""
    texts = row.fields.get("texts")
    data = row.files.get("images")
    pictures = data if data is not None else row.fields.get("images")
    if not isinstance(texts, list) or not isinstance(pictures, list):
        return "no images or no texts"
    if len(texts) != len(pictures):
        return "images and texts of different lengths"
    pieces: list[Piece] = []
    for place, (text, picture) in enumerate(zip(texts, pictures, strict=True)):
        if text is not None and picture is not None:
            return "picture and text at one place"
        if isinstance(picture, bytes):
            pieces.append(Picture(f"{row.where}#{place}", picture))
        elif isinstance(picture, str):
            pieces.append(folder.find_url(picture))
        elif isinstance(text, str):
            pieces.append(text)
        elif text is not None or picture is not None:
            return "picture that is no URL, or text that is none"
    return pieces


def _url(fields: dict[str, Json]) -> str | None:
    """The page's URL, empty if it does not say; None if what should say it is not JSON."""
    value = fields.get("general_metadata")
    if value is None:
        return ""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return (text_field(value, "url") or "") if isinstance(value, dict) else None
