"""Plain text and JSON Lines of text into documents.

- :func:`read_wikitext`: an article per document, as in WikiText (`` = Title = `` begins one)
- :func:`read_paragraphs`: a stretch between blank lines per document
- :func:`read_jsonl_text`: the field ``text`` of each line
- :func:`read_parquet_text`: the column ``text`` of each row, a row group in memory at a time
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.limits import MAX_LINE_BYTES, MiB
from kosmos.corpus.formats.records import (
    Row,
    SourceFile,
    read_lines,
    read_rows,
    source_files,
    text_field,
    undamaged,
)
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
    return _documents(source, config, tally, ends=lambda line: bool(_TITLE.fullmatch(line)))


def read_paragraphs(source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Stretches of text between blank lines, their line breaks kept."""
    return _documents(source, config, tally, ends=lambda line: not line)


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


def _documents(
    source: AnyPath, config: ImportConfig, tally: Tally, *, ends: Callable[[str], bool]
) -> Iterator[Document]:
    """Documents of text files; a line that ends one may begin the next."""
    for file in source_files(source, TEXT_SUFFIXES, tally):
        lines = undamaged(_lines(file, tally), config, tally)
        group: list[str] = []
        number = num_chars = 0
        for line in chain(lines, [None]):
            if group and (line is None or ends(line)):
                where = f"{file.name}#{number}"
                if num_chars > MAX_LINE_BYTES:
                    tally.bad(f"text over {MAX_LINE_BYTES // MiB} MiB", where)
                else:
                    tally.keep()
                    yield Document([Text("\n".join(group))], id=where)
                group, number, num_chars = [], number + 1, 0
            if line:
                group.append(line)
                num_chars += len(line)
                if num_chars > MAX_LINE_BYTES:
                    del group[1:]


def _lines(file: SourceFile, tally: Tally) -> Iterator[str]:
    """Lines of a file; one that is not UTF-8 is counted and passed over."""
    for number, line in read_lines(file, tally):
        try:
            yield line.decode("utf-8").strip()
        except UnicodeDecodeError:
            tally.bad("line that is not UTF-8", f"{file.name}:{number}")
