"""Shards: what goes in comes out, any tar reader can read it, and nothing half done is seen."""

import builtins
import errno
import io
import json
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.check.shardscan import ShardScan
from kosmos.document.shards import ShardReader, ShardWriter
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError, ImageError
from kosmos.files import read_json, sha256_file, write_json
from kosmos.findings import Findings
from kosmos.image.codec import decode, encode_jpeg, encode_png
from tests.strategies import documents

PICTURE = PIL.Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
PNG, JPEG = encode_png(PICTURE), encode_jpeg(PICTURE)


def example(number: int) -> Document:
    return Document(
        [
            Image(PNG),
            Text("Where is it?", role="user", loss=False),
            Grounded(" here ", [Box(0.1, 0.2, 1 / 3, number / 100)], role="assistant"),
            Image(JPEG, role="assistant"),
        ],
        id=f"doc/{number}.x",
        meta={"number": number, "answers": ["yes", None, 0.5]},
    )


def write(folder: Path, docs: list[Document], **options) -> ShardReader:
    with ShardWriter(folder, **options) as writer:
        for doc in docs:
            writer.write(doc)
    return ShardReader(folder)


# --- round trip


@settings(max_examples=40)
@given(st.lists(documents(), max_size=6, unique_by=lambda doc: doc.id), st.integers(1, 4))
def test_any_documents_come_back_as_they_were(docs: list[Document], per_shard: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reader = write(Path(folder) / "shards", docs, documents_per_shard=per_shard)
        assert len(reader) == len(docs)
        assert list(reader) == docs
        assert [reader[i] for i in reversed(range(len(docs)))] == docs[::-1]
        reader.verify()


def test_floats_keep_all_their_bits(tmp_path: Path) -> None:
    corners = (0.1 + 0.2, 5e-324, 1 / 3, float(np.nextafter(1.0, 0.0)))
    boxes = [Box(*corners), Box(0.0, 0.0, 1.0, -0.0)]
    found = write(tmp_path / "x", [Document([Grounded("a", boxes)])])[0].parts[0].boxes
    assert [(b.x0.hex(), b.y0.hex(), b.x1.hex(), b.y1.hex()) for b in found] == [
        tuple(float(v).hex() for v in (b.x0, b.y0, b.x1, b.y1)) for b in boxes
    ]


def test_numbers_of_other_kinds_become_floats(tmp_path: Path) -> None:
    box = Box(0.0, 0.0, 1.0, 1.0)
    object.__setattr__(box, "x0", np.float32(0.1))  # what an array of a detector's boxes holds
    object.__setattr__(box, "y1", 1)
    found = write(tmp_path / "x", [Document([Grounded("a", [box])])])[0].parts[0].boxes[0]
    assert (found.x0, found.y1) == (0.10000000149011612, 1.0)
    assert isinstance(found.y1, float)


def test_image_files_are_kept_byte_for_byte_under_their_true_extension(tmp_path: Path) -> None:
    gif = io.BytesIO()
    PICTURE.save(gif, format="GIF")
    wrongly_named = tmp_path / "photo.png"
    wrongly_named.write_bytes(JPEG)
    doc = Document(
        [Image(PNG), Image(str(wrongly_named)), Image(wrongly_named), Image(gif.getvalue())]
    )
    reader = write(tmp_path / "x", [doc])
    assert [image.source for image in reader[0].images] == [PNG, JPEG, JPEG, gif.getvalue()]
    with tarfile.open(tmp_path / "x/00000.tar") as tar:
        assert tar.getnames() == [
            "000000000.json",
            "000000000.0.png",
            "000000000.1.jpg",
            "000000000.2.jpg",
            "000000000.3.gif",
        ]


def test_pictures_in_memory_keep_their_pixels(tmp_path: Path) -> None:
    reader = write(tmp_path / "x", [Document([Image(PICTURE), Image(np.asarray(PICTURE))])])
    for image in reader[0].images:
        assert isinstance(image.source, bytes)
        assert decode(image.source, max_pixels=100).tobytes() == PICTURE.tobytes()


def test_numbers_count_from_either_end_and_end_where_they_should(tmp_path: Path) -> None:
    docs = [example(i) for i in range(5)]
    reader = write(tmp_path / "x", docs, documents_per_shard=2)
    assert reader[-1] == docs[4]
    assert reader[np.int64(3)] == docs[3]
    for number in (5, -6):
        with pytest.raises(IndexError, match="below 5"):
            reader[number]


def test_an_empty_folder_of_shards_is_one(tmp_path: Path) -> None:
    reader = write(tmp_path / "x", [])
    assert (len(reader), list(reader)) == (0, [])
    reader.verify()


# --- format


def test_shards_are_webdataset_tars_that_plain_tarfile_reads(tmp_path: Path) -> None:
    docs = [example(i) for i in range(5)]
    write(tmp_path / "x", docs, documents_per_shard=2)
    assert sorted(os.listdir(tmp_path / "x")) == [
        "00000.tar",
        "00001.tar",
        "00002.tar",
        "index.npy",
        "manifest.json",
    ]
    found = []
    for name in ("00000.tar", "00001.tar", "00002.tar"):
        with tarfile.open(tmp_path / "x" / name, "r:") as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
                file = tar.extractfile(member)
                assert file is not None
                # WebDataset: the key ends at the first dot, members of a key stand together
                key, extension = member.name.split(".", 1)
                found.append((key, extension, file.read()))
    assert [entry[:2] for entry in found] == [
        (f"{number:09d}", extension)
        for number in range(5)
        for extension in ("json", "0.png", "1.jpg")
    ]
    assert [data for _, extension, data in found if extension == "0.png"] == [PNG] * 5
    assert json.loads(found[0][2]) == {
        "id": "doc/0.x",
        "parts": [
            {"type": "image", "file": "0.png", "bytes": len(PNG)},
            {"type": "text", "text": "Where is it?", "role": "user", "loss": False},
            {
                "type": "grounded",
                "text": " here ",
                "boxes": [[0.1, 0.2, 1 / 3, 0.0]],
                "role": "assistant",
            },
            {"type": "image", "file": "1.jpg", "bytes": len(JPEG), "role": "assistant"},
        ],
        "meta": {"number": 0, "answers": ["yes", None, 0.5]},
    }


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    reader = write(
        tmp_path / "x",
        [example(i) for i in range(5)],
        documents_per_shard=2,
        provenance={"made by": "this test", "sizes": (1, 2)},
    )
    manifest = read_json(tmp_path / "x/manifest.json")
    assert manifest == reader.manifest
    assert manifest["provenance"] == {"made by": "this test", "sizes": [1, 2]}
    assert [row["num_documents"] for row in manifest["shards"]] == [2, 2, 1]
    for row in manifest["shards"]:
        path = tmp_path / "x" / row["file"]
        assert row["sha256"] == sha256_file(path)
        assert row["bytes"] == path.stat().st_size


def test_equal_documents_make_equal_bytes_and_digests(tmp_path: Path) -> None:
    docs = [example(i) for i in range(3)]
    a, b = (write(tmp_path / name, docs, provenance=name) for name in "ab")
    assert (tmp_path / "a/00000.tar").read_bytes() == (tmp_path / "b/00000.tar").read_bytes()
    assert a.digest == b.digest
    assert write(tmp_path / "c", docs[::-1]).digest != a.digest


# --- refused documents


def test_a_refused_document_leaves_no_trace(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x") as writer:
        writer.write(example(0))
        for bad, message in [
            (example(0), "found 'doc/0.x' twice"),
            (Document([Image(b"no picture")], id="b"), "document 'b', image 0: expected a picture"),
            (Document([Image(tmp_path / "gone.jpg")], id="c"), "gone.jpg"),
            (Document([Text("\ud800")], id="d"), "part 0: expected text that UTF-8 can hold"),
            (
                Document([Grounded("a", [Box(0.0, 0.0, 1.0, float("nan"))])]),
                "part 0: expected finite",
            ),
            (Document([], meta={"a": {1: 2}}), "meta.a: expected text as keys, found 1"),
            (Document([], meta={"a": [float("inf")]}), r"meta.a[0]: expected a JSON value"),
            (Document([], meta={"a": Path("b")}), "meta.a: expected a JSON value"),
            (Document([Text("a", role="robot")]), "part 0: expected a role of text, system"),  # type: ignore[arg-type]
        ]:
            with pytest.raises(DataError) as caught:
                writer.write(bad)
            assert message in str(caught.value)
        # the id of a refused document is still free
        writer.write(Document([Text("fine")], id="b"))
    reader = ShardReader(tmp_path / "x")
    assert [doc.id for doc in reader] == ["doc/0.x", "b"]
    reader.verify()


def test_images_that_are_refused_are_image_errors(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x") as writer:
        for source in (b"", tmp_path / "gone.jpg", np.zeros((2, 2), np.uint8)):
            with pytest.raises(ImageError):
                writer.write(Document([Image(source)]))


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="documents_per_shard"):
        ShardWriter(tmp_path / "x", documents_per_shard=0)
    with pytest.raises(DataError, match="provenance"):
        ShardWriter(tmp_path / "x", provenance={"a": object()})  # type: ignore[dict-item]
    with pytest.raises(DataError, match="with block"):
        ShardWriter(tmp_path / "x").write(example(0))
    assert list(tmp_path.iterdir()) == []


# --- whole or absent


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x", documents_per_shard=1) as writer:
        for number in range(3):
            writer.write(example(number))
            assert len(writer) == number + 1
            assert not (tmp_path / "x").exists()
    assert len(ShardReader(tmp_path / "x")) == 3
    assert os.listdir(tmp_path) == ["x"]


class CallersError(Exception):
    pass


@pytest.mark.parametrize("error", [CallersError("stop"), OSError(errno.ENOENT, "mine, not yours")])
def test_an_error_of_the_callers_leaves_earlier_shards_and_is_not_disguised(
    tmp_path: Path, error: Exception
) -> None:
    write(tmp_path / "x", [example(7)])
    with pytest.raises(type(error)) as caught, ShardWriter(tmp_path / "x") as writer:
        writer.write(example(8))
        raise error
    assert caught.value is error
    assert [doc.id for doc in ShardReader(tmp_path / "x")] == ["doc/7.x"]
    assert os.listdir(tmp_path) == ["x"]


def test_a_finished_run_replaces_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "x", [example(i) for i in range(5)], documents_per_shard=1)
    reader = write(tmp_path / "x", [example(9)])
    assert [doc.id for doc in reader] == ["doc/9.x"]
    reader.verify()


def fill_disk_after(monkeypatch: pytest.MonkeyPatch, suffix: str, num_bytes: int) -> None:
    """Files with that ending can hold so many bytes, then the disk is full."""
    real_open = builtins.open

    def small(path, mode="r", *args, **kwargs):
        file = real_open(path, mode, *args, **kwargs)
        if "w" in mode and str(path).endswith(suffix):
            write, used = file.write, 0

            class Small:
                def __getattr__(self, name: str) -> object:
                    return getattr(file, name)

                def __enter__(self):
                    return self

                def __exit__(self, *_: object) -> None:
                    file.close()

                def write(self, data) -> int:
                    nonlocal used
                    used += len(data)
                    if used > num_bytes:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return write(data)

            return Small()
        return file

    monkeypatch.setattr(builtins, "open", small)
    monkeypatch.setattr(io, "open", small)  # pathlib's


@pytest.mark.parametrize(
    ("suffix", "num_bytes"),
    [(".tar", 0), (".tar", 2000), (".tar", 5000), (".npy", 10), ("manifest.json", 0)],
)
def test_a_full_disk_is_named_and_leaves_earlier_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, num_bytes: int
) -> None:
    write(tmp_path / "x", [example(7)])
    docs = [example(i) for i in range(20)]
    with monkeypatch.context() as patch:
        fill_disk_after(patch, suffix, num_bytes)
        name = {".tar": "00000.tar", ".npy": "index.npy"}.get(suffix, suffix)
        with pytest.raises(DataError, match=rf"x/{name}: could not be written: No space"):
            write(tmp_path / "x", docs)
    reader = ShardReader(tmp_path / "x")
    reader.verify()
    assert [doc.id for doc in reader] == ["doc/7.x"]
    assert os.listdir(tmp_path) == ["x"]


