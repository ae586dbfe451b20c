"""Files that are whole or absent: atomic writes, checksums, JSON and JSON Lines.

Everything that another process may read is written beside its final name and renamed into
place, so that a full disk or a kill leaves what was there before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from kosmos.errors import DataError
from kosmos.remote import AnyPath

if TYPE_CHECKING:
    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
else:
    # types checked at run time (in tests) cannot refer to themselves from other modules
    Json: TypeAlias = bool | int | float | str | list | dict | None


@contextmanager
def atomic_file(path: Path, mode: str = "wb") -> Iterator[IO[bytes] | IO[str]]:
    """Open a file for writing that appears under its name only if the block succeeds.

    Args:
        path: Final name; missing parent folders are made.
        mode: ``"wb"`` or ``"w"`` (UTF-8).

    Raises:
        DataError: If the disk refuses, naming the file; what was at ``path`` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise DataError(
            f"{path}: could not be written: {error.strerror or error}",
            hint="earlier files are untouched; free some space or choose another folder",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a scratch folder that takes the name ``path`` only if the block succeeds.

    A folder already at ``path`` is replaced after the new one is complete.

    Raises:
        DataError: If the disk refuses, naming the folder; what was at ``path`` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise DataError(
            f"{path}: could not be written: {error.strerror or error}",
            hint="earlier files are untouched; free some space or choose another folder",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))  # type: ignore[arg-type]


def read_json(path: AnyPath) -> Json:
    """Read a JSON file.

    Raises:
        DataError: If the file is missing or is not JSON.
    """
    try:
        value: Json = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSON file, found nothing there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected JSON, found {error}") from error
    return value


def write_jsonl(path: Path, rows: Iterable[Json]) -> None:
    """Write JSON Lines atomically."""
    with atomic_file(path) as file:
        for row in rows:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))  # type: ignore[arg-type]


def read_jsonl(path: Path) -> Iterator[Json]:
    """Yield the rows of a JSON Lines file; empty lines are passed over.

    Raises:
        DataError: If the file is missing or a line is not JSON, naming the line.
    """
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}:{number}: expected JSON, found {error}") from error
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSON Lines file, found nothing there") from None


def free_space(path: Path) -> str:
    """What a disk has left, for a message about one that refused: ``(0.00 GB free on /data)``.

    Args:
        path: A file or folder on it; it need not be there.
    """
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    while not folder.is_mount() and folder != folder.parent:
        folder = folder.absolute().parent
    return f"({shutil.disk_usage(folder).free / 1e9:.2f} GB free on {folder})"


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Json) -> str:
    """Hexadecimal SHA-256 of a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
