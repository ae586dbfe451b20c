"""The one way tar files are written and read here: plain ustar, no dates, no owners.

The same members make the same bytes, and a member's data begins at a known offset::

    | header 512 | data | zeros to a multiple of 512 | header 512 | data | ... | 1024 zeros |

- :class:`TarWriter` appends members, hashing on the way
- :func:`gap` is what lies between two members' data
- :func:`read_at` reads bytes of a file without holding it open
"""

import contextlib
import hashlib
import os
import tarfile
from pathlib import Path
from typing import IO

from kosmos.errors import DataError

_BLOCK = 512


class TarWriter:
    """A ustar file written front to back.

    Args:
        path: The file to write.

    Raises:
        OSError: Here and in every method, if the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.num_bytes = 0
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = open(path, "wb")  # noqa: SIM115 - closed by close() or discard()

    @property
    def sha256(self) -> str:
        """Checksum of what was written."""
        return self._digest.hexdigest()

    def add(self, name: str, data: bytes) -> int:
        """Append a member.

        Args:
            name: At most 100 ASCII characters.
            data: The member's contents.

        Returns:
            The offset of the data in the file.
        """
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        begin = self.num_bytes
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))
        return begin

    def close(self) -> None:
        """End the archive; when this returns, the disk has it."""
        try:
            self._write(bytes(2 * _BLOCK))
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self.discard()

    def discard(self) -> None:
        """Close the file whatever is still in its buffer."""
        # a full disk refuses the buffer once more; the first refusal was reported
        with contextlib.suppress(OSError):
            self._file.close()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.num_bytes += len(data)


def gap(num_bytes: int) -> int:
    """Bytes between the end of a member's data and the beginning of the next member's.

    Args:
        num_bytes: From the beginning of any member's data to the end of this one's.
    """
    return -num_bytes % _BLOCK + _BLOCK


def read_at(path: Path, offset: int, num_bytes: int) -> bytes:
    """Exactly so many bytes from there.

    Raises:
        DataError: If the file is missing or shorter.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{path}: expected a shard, found {error.strerror}") from error
    try:
        data = os.pread(descriptor, num_bytes, offset)
        while len(data) < num_bytes:  # the kernel gives at most 2 GiB at a time
            more = os.pread(descriptor, num_bytes - len(data), offset + len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise DataError(f"{path}: could not be read: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    if len(data) != num_bytes:
        raise DataError(f"{path}: expected {num_bytes} bytes at {offset}, found {len(data)}")
    return data
