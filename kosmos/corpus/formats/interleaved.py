"""Pages of text and pictures into documents, by the rules of both published algorithms.

KOSMOS-1's paper: pictures that are tiny or of one color go; a document has at most five; half of
the pages with one picture go. The algorithm that the release bundles, in addition: HTML tags are
taken out (``strip_tags``); of the text before the first picture the last three sentences stay, and
of that behind the last picture the first three (``edge_sentences=3``); a page ends with its fifth
picture (``behind_max_images="nothing"``). Between two pictures all text stays.

Departure: the bundled code closes a page that ended with its fifth picture without ``</s>``; a
document here always has an end. Cutting what is longer than the context is the index's business.

Source: KOSMOS-1 (arXiv:2302.14045) section 3.1; unilm kosmos-2/torchscale, the interleaved example.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kosmos.corpus.formats.config import PagesConfig
from kosmos.corpus.formats.pictures import Missing, Picture, PictureFolder, judge_picture
from kosmos.corpus.formats.records import Row, read_rows
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image, Part, Text
from kosmos.remote import AnyPath
from kosmos.runtime import generator

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"<[A-Za-z/!][^<>]*>")
# a sentence ends with its last mark and what closes a quotation or a bracket behind it
_SENTENCE_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019)\]]*+(?=\s)|[\u3002\uff01\uff1f]+"
)


Piece: TypeAlias = str | Picture | Missing


@dataclass(frozen=True, slots=True)
class Page:
    """A page in reading order."""

    where: str
    source: str
    """Its URL, or what else it is known by: pages of one source stay together."""
    pieces: Sequence[Piece]
    """Sentences or stretches of text, and pictures."""
    separator: str = " "
    """What stood between two texts."""


def read_pages(
    source: AnyPath,
    config: PagesConfig,
    tally: Tally,
    lay: Callable[[Row, PictureFolder], tuple[str, list[Piece]] | str],
    *,
    separator: str,
    needs: Collection[str] = (),
) -> Iterator[Document]:
    """The documents of rows that are pages.

    Args:
        source: JSON Lines or Parquet, or a folder of them.
        config: The rules.
        tally: Takes what is left out or bad.
        lay: Gives URL and pieces of a row, or in few words why there are none.
        separator: What stood between two texts.
        needs: Columns that a table must have.
    """
    folder = PictureFolder(source, config, tally)
    suffixes = frozenset({".jsonl", ".parquet"})
    for row in read_rows(source, config, tally, suffixes=suffixes, needs=needs):
        found = lay(row, folder)
        if isinstance(found, str):
            tally.bad(found, row.where)
            continue
        url, pieces = found
        page = Page(row.where, url or row.where, pieces, separator)
        doc = page_document(page, config, tally)
        if doc is not None:
            yield doc


def page_document(page: Page, config: PagesConfig, tally: Tally) -> Document | None:
    """The document of a page; None (counted) if a rule leaves it out."""
    pieces = list(_usable(page, config, tally))
    num_pictures = sum(isinstance(piece, Picture) for piece in pieces)
    if num_pictures == 0:
        tally.leave_out("page without a picture", page.where)
        return None
    if num_pictures == 1 and not _stays(page, config):
        tally.leave_out("page with one picture, by the share that stays", page.where)
        return None
    tally.keep()
    parts = _parts(_within_edges(pieces, config), page.separator)
    return Document(parts, id=page.where, meta={"source": page.source})


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its mark; what follows the last mark is one too."""
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        found.append(text[start : match.end()].strip())
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def _usable(page: Page, config: PagesConfig, tally: Tally) -> Iterator[str | Picture]:
    """Texts without tags, and the pictures that are there and of use, as many as may be."""
    num_pictures = 0
    has_tags = False
    for piece in page.pieces:
        if isinstance(piece, str):
            text = _without_tags(piece) if config.strip_tags else piece
            has_tags = has_tags or text != piece
            if text.strip():
                yield text.strip()
            continue
        if num_pictures == config.max_images:
            tally.change(f"picture behind the first {config.max_images}", page.where)
            continue
        problem = (
            piece.reason if isinstance(piece, Missing) else judge_picture(piece.source, config)
        )
        if problem is not None:
            tally.change(problem, f"{page.where}: {piece.name}")
        elif isinstance(piece, Picture):
            num_pictures += 1
            yield piece
            if num_pictures == config.max_images and config.behind_max_images == "nothing":
                break
    if has_tags:
        tally.change("HTML tags in the text", page.where)


def _without_tags(text: str) -> str:
    # behind the last end of a comment none is looked for, or each beginning would look to the end
    before, end, behind = text.rpartition("-->")
    return _TAG.sub(" ", _COMMENT.sub(" ", before + end) + behind)


def _within_edges(pieces: list[str | Picture], config: PagesConfig) -> list[str | Picture]:
    """Pieces with as many sentences outside the pictures as may stay."""
    limit = config.edge_sentences
    if not limit:
        return pieces
    places = [place for place, piece in enumerate(pieces) if isinstance(piece, Picture)]
    first, last = places[0], places[-1]
    before = [s for piece in pieces[:first] if isinstance(piece, str) for s in sentences(piece)]
    behind = [s for piece in pieces[last + 1 :] if isinstance(piece, str) for s in sentences(piece)]
    return [*before[-limit:], *pieces[first : last + 1], *behind[:limit]]


def _parts(pieces: list[str | Picture], separator: str) -> list[Part]:
    """Parts, texts between two pictures as one."""
    parts: list[Part] = []
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if texts:
            parts.append(Text(separator.join(texts)))
            texts = []
        parts.append(Image(piece.source))
    return [*parts, Text(separator.join(texts))] if texts else parts


def _stays(page: Page, config: PagesConfig) -> bool:
    """Whether a page with one picture stays: a function of the seed and the page alone."""
    rng = generator(config.seed, "single-image", page.source)
    return bool(rng.random() < config.single_image_share)
