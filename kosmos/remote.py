"""Paths that may lie elsewhere: ``s3://...``, ``https://...``, ``memory://...`` beside local ones.

The only file that knows fsspec, which knows the protocols; some want a package of their own
(``s3fs``, ``gcsfs``; ``aiohttp`` for ``https``). What is named here has the part of
:class:`pathlib.Path` that reading needs, so that a reader does not ask which one it was given.

What another side may do better a moment later (502, 503, 504, a connection that is reset or ends
early) is asked for again; a ``Retry-After`` is kept to, up to :data:`MAX_WAIT_S`.

- :func:`locate` makes a path of what a user wrote
- :class:`RemotePath` is one that is not on this machine
- :data:`AnyPath` is either
"""

import errno
import io
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from kosmos.errors import ConfigError, DataError, KosmosError, MissingExtraError

ATTEMPTS = 4
"""How often something is asked for before it is given up."""
WAIT_S = 0.5
"""Before the second attempt; doubled before each one after it."""
MAX_WAIT_S = 60.0
"""The longest wait that a server may ask for."""
_BUFFER_BYTES = 1 << 20
_GONE = (404, 410)
_BUSY = (502, 503, 504)
_SILENCE_S = 60.0

_log = logging.getLogger(__name__)
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A file or folder that fsspec reaches.

    Holds nothing but its name, so that it can be shared, inherited by forks and pickled.

    Args:
        url: The name, with its protocol.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self._path.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """Last part of the path; of ``https``, without a query."""
        return unquote(PurePosixPath(self._path).name)

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The name's ending, with the dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "RemotePath":
        """The folder it is in."""
        return RemotePath(self._path.rstrip("/").rpartition("/")[0])

    @property
    def _path(self) -> str:
        return self.url.partition("?")[0].partition("#")[0] if self._is_web else self.url

    @property
    def _is_web(self) -> bool:
        return self.url.startswith(("http://", "https://"))

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open for reading bytes; the file can be sought.

        Raises:
            FileNotFoundError: If there is none.
            DataError: Here and while reading, if the other side or the way there fails.
        """
        if mode != "rb":
            raise ValueError(f"{self.url}: expected mode 'rb', found {mode!r}")
        return io.BufferedReader(_Reading(self), _BUFFER_BYTES)

    def read_bytes(self) -> bytes:
        """All of the file.

        Raises:
            FileNotFoundError: If there is none.
            DataError: If it cannot be read.
        """
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of the file, decoded.

        Raises:
            FileNotFoundError: If there is none.
            DataError: If it cannot be read.
        """
        return self.read_bytes().decode(encoding)

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there is such a folder; of ``https``, a page that lists files."""
        return self._kind() == "directory"

    def _kind(self) -> str:
        filesystem, path = self._reach()
        try:
            info = self._ask(lambda: filesystem.info(path))
        except FileNotFoundError:
            return ""
        # the web has no folders, and calls the page of one a file
        is_page = str(info.get("mimetype", "")).startswith("text/html")
        return "directory" if is_page else str(info["type"])

    def iterdir(self) -> Iterator["RemotePath"]:
        """Files and folders in this folder.

        Raises:
            FileNotFoundError: If there is none.
            DataError: If it cannot be listed.
        """
        filesystem, path = self._reach()
        found = self._ask(lambda: filesystem.ls(path, detail=False))
        for name in found:
            yield RemotePath(filesystem.unstrip_protocol(name))

    def rglob(self, pattern: str) -> Iterator["RemotePath"]:
        """Files below this folder whose name matches; of ``https``, as far as it lists them."""
        filesystem, path = self._reach()
        try:
            found = self._ask(lambda: filesystem.find(path))
        except FileNotFoundError:
            return
        for name in found:
            below = RemotePath(filesystem.unstrip_protocol(name))
            if PurePosixPath(below.name).match(pattern):
                yield below

    def _reach(self) -> tuple[Any, str]:
        """The filesystem, made in this process, and what it calls the path."""
        from kosmos.runtime import require  # most paths are local

        fsspec = require("fsspec", extra="data")
        options: dict[str, Any] = {}
        if self._is_web:
            # aiohttp's own limit is five minutes for a whole file
            timeout = require("aiohttp", extra="data").ClientTimeout(
                total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S
            )
            options = {"client_kwargs": {"timeout": timeout}}
        try:
            filesystem, path = fsspec.core.url_to_fs(self.url, **options)
        except ImportError as error:
            raise MissingExtraError(
                f"{self.url}: expected the package for its protocol, found none: {error}",
                hint="pip install 'openkosmos[data]' for https, s3fs for s3, gcsfs for gs",
            ) from error
        except (ValueError, TypeError) as error:  # it is unknown, or wants more than a name
            raise ConfigError(f"{self.url}: expected a known protocol: {error}") from error
        except OSError as error:  # of those that look while they are made
            raise self._unread(error) from error
        return filesystem, str(path)

    def _ask(
        self, act: Callable[[], _Found], *, before_next: Callable[[], None] | None = None
    ) -> _Found:
        """What an act finds, tried again where that may help.

        Errors of whatever kind a protocol raises become our own, but for a file that is missing.
        """
        for attempt in range(ATTEMPTS):
            try:
                if attempt and before_next is not None:
                    before_next()
                return act()
            except KosmosError:
                raise
            except Exception as error:  # protocols have classes of their own, without a common root
                # fsspec says "not found" of web servers that do not answer, too
                is_missing = isinstance(error, FileNotFoundError)
                cause = error.__cause__ if is_missing else error
                if is_missing and (cause is None or getattr(cause, "status", None) in _GONE):
                    raise
                assert cause is not None
                if attempt + 1 == ATTEMPTS or not _may_pass(cause):
                    raise self._unread(cause) from error
                wait_s = _wait_s(cause, attempt)
                _log.info("%s: %s; again in %.3g s", self.url, cause, wait_s)
                time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _unread(self, error: BaseException) -> DataError:
        return DataError(f"{self.url}: could not be read: {type(error).__name__}: {error}")


def _may_pass(error: BaseException) -> bool:
    """Whether the same question may be answered a moment later."""
    if getattr(error, "status", None) in _BUSY:
        return True
    # by name, since aiohttp is imported only by who needs it
    is_cut = type(error).__name__ in ("ServerDisconnectedError", "ClientPayloadError")
    return is_cut or getattr(error, "errno", None) in (errno.ECONNRESET, errno.EPIPE)


def _wait_s(error: BaseException, attempt: int) -> float:
    asked = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    # it may be a date as well, which depends on both clocks
    return min(float(asked), MAX_WAIT_S) if asked.isdecimal() else WAIT_S * 2**attempt


AnyPath: TypeAlias = Path | RemotePath


class _Reading(io.RawIOBase):
    """A remote file whose failures name it.

    A web server is asked for the whole file once, and for parts of it from the first seek on; if it
    knows no parts, the file is copied to a temporary one.
    """

    def __init__(self, path: RemotePath) -> None:
        self._path = path
        self._is_stream = path._is_web
        self._file = self._open()
        self._position = 0

    def _open(self) -> IO[bytes]:
        filesystem, name = self._path._reach()
        options = {"block_size": 0} if self._is_stream else {}
        file: IO[bytes] = self._path._ask(lambda: filesystem.open(name, "rb", **options))
        return file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever has a buffer
        data = self._path._ask(lambda: self._read(len(buffer)), before_next=self._reopen)
        if not data and len(buffer):
            self._check_end(self._file, self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except ValueError:
            # what fsspec raises where a server sends the whole file for a part
            if not self._path._is_web or self._is_stream:
                raise
            self._copy()
            return self._file.read(size)

    def _reopen(self) -> None:
        """Go on at the same place of the file, with parts of it."""
        self._file.close()
        self._is_stream = False
        self._file = self._open()
        if self._path._is_web and getattr(self._file, "size", None) is None:
            self._copy()
        else:
            self._file.seek(self._position)

    def _check_end(self, file: IO[bytes], position: int) -> None:
        """Fail if a body that ended with its connection is shorter than the file is said to be."""
        response = getattr(file, "r", None)
        if response is None or {"Content-Length", "Transfer-Encoding"} & {*response.headers}:
            return  # an early end was an error already
        filesystem, name = self._path._reach()
        size = self._path._ask(lambda: filesystem.info(name)).get("size")
        if size is None:
            _log.warning("%s: its server says no length, so a cut would not be seen", self._path)
        elif size != position:
            raise DataError(
                f"{self._path}: expected {size} bytes, found {position} when the connection ended"
            )

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._is_stream and (offset, whence) not in (
            (self._position, io.SEEK_SET),
            (0, io.SEEK_CUR),
        ):
            self._reopen()
        if not self._is_stream:
            if whence == io.SEEK_CUR:
                offset, whence = offset + self._position, io.SEEK_SET
            self._position = self._path._ask(lambda: self._file.seek(offset, whence))
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _copy(self) -> None:
        self._file.close()
        self._is_stream = True
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this file
        try:
            with self._open() as source:
                shutil.copyfileobj(source, copy, _BUFFER_BYTES)
                self._check_end(source, copy.tell())
        except BaseException:
            copy.close()
            raise
        self._is_stream = False
        copy.seek(self._position)
        self._file = copy


def locate(name: "str | AnyPath") -> AnyPath:
    """The path that a user's words name.

    Args:
        name: A local path, one with a protocol, or a path already.

    Raises:
        ConfigError: If it is no URL, or a protocol's two slashes were lost on the way.
    """
    if isinstance(name, RemotePath):
        return name
    text = str(name)
    if "://" in text:
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise ConfigError(f"{text}: expected a path or a URL, found {error}") from error
        return Path(unquote(parts.path)) if parts.scheme == "file" else RemotePath(text)
    protocol, colon, _ = text.partition(":/")
    if colon and isinstance(name, Path) and protocol.isalnum() and len(protocol) > 1:
        raise ConfigError(
            f"{text}: expected a local path, found what Path makes of {protocol}://",
            hint="give names with a protocol as text",
        )
    return Path(name)
