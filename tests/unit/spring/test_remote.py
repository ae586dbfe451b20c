"""A path that lies elsewhere reads like one that does not, and says so when it cannot."""

import io
import pickle
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from kosmos import remote
from kosmos.errors import ConfigError, DataError, MissingExtraError
from kosmos.remote import RemotePath, locate


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path, handler: type[Quiet] = Quiet) -> Iterator[str]:
    """A folder behind http on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[list[RemotePath]]:
    """The same two files, in memory and behind http."""
    memory = fsspec.filesystem("memory")
    (tmp_path / "below").mkdir()
    for name, data in (("a b.txt", b"one\ntwo"), ("below/c.tar", b"three")):
        (tmp_path / name).write_bytes(data)
        memory.pipe(f"/test-remote/{name}", data)
    with served(tmp_path) as url:
        yield [RemotePath("memory://test-remote"), RemotePath(url)]
    memory.rm("/test-remote", recursive=True)


def test_files_elsewhere_are_found_and_read(folders: list[RemotePath]) -> None:
    for folder in folders:
        name = "a b.txt" if folder.url.startswith("memory") else "a%20b.txt"
        path = folder / name
        assert path.is_file()
        assert not path.is_dir()
        assert folder.is_dir()
        assert not folder.is_file()
        assert path.read_text() == "one\ntwo"
        with path.open() as file:
            assert list(file) == [b"one\n", b"two"]
            file.seek(4)
            assert file.read() == b"two"
        assert (path.name, path.stem, path.suffix, path.parent) == (
            "a b.txt",
            "a b",
            ".txt",
            folder,
        )
        assert sorted(found.name for found in folder.rglob("*")) == ["a b.txt", "c.tar"]
        assert sorted(found.name for found in folder.iterdir()) == ["a b.txt", "below"]
        assert [found.read_bytes() for found in folder.rglob("*.tar")] == [b"three"]
        assert pickle.loads(pickle.dumps(path)) == path


def test_what_is_not_there_is_not_there(folders: list[RemotePath]) -> None:
    for folder in folders:
        assert not (folder / "nothing").is_file()
        with pytest.raises(FileNotFoundError):
            (folder / "nothing").read_bytes()
        assert list((folder / "nothing").rglob("*")) == []


def test_a_query_is_no_part_of_a_name() -> None:
    path = locate("https://host/data/x%20y.parquet?download=true")
    assert isinstance(path, RemotePath)
    assert (path.name, path.suffix, str(path.parent)) == (
        "x y.parquet",
        ".parquet",
        "https://host/data",
    )


def test_names_without_a_protocol_are_local() -> None:
    assert locate("a/b") == Path("a/b")
    assert locate("file:///a/b%20c") == Path("/a/b c")
    assert locate("s3://bucket/x") == RemotePath("s3://bucket/x")
    assert locate(Path("x")) == Path("x")


def test_a_protocol_that_lost_its_slashes_is_an_error_and_no_empty_folder() -> None:
    with pytest.raises(ConfigError, match="s3:/bucket"):
        locate(Path("s3://bucket/x"))


def test_unknown_protocols_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nope://x: expected a known protocol"):
        RemotePath("nope://x").is_file()

    def no_package(url: str, **_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", no_package)
    with pytest.raises(MissingExtraError, match="Install s3fs"):
        RemotePath("s3://x/y").read_bytes()


def test_failures_on_the_way_are_data_errors_that_name_the_file() -> None:
    closed = RemotePath("http://127.0.0.1:9/x.txt")  # nobody listens there
    for act in (closed.read_bytes, closed.is_file, closed.is_dir):
        with pytest.raises(DataError, match=r"x\.txt: could not be read: "):
            act()


def test_a_connection_that_breaks_while_reading_names_the_file(
    folders: list[RemotePath], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations import memory

    def broken(self: object, size: int = -1) -> bytes:
        raise RuntimeError("reset by peer")

    path = folders[0] / "a b.txt"
    with path.open() as file:
        monkeypatch.setattr(memory.MemoryFile, "read", broken)
        with pytest.raises(DataError, match=r"a b\.txt: could not be read: RuntimeError: reset"):
            file.read()


class Parts(Quiet):
    """A server that knows parts of files, and counts what it was asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        part = self.headers.get("Range")
        self.asked.append(part or "")
        if part is None:
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = part.removeprefix("bytes=").split("-")
        begin, end = int(first), min(int(last) + 1, len(data))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        self.wfile.write(data[begin:end])


