"""MMC4: web pages whose pictures were matched to sentences, into interleaved documents.

A row::

    {"url": ..., "text_list": ["A sentence.", ...],
     "image_info": [{"image_name": "95d3.jpg", "matched_text_index": 18, ...}, ...]}

A picture stands before the sentence it was matched to. The rules of interleaved.py then apply.

The collection has no pictures in it. Where they were fetched into a folder, or by img2dataset into
tars, those that are there are used; pages left without any are left out, and counted.

Source: Multimodal C4 (arXiv:2304.06939).
"""

from collections import defaultdict
from collections.abc import Iterator

from kosmos.corpus.formats.config import PagesConfig
from kosmos.corpus.formats.frame import whole_number
from kosmos.corpus.formats.interleaved import Piece, read_pages
from kosmos.corpus.formats.pictures import PictureFolder
from kosmos.corpus.formats.records import Row, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document
from kosmos.remote import AnyPath


def read_mmc4(source: AnyPath, config: PagesConfig, tally: Tally) -> Iterator[Document]:
    """Pages with at least one picture that is there."""
    return read_pages(source, config, tally, _page, separator=" ")


def _page(row: Row, folder: PictureFolder) -> tuple[str, list[Piece]] | str:
    """URL and pieces of a page; or in few words why there are none."""
    sentences, infos = row.fields.get("text_list"), row.fields.get("image_info")
    if not isinstance(sentences, list):
        return "no text_list"
    if not isinstance(infos, list):
        return "no image_info"
    names_at: dict[int, list[str]] = defaultdict(list)
    for info in infos:
        fields = info if isinstance(info, dict) else {}
        name, index = fields.get("image_name"), whole_number(fields.get("matched_text_index"))
        if not isinstance(name, str) or index is None:
            return "image_info without name or sentence"
        if not 0 <= index < len(sentences):
            return "picture matched to no sentence"
        names_at[index].append(name)
    pieces: list[Piece] = []
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            return "no text_list"
        pieces += [folder.find(name) for name in names_at[index]]
        pieces.append(sentence)
    return text_field(row.fields, "url") or "", pieces
