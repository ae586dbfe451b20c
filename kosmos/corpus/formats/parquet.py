"""Parquet files, a row group at a time; the only file that knows pyarrow.

A row comes as what JSON could hold, and apart from it the bytes of each column that holds bytes:
pictures, as img2dataset writes them (a column ``jpg``) or as Hugging Face datasets do (a struct
``{"bytes", "path"}``), alone or in a list.
"""

import datetime
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

from kosmos.corpus.formats.limits import TABLE_BYTES, MiB
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.remote import AnyPath
from kosmos.runtime import require

_BATCH_ROWS = 256
"""Rows that are read together, at most."""


class ParquetRow(NamedTuple):
    """A row of a table."""

    number: int
    """Its place in the file, from 0."""
    fields: dict[str, Json] | None
    """Values by column, in place of bytes their name or None; None if a value cannot be read."""
    files: dict[str, list[bytes | None]]
    """Bytes by column, of a list in its order."""


def read_parquet(path: AnyPath, *, needs: Collection[str] = ()) -> Iterator[ParquetRow]:
    """Rows in order; as many are in memory as limits.py allows, or a single one.

    Args:
        path: The file.
        needs: Columns without which the file is not what it should be.

    Raises:
        DataError: If the file is not Parquet, ends early, is damaged or lacks a column.
        MissingExtraError: If pyarrow is not installed.
    """
    with _opened(path) as table:
        columns = table.schema_arrow.names
        missing = [name for name in needs if name not in columns]
        if missing:
            raise DataError(
                f"{path}: expected a column {missing[0]!r}, found {', '.join(columns) or 'none'}"
            )
        number = 0
        for group in range(table.num_row_groups):
            for batch in _batches(table, group):
                for value in _values(batch):
                    yield ParquetRow(number, *((None, {}) if value is None else _split(value)))
                    number += 1


def parquet_columns(path: AnyPath) -> list[str]:
    """Names of the columns, read from the end of the file alone.

    Raises:
        DataError: If the file is not Parquet or ends early.
    """
    with _opened(path) as table:
        return list(table.schema_arrow.names)


def parquet_keys(path: AnyPath, column: str) -> list[list[str]]:
    """Values of one column as text, by row group; no other column is read.

    Raises:
        DataError: As :func:`read_parquet`.
    """
    with _opened(path) as table:
        groups = range(table.num_row_groups)
        read = (table.read_row_group(group, columns=[column]) for group in groups)
        return [[str(value) for value in group.column(column).to_pylist()] for group in read]


def parquet_files(path: AnyPath, group: int, column: str) -> Iterator[list[bytes | None]]:
    """The bytes of one column of one row group, a few rows at a time.

    Raises:
        DataError: As :func:`read_parquet`.
    """
    with _opened(path) as table:
        for batch in _batches(table, group, [column]):
            rows = (row and _bytes_in(row[column]) for row in _values(batch))
            yield [found[0] if found else None for found in rows]


@contextmanager
def _opened(path: AnyPath) -> Iterator[Any]:
    parquet = require("pyarrow.parquet", extra="data")
    arrow = require("pyarrow", extra="data")
    try:
        # with a buffer, a column is read as it is needed, and not the whole of a row group
        with path.open("rb") as file, parquet.ParquetFile(file, buffer_size=MiB) as table:
            yield table
    except FileNotFoundError:
        raise DataError(f"{path}: expected a Parquet file, found nothing there") from None
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: expected a whole Parquet file, found: {error}") from error


def _batches(table: Any, group: int, columns: list[str] | None = None) -> Iterator[Any]:  # noqa: ANN401
    """Rows of a row group, as many at a time as may be in memory.

    A value that is stored once, in a dictionary, may stand in every row.
    """
    meta = table.metadata.row_group(group)
    chunks = [meta.column(number) for number in range(meta.num_columns)]
    repeated = sum(c.total_uncompressed_size for c in chunks if c.has_dictionary_page)
    row_bytes = max(1, meta.total_byte_size // max(1, meta.num_rows))
    if repeated > TABLE_BYTES // _BATCH_ROWS:
        row_bytes += repeated
    size = min(_BATCH_ROWS, max(1, TABLE_BYTES // row_bytes))
    return iter(table.iter_batches(batch_size=size, row_groups=[group], columns=columns))


def _values(batch: Any) -> Iterator[dict[str, Any] | None]:  # noqa: ANN401
    """The rows of a batch; None for one with text that is none or a date that Python has not."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except (ValueError, OverflowError):
                yield None


def _split(row: dict[str, Any]) -> tuple[dict[str, Json], dict[str, list[bytes | None]]]:
    fields: dict[str, Json] = {}
    files: dict[str, list[bytes | None]] = {}
    for name, value in row.items():
        found = _bytes_in(value)
        if found is None:
            fields[name] = _to_json(value)
        else:
            fields[name], files[name] = _name_in(value), found
    return fields, files


def _bytes_in(value: object) -> list[bytes | None] | None:
    """The bytes of a column that holds them; None if it does not."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict) and "bytes" in value:
        return [value["bytes"]]
    if isinstance(value, list):
        inner = [None if item is None else _bytes_in(item) for item in value]
        if any(item is not None for item in inner):
            return [item[0] if item else None for item in inner]
    return None


def _name_in(value: object) -> Json:
    """What a column that holds bytes calls them; None if it does not say."""
    if isinstance(value, list):
        names = [_name_in(item) for item in value]
        return names if any(names) else None
    name = value.get("path") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def _to_json(value: object) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _to_json(item) for name, item in value.items()}
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