@pytest.mark.parametrize("handler", [Quiet, Parts])
def test_large_files_are_read_whole_or_in_parts_from_any_server(
    tmp_path: Path, handler: type[Quiet]
) -> None:
    data = random.Random(0).randbytes(12_000_000)  # more than fsspec asks for at a time
    (tmp_path / "x.bin").write_bytes(data)
    Parts.asked.clear()
    with served(tmp_path, handler) as url:
        path = RemotePath(f"{url}/x.bin")
        with path.open() as file:
            assert file.read() == data
        assert Parts.asked == ([] if handler is Quiet else [""])
        with path.open() as file:
            assert file.read(10) == data[:10]
            assert file.seek(-100, io.SEEK_END) == len(data) - 100
            assert file.read() == data[-100:]
            assert file.seek(7_000_000) == 7_000_000
            assert file.read(3) == data[7_000_000:7_000_003]
            assert file.seek(-1, io.SEEK_CUR) == 7_000_002
            assert (file.tell(), file.read(1)) == (7_000_002, data[7_000_002:7_000_003])


# --- servers that misbehave


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited for servers, in place of waiting."""
    waited: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    return waited


class Failing(Parts):
    """Answers the first questions as told, and all others well."""

    fail: ClassVar[Callable[["Failing"], None]]
    left: ClassVar[int] = 0

    def do_GET(self) -> None:
        if Failing.left > 0:
            Failing.left -= 1
            Failing.fail(self)
            self.close_connection = True
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        # a fault of the whole server, which fsspec's look before reading meets as well
        if Failing.left > 0 and Failing.fail in FAULTS_OF_ALL:
            self.send_error(405)
        else:
            super().do_HEAD()


def busy(handler: Failing) -> None:
    handler.send_response(503)
    handler.send_header("Retry-After", "7")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def busy_for_hours(handler: Failing) -> None:
    handler.send_response(502)
    handler.send_header("Retry-After", "7200")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def reset(handler: Failing) -> None:
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    handler.wfile = io.BytesIO()


def cut(handler: Failing) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b"x" * 1000)


def cut_chunks(handler: Failing) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")


def cut_without_length(handler: Failing) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"x" * 1000)


FAULTS_OF_ALL = (busy, busy_for_hours)
DATA = b"x" * 1000 + random.Random(1).randbytes(500_000)


@pytest.mark.parametrize("fault", [busy, busy_for_hours, reset, cut, cut_chunks])
def test_what_a_server_does_better_a_moment_later_is_asked_again(
    tmp_path: Path, waits: list[float], fault: Callable[[Failing], None]
) -> None:
    (tmp_path / "x.bin").write_bytes(DATA)
    with served(tmp_path, Failing) as url:
        Failing.fail, Failing.left = fault, 1
        assert RemotePath(f"{url}/x.bin").read_bytes() == DATA
    expected = [{busy: 7.0, busy_for_hours: remote.MAX_WAIT_S}.get(fault, remote.WAIT_S)]
    # a connection that is used again and was reset may have been renewed by aiohttp itself
    assert waits == expected or (fault is reset and not waits)


@pytest.mark.parametrize("fault", [busy, reset, cut, cut_chunks])
def test_a_server_that_never_does_better_is_given_up(
    tmp_path: Path, waits: list[float], fault: Callable[[Failing], None]
) -> None:
    (tmp_path / "x.bin").write_bytes(DATA)
    with served(tmp_path, Failing) as url:
        Failing.fail, Failing.left = fault, 1000
        with pytest.raises(DataError, match=r"x\.bin: could not be read"):
            RemotePath(f"{url}/x.bin").read_bytes()
    assert remote.ATTEMPTS - 1 <= len(waits) <= remote.ATTEMPTS**2


def test_a_body_without_a_length_that_ends_early_is_no_shorter_file(
    tmp_path: Path, waits: list[float]
) -> None:
    (tmp_path / "x.bin").write_bytes(DATA)
    with served(tmp_path, Failing) as url:
        Failing.fail, Failing.left = cut_without_length, 1
        with pytest.raises(DataError, match="expected 501000 bytes, found 1000 when"):
            RemotePath(f"{url}/x.bin").read_bytes()
    assert waits == []


def test_what_is_not_there_or_not_allowed_is_not_asked_again(
    tmp_path: Path, waits: list[float]
) -> None:
    with served(tmp_path) as url, pytest.raises(FileNotFoundError):
        RemotePath(f"{url}/nothing").read_bytes()
    assert waits == []


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://127.0.0.1:9/x", "zip://x", "zip://", "http://[", "http://[::1", "file://["),
        *("nope://x", "http://", "reference://x", "http://127.0.0.1:99999/x"),
        *("zip://a.txt::http://127.0.0.1:9/x.zip", "https://a b/c"),
    ],
)
def test_a_url_of_whatever_kind_is_an_error_of_ours(url: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        path = locate(url)
        assert not path.is_file()
        path.read_bytes()
    assert caught.value.message.startswith(url)
