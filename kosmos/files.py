"""Files that are whole or absent: atomic writes, checksums, and JSON.

Everything that another process may read is written beside its final name and renamed into
place, so that a full disk or a kill leaves what was there before.

- :func:`atomic_file`, :func:`atomic_folder` appear under their names when they are complete
- :func:`check_replaceable` is what ``--force`` may do
- :func:`json_text`, :func:`parse_json` are the only writer and the only reader of JSON

Scratch has a random name beside its target, ``.NAME.1f0c9a4e.partial``, and is made, never taken
over: processes that share a disk may have the same number. Whoever holds the target's lock removes
what the dead have left.
"""

import ctypes
import errno
import fnmatch
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from kosmos.errors import ConfigError, DataError, KosmosError, os_error, writing
from kosmos.locks import beside, locked
from kosmos.remote import AnyPath

if TYPE_CHECKING:
    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
else:
    # types checked at run time (in tests) cannot refer to themselves from other modules
    Json: TypeAlias = bool | int | float | str | list | dict | None

MAX_DEPTH = 100
"""Lists and objects inside each other in JSON; what nests deeper ends who walks it."""
_LARGE_NUMBER = re.compile(r"[0-9]{309}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


# --- whole or absent


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only if the block succeeds.

    Args:
        path: Final name; missing parent folders are made.

    Raises:
        DataError: If the disk refuses, naming the file; what was at ``path`` stays.
    """
    partial = beside(path, f"{secrets.token_hex(4)}.partial")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    path: Path, *, check: Callable[[Path], None] | None = None, wait: bool = False
) -> Iterator[Path]:
    """Yield a scratch folder that takes the name ``path`` only if the block succeeds.

    A folder already at ``path`` is replaced after the new one is complete: the two change names in
    one step where the file system can. The target is locked meanwhile.

    Args:
        path: Final name; missing parent folders are made.
        check: Raises if what is at ``path`` must not be replaced; asked before and after the work.
        wait: Wait for another process that is at it, and do not refuse.

    Raises:
        DataError: If the disk refuses, naming the folder, or another process is at it; what was at
            ``path`` stays.
    """
    target = Path(os.path.realpath(path))
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target, wait=wait):
        _clear(target)
        scratch = beside(target, f"{secrets.token_hex(4)}.partial")
        try:
            if target.exists() and not target.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
            if check is not None:
                check(target)
            scratch.mkdir()
            yield scratch
            if check is not None:
                check(target)
            _publish(scratch, target)
        except OSError as error:
            # what the block reads elsewhere is none of ours
            name = error.filename
            is_other = isinstance(name, str) and not name.startswith((str(target), str(scratch)))
            if is_other:
                raise os_error(error) from error
            raise os_error(error, path, act="written") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def check_replaceable(
    folder: Path, what: str, *, files: Collection[str], is_result: Callable[[Path], bool]
) -> None:
    """Fail unless all that replacing a folder would remove is an earlier result of the same kind.

    Args:
        folder: What would be replaced; one that is empty or not there may be.
        what: A result of the kind, as in "a model folder".
        files: Patterns of all the files that such a result has, as ``train/*.tar``.
        is_result: Whether the folder says of itself that it is one.

    Raises:
        ConfigError: If it does not, or other files lie in it, naming them.
    """
    if folder.is_dir():
        found = sorted(p.relative_to(folder) for p in folder.rglob("*") if not _is_folder(p))
        patterns = [pattern.split("/") for pattern in files]
        others = [str(path) for path in found if not any(_fits(path, p) for p in patterns)]
        with suppress(KosmosError):  # a marker that cannot be read
            if not found or (not others and is_result(folder)):
                return
        names = ", ".join(map(repr, others[:5])) + (" and more" if len(others) > 5 else "")
        problem = f"{names} in it" if others else "another folder"
    elif not folder.exists():
        return
    else:
        problem = "a file"
    raise ConfigError(
        f"{folder}: expected nothing there or {what}, which may be replaced, found {problem}",
        hint="choose another name, or move away what is there",
    )


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _fits(path: Path, pattern: list[str]) -> bool:
    pairs = zip(path.parts, pattern, strict=False)
    return len(path.parts) == len(pattern) and all(fnmatch.fnmatchcase(*pair) for pair in pairs)


def _clear(target: Path) -> None:
    """Remove scratch of the dead, for whoever holds the target."""
    name = re.escape(beside(target, "").name)
    found = [p for p in target.parent.iterdir() if re.match(rf"{name}[0-9a-f]{{8}}\.", p.name)]
    for path in found:
        if path.suffix == ".old" and not target.exists():
            os.replace(path, target)  # killed between the two renames
        elif path.suffix in (".old", ".partial"):
            shutil.rmtree(path, ignore_errors=True)


def _publish(scratch: Path, target: Path) -> None:
    """Give a folder its name; what had it before is removed."""
    if not target.exists():
        os.replace(scratch, target)
    elif not _exchange(scratch, target):
        old = beside(target, f"{secrets.token_hex(4)}.old")
        os.replace(target, old)
        try:
            os.replace(scratch, target)
        except BaseException:
            os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where system or file system cannot."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            code = libc.renamex_np(os.fsencode(first), os.fsencode(second), 2)  # RENAME_SWAP
        else:
            here = -100  # AT_FDCWD
            names = os.fsencode(first), os.fsencode(second)
            code = libc.renameat2(here, names[0], here, names[1], 2)  # RENAME_EXCHANGE
    except (OSError, AttributeError, TypeError):
        return False
    return bool(code == 0)


# --- JSON


def json_text(value: Json, *, indent: int | None = None) -> str:
    """A value as strict JSON on one line, which can be encoded in UTF-8.

    JSON has neither NaN nor infinity: a number that is not finite is not known, and is written as
    null. Half of a surrogate pair (a file's name that is not UTF-8) is written as an escape.

    Args:
        value: What to write.
        indent: Spaces of each level, on lines of their own.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        value = _finite(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return text if _is_encodable(text) else json.dumps(value, allow_nan=False, indent=indent)


def parse_json(text: bytes | str, *, where: str, with_surrogates: bool = False) -> Json:
    """Read JSON that others wrote.

    NaN and infinities, which Python and pandas write, are floats: who wants a number looks.

    Args:
        text: One value; bytes in UTF-8, or what a byte order mark says.
        where: What it is, for messages.
        with_surrogates: Let half surrogate pairs pass, as names of files have them.

    Raises:
        DataError: If it is not JSON, is not text in its encoding, nests deeper than
            :data:`MAX_DEPTH` or has an integer that no float can hold.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        value: Json = json.loads(text, parse_int=_whole if _LARGE_NUMBER.search(text) else None)
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:  # also of bytes that are no text
        raise DataError(f"{where}: expected JSON, found {error}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH and not _is_shallow(value):
        raise _too_deep(where)
    if not with_surrogates and _has_surrogates(text, value):
        raise DataError(f"{where}: expected JSON, found half a surrogate pair, no character")
    return value


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file atomically, indented, keys in the order given."""
    write_text(path, json_text(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def write_jsonl(path: Path, rows: Iterable[Json]) -> None:
    """Write JSON Lines atomically."""
    with atomic_file(path) as file:
        for row in rows:
            file.write(f"{json_text(row)}\n".encode())


def read_json(path: AnyPath) -> Json:
    """Read a JSON file.

    Raises:
        DataError: If the file is missing, cannot be read or is not JSON.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSON file, found nothing there") from None
    except OSError as error:
        raise os_error(error, path) from error
    return parse_json(data, where=str(path))


def read_jsonl(path: Path, *, damaged: list[DataError] | None = None) -> Iterator[Json]:
    """Yield the rows of a JSON Lines file, even while somebody appends to it.

    Empty lines are passed over, and so is a last line that was torn by a kill or is not yet whole.

    Args:
        path: The file.
        damaged: Takes what is wrong with lines that are not JSON; None: the first one is raised.

    Raises:
        DataError: If the file is missing or cannot be read, or a line is not JSON, naming the line.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield parse_json(line, where=f"{path}:{number}", with_surrogates=True)
                except DataError as error:
                    if not line.endswith(b"\n"):
                        return
                    if damaged is None:
                        raise
                    damaged.append(error)
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSON Lines file, found nothing there") from None
    except OSError as error:
        raise os_error(error, path) from error


def _whole(digits: str) -> int:
    if len(digits) > 308 and math.isinf(float(digits)):
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _has_surrogates(text: str, value: Json) -> bool:
    is_escaped = _SURROGATE.search(text) is not None  # also those of a pair
    return not _is_encodable(json.dumps(value, ensure_ascii=False) if is_escaped else text)


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_shallow(value: Json) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        inner = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for values in inner for v in values if isinstance(v, dict | list)]
        if not level:
            return True
    return False


def _too_deep(where: str) -> DataError:
    return DataError(
        f"{where}: expected JSON, found more than {MAX_DEPTH} values inside each other"
    )


def _finite(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Json) -> str:
    """Hexadecimal SHA-256 of a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
