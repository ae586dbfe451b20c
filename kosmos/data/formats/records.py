"""Records of the containers that formats share: files of a folder, lines, members of a tar."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kosmos.data.formats.tally import Tally
from kosmos.errors import DataError
from kosmos.files import Json

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON object of a file, and what to call it."""

    where: str
    fields: dict[str, Json]


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


def source_files(source: Path, suffixes: frozenset[str]) -> list[Path]:
    """The file itself, or those of a folder with one of the suffixes, sorted by name.

    Raises:
        DataError: If there is none.
    """
    if source.is_file():
        return [source]
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes)
    if not files:
        wanted = ", ".join(sorted(suffixes))
        found = "none in the folder" if source.is_dir() else "nothing there"
        raise DataError(f"{source}: expected a file, or a folder of {wanted} files, found {found}")
    return files


def read_rows(source: Path, tally: Tally, *, suffixes: frozenset[str]) -> Iterator[Row]:
    """JSON objects of JSON Lines files, or of files that hold one JSON list.

    A line that is no JSON object is counted as bad and passed over.

    Raises:
        DataError: If a ``.json`` file does not hold a list, or there is no file.
    """
    for path in source_files(source, suffixes):
        if path.suffix == ".json":
            yield from _read_list(path, tally)
            continue
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield from _object(line, f"{path.name}:{number}", tally)


def read_samples(path: Path, tally: Tally) -> Iterator[Sample]:
    """Samples of a WebDataset tar: neighboring members whose names agree up to the first dot.

    Raises:
        DataError: If the file is not a tar, or ends early.
    """
    try:
        with tarfile.open(path, "r|*") as tar:
            sample: Sample | None = None
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
            if sample is not None:
                yield sample
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: expected a whole tar file, found {error}") from error


def sample_fields(sample: Sample, tally: Tally) -> dict[str, Json] | None:
    """The JSON member of a sample; empty without one, None (counted) if it is not an object."""
    data = sample.members.get(".json")
    if data is None:
        return {}
    rows = list(_object(data, f"{sample.where}.json", tally))
    return rows[0].fields if rows else None


def text_field(fields: dict[str, Json], *names: str) -> str | None:
    """The first of some fields that holds text, its ends stripped; None if none does."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _read_list(path: Path, tally: Tally) -> Iterator[Row]:
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
