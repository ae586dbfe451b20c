"""Plain text and JSON Lines of text into documents.

- :func:`read_wikitext`: an article per document, as in WikiText (`` = Title = `` begins one)
- :func:`read_paragraphs`: a stretch between blank lines per document
- :func:`read_jsonl_text`: the field ``text`` of each line
- :func:`read_parquet_text`: the column ``text`` of each row, a row group in memory at a time
"""

import math
import re
from collections.abc import Iterable, Iterator

from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.records import Row, read_rows, source_files, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Text
from kosmos.files import Json
from kosmos.remote import AnyPath

TEXT_SUFFIXES = frozenset({".txt", ".md", ".tokens", ".raw"})
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
# " = = Section = = " is a part of an article
_TITLE = re.compile(r"\s*= [^=].*[^=] =\s*")


def read_wikitext(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Articles of WikiText files; blank lines are taken out, as they carry nothing."""
    del config
    for path, lines in _line_files(source, tally):
        yield from _documents(path, _articles(lines), tally)


def read_paragraphs(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Stretches of text between blank lines, their line breaks kept."""
    del config
    for path, lines in _line_files(source, tally):
        yield from _documents(path, _stretches(lines), tally)


def read_jsonl_text(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """The field ``text`` of each line; other fields of plain values become meta."""
    return _texts(read_rows(source, config, tally, suffixes=JSONL_SUFFIXES), tally)


def read_parquet_text(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """The column ``text`` of each row; other columns of plain values become meta.

    A file without that column is an error, and one that ends early is damaged.
    """
    suffixes = frozenset({".parquet"})
    return _texts(read_rows(source, config, tally, suffixes=suffixes, needs=("text",)), tally)


def _texts(rows: Iterable[Row], tally: Tally) -> Iterator[Document]:
    for row in rows:
        text = text_field(row.fields, "text")
        if text is None:
            tally.bad("no text", row.where)
            continue
        tally.keep()
        meta = {name: value for name, value in row.fields.items() if _is_plain(name, value)}
        yield Document([Text(text)], id=row.where, meta=meta)


def _is_plain(name: str, value: Json) -> bool:
    """Whether a field goes into meta: what JSON can hold, and is no list or object."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return name != "text" and isinstance(value, str | int | float | bool)


def _line_files(source: AnyPath, tally: Tally) -> Iterator[tuple[AnyPath, Iterator[str]]]:
    for path in source_files(source, TEXT_SUFFIXES, tally):
        yield path, _lines(path, tally)


def _lines(path: AnyPath, tally: Tally) -> Iterator[str]:
    """Lines of a file; one that is not UTF-8 is counted and passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8").strip()
            except UnicodeDecodeError:
                tally.bad("line that is not UTF-8", f"{path.name}:{number}")


def _articles(lines: Iterable[str]) -> Iterator[list[str]]:
    article: list[str] = []
    for line in lines:
        if _TITLE.fullmatch(line) and article:
            yield article
            article = []
        if line:
            article.append(line)
    yield article


def _stretches(lines: Iterable[str]) -> Iterator[list[str]]:
    stretch: list[str] = []
    for line in lines:
        if line:
            stretch.append(line)
        elif stretch:
            yield stretch
            stretch = []
    yield stretch


def _documents(path: AnyPath, groups: Iterable[list[str]], tally: Tally) -> Iterator[Document]:
    groups = (group for group in groups if group)
    for number, group in enumerate(groups):
        tally.keep()
        yield Document([Text("\n".join(group))], id=f"{path.name}#{number}")