def test_after_half_a_document_nothing_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = []
    with monkeypatch.context() as patch:
        fill_disk_after(patch, ".tar", 5000)
        with (
            pytest.raises(DataError, match="could not be written"),
            ShardWriter(tmp_path / "x") as writer,
        ):
            for number in range(20):
                try:
                    writer.write(example(number))
                except DataError as error:
                    refusals.append(str(error))
    assert len(refusals) > 10
    assert len(set(refusals)) == 1
    assert os.listdir(tmp_path) == []


def _write_with_small_files(folder: Path, pipe) -> None:
    # the signal that comes with the limit would end the process
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        write(folder, [example(i) for i in range(100)])
        pipe.send("written")
    except DataError as error:
        pipe.send(str(error))


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_limit_of_the_system_is_a_data_error_too(tmp_path: Path) -> None:
    write(tmp_path / "x", [example(7)])
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_write_with_small_files, args=(tmp_path / "x", theirs)
    )
    process.start()
    assert ours.poll(60)
    message = ours.recv()
    process.join()
    assert "x/00000.tar: could not be written: File too large" in message
    ShardReader(tmp_path / "x").verify()
    assert os.listdir(tmp_path) == ["x"]


# --- damage


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def row(folder: Path) -> dict:
    return read_json(folder / "manifest.json")["shards"][0]


