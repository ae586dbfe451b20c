"""MMC4: web pages whose pictures were matched to sentences, into interleaved documents.

A row::

    {"url": ..., "text_list": ["A sentence.", ...],
     "image_info": [{"image_name": "95d3.jpg", "matched_text_index": 18, ...}, ...]}

A picture stands before the sentence it was matched to. The rules of interleaved.py then apply.

The collection has no pictures in it. Where they were fetched into a folder, or by img2dataset into
tars, those that are there are used; pages left without any are left out, and counted.

Source: Multimodal C4 (arXiv:2304.06939).
"""

from collections.abc import Iterator

from kosmos.corpus.formats.config import PagesConfig
from kosmos.corpus.formats.interleaved import Page, Piece, page_document
from kosmos.corpus.formats.pictures import PictureFolder
from kosmos.corpus.formats.records import Row, read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document
from kosmos.remote import AnyPath


def read_mmc4(source: AnyPath, config: PagesConfig, tally: Tally) -> Iterator[Document]:
    """Pages with at least one picture that is there."""
    folder = PictureFolder(source, config, tally)
    for row in read_rows(source, config, tally, suffixes=frozenset({".jsonl", ".parquet"})):
        sentences = row.fields.get("text_list")
        if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
            tally.bad("no text_list", row.where)
            continue
        places = _places(row, len(sentences), tally)
        if places is None:
            continue
        pieces: list[Piece] = []
        for index, sentence in enumerate(sentences):
            names = [name for place, name in places if place == index]
            pieces += [folder.find(name) for name in names]
            pieces.append(str(sentence))
        url = text_field(row.fields, "url") or row.where
        doc = page_document(Page(row.where, url, pieces), config, tally)
        if doc is not None:
            yield doc


def _places(row: Row, num_sentences: int, tally: Tally) -> list[tuple[int, str]] | None:
    """Sentence and name of each picture; None (counted) if malformed."""
    infos = row.fields.get("image_info")
    if not isinstance(infos, list):
        tally.bad("no image_info", row.where)
        return None
    places: list[tuple[int, str]] = []
    for info in infos:
        name = info.get("image_name") if isinstance(info, dict) else None
        index = info.get("matched_text_index") if isinstance(info, dict) else None
        if not isinstance(name, str) or not isinstance(index, int | float):
            tally.bad("image_info without name or sentence", row.where)
            return None
        if not 0 <= int(index) < num_sentences:
            tally.bad("picture matched to no sentence", row.where)
            return None
        places.append((int(index), name))
    return places
