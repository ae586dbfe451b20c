"""OBELICS: web pages as parallel lists of texts and pictures, into interleaved documents.

A row, of Parquet or JSON Lines::

    {"images": ["https://host/a.jpg", None, ...], "texts": [None, "A paragraph.", ...],
     "metadata": '[{"src": ...}, null, ...]', "general_metadata": '{"url": ...}'}

At each place stands a picture or a text. The rules of interleaved.py then apply.

The collection names pictures by URL. One is found in the folder by the hash of its URL (SHA-256,
MD5 or SHA-1) or by its file name there; or in the row, where ``images`` holds bytes.

Source: OBELICS (arXiv:2306.16527), HuggingFaceM4/OBELICS.
"""

from collections.abc import Iterator

from kosmos.corpus.formats.config import PagesConfig
from kosmos.corpus.formats.interleaved import Piece, read_pages
from kosmos.corpus.formats.pictures import Picture, PictureFolder
from kosmos.corpus.formats.records import Row, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document
from kosmos.errors import DataError
from kosmos.files import parse_json
from kosmos.remote import AnyPath


def read_obelics(source: AnyPath, config: PagesConfig, tally: Tally) -> Iterator[Document]:
    """Pages with at least one picture that is there."""
    needs = ("images", "texts")
    return read_pages(source, config, tally, _page, separator="\n\n", needs=needs)


def _page(row: Row, folder: PictureFolder) -> tuple[str, list[Piece]] | str:
    """URL and pieces of a page; or in few words why there are none."""
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
    told = row.fields.get("general_metadata")
    if isinstance(told, str):
        try:
            told = parse_json(told, where=row.where)
        except DataError:
            told = False
    if not isinstance(told, dict | None):
        return "general_metadata that is no JSON object"
    return text_field(told or {}, "url") or "", pieces