def edit(folder: Path, **values: object) -> None:
    manifest = read_json(folder / "manifest.json") | values
    kept = {name: value for name, value in manifest.items() if value is not ...}
    write_json(folder / "manifest.json", kept)


def reorder(folder: Path) -> None:
    """An index whose checksum is right and whose rows are not."""
    index = np.load(folder / "index.npy")
    np.save(folder / "index.npy", index[::-1])
    edit(folder, index={"file": "index.npy", "sha256": sha256_file(folder / "index.npy")})


DAMAGE: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    # what happens, what the message names, and whether opening notices or only verify()
    "missing shard": (
        lambda x: (x / "00001.tar").unlink(),
        r"00001\.tar: expected \d+ bytes",
        True,
    ),
    "short shard": (
        lambda x: os.truncate(x / "00000.tar", 1000),
        r"00000\.tar: expected \d+ bytes as in the manifest, found 1000",
        True,
    ),
    "flipped byte": (
        lambda x: flip(x / "00001.tar", 700),
        r"00001\.tar: expected SHA-256 [0-9a-f]{64} as in the manifest, found",
        False,
    ),
    "extra file": (
        lambda x: (x / "notes.txt").write_text("hi"),
        r"notes\.txt: expected only",
        False,
    ),
    "extra shard": (
        lambda x: (x / "00002.tar").write_bytes(b""),
        r"00002\.tar: expected only",
        False,
    ),
    "missing manifest": (lambda x: (x / "manifest.json").unlink(), r"manifest\.json", True),
    "broken manifest": (
        lambda x: (x / "manifest.json").write_text("{"),
        r"manifest\.json: expected JSON",
        True,
    ),
    "foreign manifest": (
        lambda x: write_json(x / "manifest.json", {"format": "parquet"}),
        r"manifest\.json: expected the manifest of a folder of documents",
        True,
    ),
    "later version": (lambda x: edit(x, version=2), r"expected version 1, found 2", True),
    "wrong count": (lambda x: edit(x, num_documents=9), r"expected num_documents 4", True),
    "count of a wrong type": (lambda x: edit(x, num_documents="4"), r"num_documents", True),
    "no provenance": (lambda x: edit(x, provenance=...), r"expected a provenance", True),
    "shard outside": (
        lambda x: edit(x, shards=[{**row(x), "file": "../../secret.tar", "num_documents": 4}]),
        r"expected 00000\.tar, found '\.\./\.\./secret\.tar'",
        True,
    ),
    "index outside": (
        lambda x: edit(x, index={"file": "../index.npy", "sha256": ""}),
        r"expected index\.npy, found",
        True,
    ),
    "missing index": (
        lambda x: (x / "index.npy").unlink(),
        r"index\.npy: expected the index",
        True,
    ),
    "broken index": (
        lambda x: (x / "index.npy").write_bytes(b"nonsense"),
        r"index\.npy: expected a numpy array",
        True,
    ),
    "index of another shape": (
        lambda x: np.save(x / "index.npy", np.zeros((3, 4), np.int64)),
        r"index\.npy: expected int64 \(4, 4\)",
        True,
    ),
    "index beyond the shards": (
        lambda x: np.save(x / "index.npy", np.full((4, 4), 10**9, np.int64)),
        r"index\.npy: expected places inside the shards",
        True,
    ),
    "index with objects": (
        lambda x: np.save(x / "index.npy", np.array([None]), allow_pickle=True),
        r"index\.npy: expected a numpy array",
        True,
    ),
    "index in another order": (
        reorder,
        r"index\.npy: expected document 0 in shard 0 at \d+, found",
        False,
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_data_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    damage, message, on_open = DAMAGE[name]
    write(tmp_path / "x", [example(i) for i in range(4)], documents_per_shard=2).verify()
    damage(tmp_path / "x")
    if on_open:
        with pytest.raises(DataError, match=message):
            ShardReader(tmp_path / "x")
    else:
        reader = ShardReader(tmp_path / "x")
        with pytest.raises(DataError, match=message):
            reader.verify()


def test_a_folder_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing/manifest\.json: expected a JSON file"):
        ShardReader(tmp_path / "nothing")


def test_reading_a_shard_that_vanished_or_shrank_is_a_data_error(tmp_path: Path) -> None:
    reader = write(tmp_path / "x", [example(0)])
    os.truncate(tmp_path / "x/00000.tar", 600)
    with pytest.raises(DataError, match=r"00000\.tar: expected \d+ bytes at 512, found 88"):
        reader[0]
    (tmp_path / "x/00000.tar").unlink()
    with pytest.raises(DataError, match=r"00000\.tar: expected a shard, found No such file"):
        reader[0]


@settings(max_examples=60)
@given(st.integers(512, 511 + 300), st.integers(1, 255))
def test_a_damaged_document_is_read_or_is_a_data_error(position: int, change: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reader = write(Path(folder) / "x", [example(0)])
        path = Path(folder) / "x/00000.tar"
        data = bytearray(path.read_bytes())
        data[position] ^= change
        path.write_bytes(bytes(data))
        try:
            doc = reader[0]
        except DataError as error:
            assert "00000.tar, document 0" in str(error)  # noqa: PT017
        else:
            assert isinstance(doc, Document)


# --- sharing


def test_a_document_that_nests_too_deep_is_a_data_error_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    docs = [Document([Text("a" * 20_000)]), Document([Text("b")])]
    write(tmp_path / "x", docs)
    _, offset, num_bytes, _ = np.load(tmp_path / "x" / "index.npy")[0]
    with open(tmp_path / "x" / "00000.tar", "r+b") as file:
        file.seek(offset)
        file.write(b"[" * num_bytes)
    reader = ShardReader(tmp_path / "x")
    with pytest.raises(DataError, match=r"expected JSON, found maximum recursion depth exceeded"):
        reader[0]
    assert reader[1].text == "b"
    findings = Findings()
    list(ShardScan(tmp_path / "x", findings, "x"))
    assert any("recursion" in example for found in findings for example in found.examples)


def test_a_reader_is_shared_by_threads(tmp_path: Path) -> None:
    docs = [example(i) for i in range(40)]
    reader = write(tmp_path / "x", docs, documents_per_shard=7)
    wrong = []

    def work(seed: int) -> None:
        for number in np.random.default_rng(seed).permutation(len(docs)):
            if reader[number] != docs[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_reader_can_be_sent_to_another_process(tmp_path: Path) -> None:
    reader = write(tmp_path / "x", [example(i) for i in range(3)])
    copy = pickle.loads(pickle.dumps(reader))
    assert list(copy) == list(reader)
    assert copy.digest == reader.digest


def test_a_document_costs_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = write(tmp_path / "x", [example(i) for i in range(3)])
    reads = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: reads.append(args) or pread(*args))
    assert reader[1] == example(1)
    assert len(reads) == 1


def test_the_writer_holds_no_documents(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    png = encode_png(PIL.Image.fromarray(noise))
    with ShardWriter(tmp_path / "x", documents_per_shard=10) as writer:
        for _ in range(30):
            writer.write(Document([Image(png)]))
        held = len(
            pickle.dumps(
                [value for name, value in vars(writer).items() if name not in ("_atomic", "_tar")]
            )
        )
    assert held < len(png)
