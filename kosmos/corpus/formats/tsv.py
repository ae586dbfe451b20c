"""Pictures and captions as the release trains on them: tab-separated, a pair per line.

::

    hash <tab> caption <tab> picture in base64 <tab> width <tab> height [<tab> objects]

``objects`` is Python's repr of ``{"phrase": noun_chunks, "expression_v1": ref_exps}``, lists as in
GRIT (grit.py); it is read as a literal and nothing in it runs. What wrote these files escaped
nothing, so a caption may hold tabs and line breaks that cut its row; such a row is known by its
columns, is bad under a reason that says which, and is never read as two.

Source: unilm kosmos-2/data/prepare_grit.py, kosmos-2/unilm/data/vl/laion2b_obj_loader.py.
"""

import ast
import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kosmos.corpus.formats.limits import MAX_OBJECTS_CHARS, MiB
from kosmos.corpus.formats.records import SourceFile, read_lines
from kosmos.corpus.formats.tally import Tally
from kosmos.files import Json

_NUM_COLUMNS = (5, 6)  # without and with objects
_MAX_WHOLE = 10**308
"""What a float can hold."""
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class TsvRow:
    """A line that is whole."""

    where: str
    key: str
    caption: str
    """As it is, blanks at its ends included: objects count its characters."""
    picture: bytes
    width: int
    height: int
    objects: str | None
    """The last column; None where the file has none."""


def read_tsv(file: SourceFile, tally: Tally) -> Iterator[TsvRow]:
    """Rows of a file; those that are not whole are counted as bad.

    Raises:
        OSError, DataError: If the file cannot be read.
    """
    cut: _Cut | None = None
    for number, line in read_lines(file, tally):
        columns = line.rstrip(b"\r\n").split(b"\t")
        where = f"{file.name}:{number}"
        if cut is not None and cut.goes_on(columns):
            if _ends_in_sizes(columns):
                tally.bad("caption with a line break", f"{cut.where}-{number}")
                cut = None
            continue
        if cut is not None:
            tally.bad(cut.reason, cut.where)
            cut = None
        if not line.strip():
            continue
        if len(columns) in _NUM_COLUMNS and all(map(_is_size, columns[3:5])):
            row = _row(columns, where, tally)
            if row is not None:
                yield row
        elif len(columns) > 5 and _ends_in_sizes(columns):
            tally.bad("caption with a tab", where)
        else:
            cut = _Cut(where, columns[0], len(columns) < 5)
    if cut is not None:
        tally.bad(cut.reason, cut.where)


def read_objects(text: str) -> dict[str, Json] | str:
    """The columns of GRIT that a row's last column holds.

    Returns:
        ``noun_chunks`` and ``ref_exps``, those that are there; or why there are none.
    """
    if len(text) > MAX_OBJECTS_CHARS:
        return f"objects over {MAX_OBJECTS_CHARS // MiB} MiB"
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return "objects that are no Python literal"
    if not isinstance(value, dict):
        return "objects that are no dict"
    names = {"phrase": "noun_chunks", "expression_v1": "ref_exps"}
    return {names[name]: _lists(item) for name, item in value.items() if name in names}


def _lists(value: object) -> Json:
    """Tuples as lists; what JSON has no word for, as None, which no column may be."""
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    if isinstance(value, int) and abs(value) > _MAX_WHOLE:
        return None
    return value if isinstance(value, bool | int | float | str) else None


class _Cut(NamedTuple):
    """A row that is not whole, whose caption may go on in the next line."""

    where: str
    key: bytes
    is_short: bool

    @property
    def reason(self) -> str:
        """What is wrong with it, if it does not go on."""
        short = "row with too few columns"
        return short if self.is_short else "width or height that is no number"

    def goes_on(self, columns: list[bytes]) -> bool:
        """Whether a line is the rest of this row and no row of its own."""
        first = columns[0]
        has_a_hash = len(first) == len(self.key) and (_is_hex(first) or not _is_hex(self.key))
        is_an_end = len(columns) < _NUM_COLUMNS[0] and _ends_in_sizes(columns)
        return len(columns) == 1 or not has_a_hash or is_an_end


def _row(columns: list[bytes], where: str, tally: Tally) -> TsvRow | None:
    try:
        key, caption = (column.decode("utf-8") for column in columns[:2])
        objects = columns[5].decode("utf-8") if len(columns) == 6 else None
    except UnicodeDecodeError:
        tally.bad("line that is not UTF-8", where)
        return None
    try:
        picture = base64.b64decode(columns[2], validate=True)
    except binascii.Error:
        tally.bad("picture that is no base64", where)
        return None
    if not picture:
        tally.bad("no picture", where)
        return None
    width, height = int(columns[3]), int(columns[4])
    return TsvRow(where, key, caption, picture, width, height, objects)


def _is_size(column: bytes) -> bool:
    digits = column.strip()
    return digits.isdigit() and len(digits) <= _MAX_DIGITS


def _is_hex(column: bytes) -> bool:
    return bool(column) and all(byte in b"0123456789abcdefABCDEF" for byte in column)


def _ends_in_sizes(columns: list[bytes]) -> bool:
    """Whether a line ends as a row does, with objects or without."""
    if len(columns) < 3:
        return False
    return all(map(_is_size, columns[-2:])) or all(map(_is_size, columns[-3:-1]))
