"""The error tree: one root, children that also inherit the builtin a caller would expect.

::

    KosmosError
    ├── ConfigError        (ValueError)    a setting that is unknown or impossible
    ├── MarkupError        (ValueError)    grounding markup that does not parse; knows where
    ├── DataError          (ValueError)    a file or record that is not what it should be
    │   └── ImageError                     bytes that are not a usable picture
    ├── CheckpointError    (RuntimeError)  weights or a checkpoint that do not fit
    └── MissingExtraError  (ImportError)   an optional package that is not installed

A message reads *where: what was expected, what came*; the optional hint says what to do next.
:func:`os_error` says so what the system says.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MAX_PATH_CHARS = 200
_UNTOUCHED = "earlier files are untouched; free some space or choose another folder"


class KosmosError(Exception):
    """Any error this package raises on purpose.

    Args:
        message: Where, what was expected and what came; lower case, no full stop.
        hint: What the reader can do about it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} (hint: {self.hint})"


class ConfigError(KosmosError, ValueError):
    """A setting that is unknown, of the wrong type or impossible."""


class MarkupError(KosmosError, ValueError):
    """Grounding markup that does not parse.

    Args:
        message: What was expected and what came.
        position: Character offset in the text at which parsing failed.
        hint: What the reader can do about it.
    """

    def __init__(self, message: str, *, position: int, hint: str | None = None) -> None:
        super().__init__(f"character {position}: {message}", hint=hint)
        self.position = position


class DataError(KosmosError, ValueError):
    """A file or a record that is not what it should be."""


class ImageError(DataError):
    """Bytes that are not a usable picture."""


class CheckpointError(KosmosError, RuntimeError):
    """Weights or a checkpoint that do not fit the model or the folder they are in."""


class MissingExtraError(KosmosError, ImportError):
    """An optional package that is not installed."""


def os_error(
    error: OSError, path: object = None, *, act: str = "", hint: str | None = None
) -> DataError:
    """An error of the operating system in our own form.

    Args:
        error: What it raised.
        path: What it is about; None: what the error itself names.
        act: What could not be done to it, as in "could not be written".
        hint: What to do about it.
    """
    path = path or error.filename or "system"
    name = os.fsdecode(path) if isinstance(path, bytes) else str(path)
    what = error.strerror or str(error) or type(error).__name__
    match error.errno:
        case errno.ENOENT:
            what = "expected a file or folder, found nothing there"
        case errno.EISDIR:
            what = "expected a file, found a folder"
        case errno.ENOTDIR | errno.EEXIST:
            parents = [Path(name), *Path(name).parents]
            name = next((str(parent) for parent in parents if parent.is_file()), name)
            what = "expected a folder, found a file"
        case errno.ENAMETOOLONG:
            what = "expected a shorter name (most systems take 255 bytes), found one too long"
        case errno.EACCES | errno.EPERM:
            what = f"expected permission, found none: {what}"
        case errno.EROFS:
            what = f"expected a place that can be written, found none: {what}"
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            with suppress(OSError, StopIteration):
                what += f" {free_space(path)}" if isinstance(path, Path) else ""
    if len(name) > _MAX_PATH_CHARS:
        name = f"{name[:_MAX_PATH_CHARS]}..."
    return DataError(f"{name}: could not be {act}: {what}" if act else f"{name}: {what}", hint=hint)


@contextmanager
def writing(path: Path, *, hint: str = _UNTOUCHED) -> Iterator[None]:
    """Errors of the system while a file is written, in our own form.

    Raises:
        DataError: If the disk refuses, naming the file.
    """
    try:
        yield
    except OSError as error:
        raise os_error(error, path, act="written", hint=hint) from error


def free_space(path: Path) -> str:
    """What a disk has left, for a message about one that refused: ``(0.00 GB free on /data)``.

    Args:
        path: A file or folder on it; it need not be there.
    """
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    while not folder.is_mount() and folder != folder.parent:
        folder = folder.absolute().parent
    return f"({shutil.disk_usage(folder).free / 1e9:.2f} GB free on {folder})"
