"""Plain text and JSON Lines of text into documents.

- :func:`read_wikitext`: an article per document, as in WikiText (`` = Title = `` begins one)
- :func:`read_paragraphs`: a stretch between blank lines per document
- :func:`read_jsonl_text`: the field ``text`` of each line
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.records import read_rows, source_files, text_field
from kosmos.data.formats.tally import Tally
from kosmos.document.types import Document, Text

TEXT_SUFFIXES = frozenset({".txt", ".md", ".tokens", ".raw"})
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
# " = = Section = = " is a part of an article
_TITLE = re.compile(r"\s*= [^=].*[^=] =\s*")


def read_wikitext(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Articles of WikiText files; blank lines are taken out, as they carry nothing."""
    del config
    for path, lines in _line_files(source, tally):
        yield from _documents(path, _articles(lines), tally)


def read_paragraphs(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Stretches of text between blank lines, their line breaks kept."""
    del config
    for path, lines in _line_files(source, tally):
        yield from _documents(path, _stretches(lines), tally)


def read_jsonl_text(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """The field ``text`` of each line; other fields of plain values become meta."""
    del config
    for row in read_rows(source, tally, suffixes=JSONL_SUFFIXES):
        text = text_field(row.fields, "text")
        if text is None:
            tally.bad("no text", row.where)
            continue
        tally.keep()
        meta = {
            name: value
            for name, value in row.fields.items()
            if name != "text" and isinstance(value, str | int | float | bool)
        }
        yield Document([Text(text)], id=row.where, meta=meta)


def _line_files(source: Path, tally: Tally) -> Iterator[tuple[Path, Iterator[str]]]:
    for path in source_files(source, TEXT_SUFFIXES):
        yield path, _lines(path, tally)


def _lines(path: Path, tally: Tally) -> Iterator[str]:
    """Lines of a file; one that is not UTF-8 is counted and passed over."""
    with open(path, "rb") as file:
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


def _documents(path: Path, groups: Iterable[list[str]], tally: Tally) -> Iterator[Document]:
    groups = (group for group in groups if group)
    for number, group in enumerate(groups):
        tally.keep()
        yield Document([Text("\n".join(group))], id=f"{path.name}#{number}")
