"""Records of the containers that formats share: files of a folder, lines, tables, tar members."""

import json
import os
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.parquet import read_parquet
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.tars import open_tar
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.remote import AnyPath, RemotePath

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
ROW_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".parquet"})
"""Of files that :func:`read_rows` reads."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON object of a file or a row of a table, and what to call it."""

    where: str
    fields: dict[str, Json]
    files: Mapping[str, list[bytes | None]] = field(default_factory=dict)
    """Bytes by column, where a table holds them."""

    @property
    def picture(self) -> bytes | None:
        """The bytes of the first column that holds any."""
        found = (data for column in self.files.values() for data in column if data)
        return next(found, None)


@dataclass(slots=True)
class Sample:
    """The members of a WebDataset tar that share a key."""

    where: str
    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    """Bytes by suffix, as ``".jpg"``."""

    @property
    def picture(self) -> bytes | None:
        """The first member that is named as a picture."""
        found = (data for suffix, data in self.members.items() if suffix in IMAGE_SUFFIXES)
        return next(found, None)


def source_files(source: AnyPath, suffixes: frozenset[str], tally: Tally) -> list[AnyPath]:
    """The file itself, or those of a folder with one of the suffixes, sorted by name.

    Raises:
        DataError: If there is none.
    """
    if source.is_file():
        return [source]
    files = files_below(source, suffixes, tally)
    if not files:
        wanted = ", ".join(sorted(suffixes))
        found = "none in the folder" if source.is_dir() else "nothing there"
        raise DataError(f"{source}: expected a file, or a folder of {wanted} files, found {found}")
    return files


def files_below(folder: AnyPath, suffixes: frozenset[str], tally: Tally) -> list[AnyPath]:
    """Files with one of the suffixes in a folder and all folders in it, sorted by name.

    Folders that cannot be read, and links to folders, which are not entered, are counted.
    """
    found: list[AnyPath] = []
    if isinstance(folder, RemotePath):
        found += (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
        return sorted(found, key=str)

    def refused(error: OSError) -> None:
        if error.filename != str(folder) or folder.is_dir():
            tally.bad("folder that cannot be read", f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=refused):
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                tally.leave_out("link to a folder", str(path))
        paths = (Path(parent, name) for name in names)
        found += (p for p in paths if p.suffix.lower() in suffixes and p.is_file())
    return sorted(found, key=str)


def undamaged(items: Iterator[_Item], config: ImportConfig, tally: Tally) -> Iterator[_Item]:
    """Items of one file; one that is damaged ends there, where the config says so.

    Raises:
        DataError: If the file is damaged and that is to stop the import.
    """
    try:
        yield from items
    except DataError as error:
        if config.damaged_files == "stop":
            hint = "--set damaged_files=count keeps what is whole and counts the file as bad"
            raise DataError(error.message, hint=error.hint or hint) from error
        tally.bad("file that is damaged or ends early", error.message)


def read_rows(
    source: AnyPath,
    config: ImportConfig,
    tally: Tally,
    *,
    suffixes: frozenset[str] = ROW_SUFFIXES,
    needs: Collection[str] = (),
) -> Iterator[Row]:
    """JSON objects of JSON Lines files or of files that hold one JSON list, rows of Parquet files.

    A line that is no JSON object is counted as bad and passed over.

    Args:
        source: A file or a folder.
        config: What a damaged file does.
        tally: Takes what is bad.
        suffixes: Of the files to read in a folder.
        needs: Columns that a table must have.

    Raises:
        DataError: If a file is damaged, a ``.json`` file does not hold a list, a table lacks a
            column, or there is no file.
    """
    for path in source_files(source, suffixes, tally):
        suffix = path.suffix.lower()
        if suffix == ".parquet":
            rows = _read_table(path, needs)
        elif suffix == ".json":
            rows = _read_list(path, tally)
        else:
            rows = _read_lines(path, tally)
        yield from undamaged(rows, config, tally)


def read_samples(path: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Sample]:
    """Samples of a WebDataset tar: neighboring members whose names agree up to the first dot.

    Raises:
        DataError: If the file is not a tar or ends early, and that is to stop the import.
    """
    return undamaged(_read_samples(path, tally), config, tally)


def sample_fields(sample: Sample, tally: Tally) -> dict[str, Json] | None:
    """The JSON member of a sample; empty without one, None (counted) if it is not an object."""
    data = sample.members.get(".json")
    if data is None:
        return {}
    rows = list(_object(data, f"{sample.where}.json", tally))
    return rows[0].fields if rows else None


def text_field(fields: Mapping[str, Json], *names: str) -> str | None:
    """The first of some fields that holds text, its ends stripped; None if none does."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _read_table(path: AnyPath, needs: Collection[str]) -> Iterator[Row]:
    for number, fields, files in read_parquet(path, needs=needs):
        yield Row(f"{path.name}[{number}]", fields, files)


def _read_lines(path: AnyPath, tally: Tally) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield from _object(line, f"{path.name}:{number}", tally)


def _read_list(path: AnyPath, tally: Tally) -> Iterator[Row]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: expected a JSON list, found {error}") from error
    if not isinstance(values, list):
        raise DataError(f"{path}: expected a JSON list, found {type(values).__name__}")
    for number, value in enumerate(values):
        if isinstance(value, dict):
            yield Row(f"{path.name}[{number}]", value)
        else:
            tally.bad("not a JSON object", f"{path.name}[{number}]")


def _read_samples(path: AnyPath, tally: Tally) -> Iterator[Sample]:
    sample: Sample | None = None
    try:
        with path.open("rb") as file, open_tar(file, mode="r|*") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, dot, suffix = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if not stem:
                    tally.bad("member without a name", f"{path.name}/{member.name}")
                    continue
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield sample
                    sample = Sample(f"{path.name}/{key}", key)
                data = tar.extractfile(member)
                assert data is not None
                sample.members[(dot + suffix).lower()] = data.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: expected a whole tar file, found {error}") from error
    if sample is not None:
        yield sample


def _object(data: bytes, where: str, tally: Tally) -> Iterator[Row]:
    try:
        value = json.loads(data)
    except ValueError:  # not JSON, or not UTF-8
        tally.bad("not JSON", where)
        return
    if isinstance(value, dict):
        yield Row(where, value)
    else:
        tally.bad("not a JSON object", where)
