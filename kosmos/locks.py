"""One process at a time at a file or a folder.

Processes that write the same thing at once would mix what they write, or publish halves of each.
Locks are the kernel's, so that nothing is left to clean up after a kill; where a file system knows
none, that is told and work goes on.
"""

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kosmos.errors import DataError, writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MAX_NAME_BYTES = 200
_log = logging.getLogger(__name__)
_held: set[tuple[int, str]] = set()


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes that ask for a file or folder away from it while the block runs.

    The lock is on ``.NAME.lock`` beside it, which goes with it. The kernel lets go of it when the
    process ends, however it ends. A thread that holds a path may ask for it again.

    Args:
        path: What to hold; it need not be there, its parent must.
        wait: Wait until it is free.

    Raises:
        DataError: If another process holds it, or the disk refuses.
    """
    path = Path(os.path.realpath(path))
    key = (threading.get_ident(), str(path))
    if key in _held:
        yield
        return
    lock = beside(path, "lock")
    with writing(path):
        descriptor = _take(lock, path, wait=wait)
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        if sys.platform == "win32":
            os.close(descriptor)  # what is open cannot be removed there
            with suppress(OSError):
                lock.unlink()
        else:
            with suppress(OSError):
                lock.unlink()  # while it is held; who has opened it will see that it is gone
            os.close(descriptor)


def _take(lock: Path, path: Path, *, wait: bool) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        is_ours = False
        try:
            is_free = try_lock(descriptor, path)
            if not is_free and wait:
                _log.info("%s: waiting for another process that is at it", path)
                is_free = try_lock(descriptor, path, wait=True)
            if not is_free:
                raise busy(path)
            with suppress(FileNotFoundError):
                is_ours = os.path.samestat(os.fstat(descriptor), os.stat(lock))
            if is_ours:
                return descriptor
        finally:
            if not is_ours:
                os.close(descriptor)


def busy(path: Path) -> DataError:
    """The error that another process is at a file or folder."""
    return DataError(
        f"{path}: expected no other process at it, found one writing",
        hint="wait until it is done, or choose another name",
    )


def try_lock(descriptor: int, path: Path, *, wait: bool = False) -> bool:
    """Lock an open file or folder for this process, until it is closed.

    Args:
        descriptor: Of the open file.
        path: Its name, for messages.
        wait: Wait until it is free.

    Returns:
        Whether nobody else holds it; where locks are not known that is taken for granted, and told.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            # a byte that no file has, since others cannot read what is locked
            os.lseek(descriptor, 1 << 40, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        elif fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # some file systems of networks know no locks
        _log.warning("%s: cannot be locked (%s); start nothing else there", path, error)
    return True


def beside(path: Path, ending: str) -> Path:
    """The hidden name ``.NAME.ENDING`` beside a path, of a length that every system takes."""
    name = path.name
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return path.with_name(f".{name}.{ending}")
