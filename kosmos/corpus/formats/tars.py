"""Reading tars of others, such that what is damaged is not taken for the end, nor believed.

Python's tarfile ends an archive without a word at a header that is cut or damaged, unless it is the
first, and where a file ends without the mark that ends a tar. It also reads as much as a header
asks for: of another header, of a map of holes, of a file that is nothing but holes. Here nothing is
read past the limits (limits.py); a member that is too large, or that has holes, is passed over.

- :func:`read_members`: names and bytes, front to back, packed or not
- :func:`member_places`: where the bytes are, of a tar that is not packed
- :func:`unpacked`: a file as it was before gzip, bzip2 or xz
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal, Self

from kosmos.corpus.formats.limits import (
    MAX_RECORD_BYTES,
    MAX_TAR_HEADER_BYTES,
    MAX_UNPACKED_RATIO,
    MiB,
)
from kosmos.corpus.formats.tally import Tally
from kosmos.errors import DataError
from kosmos.remote import AnyPath

_BLOCK = 512
_PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""How packed files begin, and what unpacks them."""
_MAX_GLOBALS = 100
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Members that say something about the next one."""


def read_members(path: AnyPath, name: str, tally: Tally) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a tar, in order.

    What is no file, or none that can be held, is counted.

    Args:
        path: The tar, packed or not.
        name: What it is called.
        tally: Takes what is passed over.

    Raises:
        DataError: While they are drawn, if it is no tar, damaged, or ends early.
    """
    with _opened(path, "r|") as tar:
        for member in _members(tar):
            # what is not UTF-8 in a name is shown as the bytes that it is
            raw = member.name.encode("utf-8", "surrogateescape")
            known = raw.decode("utf-8", "backslashreplace")
            where = f"{name}/{known}"
            if known != member.name:
                tally.change("name that is not UTF-8", where)
            if member.issparse():
                tally.bad("tar member with holes", where)
            elif member.size > MAX_RECORD_BYTES:
                tally.bad(f"tar member over {MAX_RECORD_BYTES // MiB} MiB", where)
            elif member.isreg():
                data = tar.extractfile(member)
                assert data is not None
                yield known, data.read()
            elif not member.isdir():
                tally.leave_out("tar member that is no file", where)


def member_places(path: AnyPath) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file in a tar that is not packed.

    Raises:
        DataError: As :func:`read_members`.
    """
    with _opened(path, "r:") as tar:
        for member in _members(tar):
            if member.isreg() and not member.issparse() and member.size <= MAX_RECORD_BYTES:
                yield member.name, member.offset_data, member.size


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """What a file holds, if it is packed, or the file.

    Args:
        file: At its beginning, and buffered. Reading the result raises what the packing's module
            does if it is damaged, and OSError if it has more in it than is believable.
    """
    head = file.peek(6)  # type: ignore[attr-defined]
    for magic, unpack in _PACKED.items():
        if head.startswith(magic):
            return io.BufferedReader(_Unpacking(unpack(file), file), MiB)
    return file


class _Unpacking(io.RawIOBase):
    """A packed file that is read as long as it is believable."""

    def __init__(self, inner: IO[bytes], packed: IO[bytes]) -> None:
        self._inner = inner
        self._packed = packed
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever has a buffer
        data = self._inner.read(len(buffer))
        self._num_bytes += len(data)
        if self._num_bytes > MAX_UNPACKED_RATIO * self._packed.tell() + MAX_RECORD_BYTES:
            raise OSError(f"data that unpacks to over {MAX_UNPACKED_RATIO} times its size")
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _opened(path: AnyPath, mode: Literal["r:", "r|"]) -> Iterator[tarfile.TarFile]:
    try:
        with path.open("rb") as file:
            source = file if mode == "r:" else unpacked(file)
            with tarfile.open(fileobj=source, mode=mode, tarinfo=_Header) as tar:
                yield tar
            while source is not file and source.read(MiB):
                pass  # behind the end stands the checksum
    except DataError:
        raise
    except (
        *(tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError),
        # what tarfile makes of headers that somebody made up
        *(ValueError, LookupError, ArithmeticError, RecursionError),
    ) as error:
        what = str(error) or type(error).__name__
        raise DataError(f"{path}: expected a whole tar file, found {what}") from error


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    end = -1
    while (member := tar.next()) is not None:
        if tar.offset <= end:
            raise tarfile.ReadError("a header that leads back")
        end = tar.offset
        tar.members.clear()  # type: ignore[attr-defined]  # or all headers of the file would be held
        yield member


class _Header(tarfile.TarInfo):
    """A header, or an error that tarfile does not take for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) < _BLOCK:
            raise tarfile.ReadError("unexpected end of data")
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):  # the mark
                raise
            raise tarfile.ReadError(f"a damaged header ({error})") from error

    # tarfile calls what follows by these names, which are kept for classes that add to it

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        limit = MAX_TAR_HEADER_BYTES if self.type in _HEADERS else self.size
        if not 0 <= self.size <= limit or len(tar.pax_headers) > _MAX_GLOBALS:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]

    def _proc_sparse(self, tar: Any) -> tarfile.TarInfo:  # noqa: ANN401
        _, goes_on, _ = self._sparse_structs  # type: ignore[attr-defined]
        while goes_on:
            goes_on = bool(tar.fileobj.read(_BLOCK)[504])
        self.sparse = b""
        self.offset_data = tar.fileobj.tell()
        tar.offset = self.offset_data + self._block(self.size)  # type: ignore[attr-defined]
        return self

    def _no_map(self, member: tarfile.TarInfo, *_: object) -> None:
        member.sparse = b""

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _no_map

    def _apply_pax_info(self, headers: dict[str, str], encoding: str, errors: str) -> None:
        holes = {name for name in headers if name.startswith("GNU.sparse.")}
        if holes:
            self.sparse = b""
        holes.discard("GNU.sparse.name")
        told = {name: value for name, value in headers.items() if name not in holes}
        super()._apply_pax_info(told, encoding, errors)  # type: ignore[misc]
        if self.size < 0:
            raise tarfile.ReadError(f"a member of {self.size} bytes")
