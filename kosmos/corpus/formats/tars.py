"""Opening tars of others, such that what is damaged is not taken for the end.

Python's tarfile ends an archive without a word at a header that is cut or damaged, unless it is the
first, and where a file ends without the mark that ends a tar. The members behind it would be lost
silently.
"""

import tarfile
from typing import IO, Literal, Self

_BLOCK = 512


def open_tar(file: IO[bytes], *, mode: Literal["r:", "r|*"]) -> tarfile.TarFile:
    """A tar whose members are read up to the mark that ends it.

    Args:
        file: The tar.
        mode: ``r:`` for an uncompressed one that is read here and there, ``r|*`` for one of any
            compression that is read front to back.

    Raises:
        ReadError: Here or while its members are drawn, if it is no tar, damaged, or ends early.
    """
    return tarfile.open(fileobj=file, mode=mode, tarinfo=_Header)


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
