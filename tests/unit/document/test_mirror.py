"""Remote shards are fetched once for all processes, and are what the manifest says or not there."""

import multiprocessing
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from kosmos.document import mirror
from kosmos.document.mirror import Mirror
from kosmos.document.shards import ShardReader, ShardWriter
from kosmos.document.types import Document, Text
from kosmos.errors import DataError
from kosmos.remote import RemotePath
from tests.unit.spring.test_remote import Quiet, served

DOCS = [Document([Text(f"text {n}")], id=str(n)) for n in range(5)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOSMOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mirror, "WAIT_S", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    with ShardWriter(tmp_path / "shards", documents_per_shard=2) as writer:
        for doc in DOCS:
            writer.write(doc)
    return tmp_path / "shards"


@pytest.fixture
def remote(shards: Path) -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe(f"/test-mirror/{path.name}", path.read_bytes())
    yield "memory://test-mirror"
    memory.rm("/test-mirror", recursive=True)


def cached(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "shards").glob("*/*") if path.suffix != ".lock")


def test_documents_of_a_remote_folder_are_those_of_the_folder(
    shards: Path, remote: str, cache: Path
) -> None:
    reader = ShardReader(remote)
    assert reader.digest == ShardReader(shards).digest
    assert cached(cache) == ["index.npy"]
    assert reader[2] == DOCS[2]
    assert cached(cache) == ["00001.tar", "index.npy"]
    assert list(reader) == DOCS
    reader.verify()
    assert list(pickle.loads(pickle.dumps(reader))) == DOCS


def test_shards_are_fetched_once_and_shared_by_equal_folders(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    monkeypatch.setattr(Quiet, "do_GET", counting(asked, Quiet.do_GET))
    shutil.copytree(shards, tmp_path / "two" / "shards")
    with served(shards) as one, served(tmp_path / "two") as two:
        assert list(ShardReader(one)) == DOCS
        assert list(ShardReader(f"{two}/shards")) == DOCS
    tars = {path: count for path, count in asked.items() if path.endswith(".tar")}
    assert tars == {f"/0000{n}.tar": 1 for n in range(3)}


def counting(asked: Counter[str], get):
    def do_GET(self: Quiet) -> None:  # noqa: N802
        asked[self.path] += 1
        get(self)

    return do_GET


def test_what_is_not_as_recorded_is_an_error_and_is_not_kept(remote: str, cache: Path) -> None:
    memory = fsspec.filesystem("memory")
    reader = ShardReader(remote)
    data = memory.cat("/test-mirror/00000.tar")
    memory.pipe("/test-mirror/00000.tar", data[:-700])
    with pytest.raises(DataError, match=r"00000\.tar: expected SHA-256 .* as in the manifest"):
        _ = reader[0]
    memory.rm("/test-mirror/00001.tar")
    with pytest.raises(DataError, match=r"00001\.tar: expected a file of the manifest, found none"):
        _ = reader[2]
    assert cached(cache) == ["index.npy"]
    memory.pipe("/test-mirror/00000.tar", data)
    assert reader[0] == DOCS[0]


def test_a_connection_that_breaks_is_tried_again(
    remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ShardReader(remote)
    real_open, failures = RemotePath.open, iter([True, True, False])

    def unsteady(self: RemotePath, mode: str = "rb"):
        if next(failures):
            raise DataError(f"{self}: could not be read: reset by peer")
        return real_open(self, mode)

    monkeypatch.setattr(RemotePath, "open", unsteady)
    assert reader[0] == DOCS[0]


def test_a_remote_folder_without_a_manifest_is_an_error_naming_it() -> None:
    with pytest.raises(DataError, match=r"memory://test-nowhere/manifest\.json: expected a JSON"):
        ShardReader("memory://test-nowhere")


def test_a_cache_that_cannot_be_written_is_an_error_with_the_way_out(
    remote: str, cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="could not be written") as caught:
        ShardReader(remote)
    assert "KOSMOS_CACHE" in str(caught.value.hint)


def test_the_cache_is_in_the_users_cache_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOSMOS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert mirror.cache_folder() == Path("/x/openkosmos")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert mirror.cache_folder() == Path.home() / ".cache" / "openkosmos"


def _read(url: str, cache: str, texts) -> None:
    import os

    os.environ["KOSMOS_CACHE"] = cache
    texts.put([doc.text for doc in ShardReader(url)])


def test_processes_that_start_together_fetch_each_shard_once(
    shards: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    monkeypatch.setattr(Quiet, "do_GET", counting(asked, Quiet.do_GET))
    context = multiprocessing.get_context("spawn")
    texts = context.Queue()
    with served(shards) as url:
        processes = [context.Process(target=_read, args=(url, str(cache), texts)) for _ in range(3)]
        for process in processes:
            process.start()
        found = [texts.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
    assert found == [[doc.text for doc in DOCS]] * 3
    assert {count for path, count in asked.items() if path.endswith(".tar")} == {1}


def test_a_mirror_of_a_killed_process_goes_on(remote: str, cache: Path) -> None:
    reader = ShardReader(remote)
    scratch = next((cache / "shards").glob("*.partial"))
    (scratch / "00000.tar").write_bytes(b"half of it")
    assert isinstance(reader._mirror, Mirror)
    assert reader[0] == DOCS[0]
