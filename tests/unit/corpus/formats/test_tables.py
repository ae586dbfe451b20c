"""Parquet is read a row group at a time; its rows and bytes are what other containers hold."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.corpus.formats import parquet
from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.parquet import read_parquet
from kosmos.corpus.formats.pictures import Picture, PictureFolder
from kosmos.corpus.formats.tally import Tally
from kosmos.errors import DataError, MissingExtraError
from tests.unit.corpus.formats.sources import PNG, png, read, texts, write_parquet, write_tar

DAMAGED_TO = {"damaged_files": "count"}


def test_text_comes_from_a_column_and_plain_values_become_meta(tmp_path: Path) -> None:
    rows = [
        {"text": "One.", "n": 3, "score": float("nan"), "tags": ["a"]},
        {"text": None, "n": 4, "score": 0.5, "tags": None},
        {"text": "Two.", "n": 5, "score": 0.5, "tags": []},
    ]
    docs, tally = read("parquet", write_parquet(tmp_path / "a.parquet", rows))
    assert [(doc.text, dict(doc.meta)) for doc in docs] == [
        ("One.", {"n": 3}),
        ("Two.", {"n": 5, "score": 0.5}),
    ]
    assert [(loss.reason, loss.where) for loss in tally.losses] == [("no text", "a.parquet[1]")]


def test_a_table_without_the_column_is_an_error_that_names_those_there(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"content": "x", "id": 1}])
    with pytest.raises(DataError, match="expected a column 'text', found content, id"):
        read("parquet", path)


def test_no_more_than_a_row_group_is_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"text {n}"} for n in range(10)]
    path = write_parquet(tmp_path / "a.parquet", rows, group=4)
    asked: list[list[int]] = []
    real = pyarrow.parquet.ParquetFile.iter_batches

    def watched(self, *args, row_groups, **kwargs):
        asked.append(row_groups)
        return real(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", watched)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 3)
    found = read_parquet(path)
    assert [next(found).fields["text"] for _ in range(4)] == [f"text {n}" for n in range(4)]
    assert asked == [[0]]
    assert [row.number for row in found] == list(range(4, 10))
    assert asked == [[0], [1], [2]]


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(st.text(max_size=5), st.lists(st.floats(0, 1), max_size=3)), max_size=9)
)
def test_what_is_written_is_read_whatever_the_groups(
    rows: list[tuple[str, list[float]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    values: list[dict[str, object]] = [{"a": text, "b": numbers} for text, numbers in rows]
    path = tmp_path_factory.mktemp("p") / "a.parquet"
    schema = pyarrow.schema([("a", pyarrow.string()), ("b", pyarrow.list_(pyarrow.float64()))])
    table = pyarrow.Table.from_pylist(values, schema=schema)
    pyarrow.parquet.write_table(table, path, row_group_size=3)
    assert [row.fields for row in read_parquet(path)] == values


def test_bytes_are_kept_apart_wherever_a_column_holds_them(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "jpg": b"1",
        "image": {"bytes": b"2", "path": "x"},
        "images": [None, b"3"],
        "structs": [{"bytes": b"4", "path": None}],
        "day": datetime.date(2024, 1, 2),
        "price": Decimal("1.50"),
        "struct": {"a": [1]},
    }
    found = next(read_parquet(write_parquet(tmp_path / "a.parquet", [row])))
    assert found.files == {
        "jpg": [b"1"],
        "image": [b"2"],
        "images": [None, b"3"],
        "structs": [b"4"],
    }
    assert found.fields["day"] == "2024-01-02"
    assert (found.fields["price"], found.fields["struct"]) == (1.5, {"a": [1]})
    json.dumps(found.fields)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_table_that_is_cut_stops_the_import_or_is_counted(tmp_path: Path, keep: int) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"text": "x"}])
    write_parquet(tmp_path / "b.parquet", [{"text": "y"}])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.parquet: expected a whole Parquet file") as caught:
        read("parquet", tmp_path)
    assert "damaged_files=count" in str(caught.value.hint)
    docs, tally = read("parquet", tmp_path, **DAMAGED_TO)
    assert [doc.text for doc in docs] == ["y"]
    assert tally.counts("bad") == {"file that is damaged or ends early": 1}


def test_a_page_of_a_table_that_is_damaged_keeps_the_groups_before(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}" * 40} for n in range(6)]
    path = write_parquet(tmp_path / "a.parquet", rows, group=2)
    place = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 30] = bytes([255]) * 30
    path.write_bytes(data)
    docs, tally = read("parquet", path, **DAMAGED_TO)
    assert len(docs) == 2
    assert tally.counts("bad") == {"file that is damaged or ends early": 1}


def test_a_missing_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match="pyarrow") as caught:
        list(read_parquet(Path("x.parquet")))
    assert caught.value.hint == "pip install 'openkosmos[data]'"


# --- pairs in tables


def test_pairs_come_from_either_kind_of_picture_column(tmp_path: Path) -> None:
    img2dataset: dict[str, object] = {
        "key": "000000001",
        "caption": "a dog",
        "url": "u",
        "jpg": PNG,
        "status": "success",
    }
    failed = {**img2dataset, "jpg": None, "status": "failed_to_download"}
    write_parquet(tmp_path / "a.parquet", [img2dataset, failed])
    hugging_face = {"caption": "a cat", "image": {"bytes": PNG, "path": None}}
    broken = {"caption": "none", "image": {"bytes": PNG[:200], "path": None}}
    write_parquet(tmp_path / "b.parquet", [hugging_face, broken])
    docs, tally = read("pairs", tmp_path)
    assert [(texts(doc), doc.images[0].source) for doc in docs] == [
        (["a dog"], PNG),
        (["a cat"], PNG),
    ]
    assert docs[0].meta == {"source": "000000001", "url": "u"}
    assert tally.counts("left out") == {"not fetched by img2dataset": 1}
    assert tally.counts("bad") == {"picture does not decode": 1}


def test_small_pictures_are_left_out_on_request(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "s.tar", {"0.png": PNG, "0.txt": b"x", "1.png": png(99, 71), "1.txt": b"y"}
    )
    assert len(read("pairs", path)[0]) == 2
    docs, tally = read("pairs", path, min_caption_side_px=71)
    assert [doc.text for doc in docs] == ["y"]
    assert tally.counts("left out") == {"picture with a side under 71 px": 1}


# --- pictures by key


def test_pictures_are_found_by_key_in_what_img2dataset_writes(tmp_path: Path) -> None:
    one, two, three, four = (png(70 + n) for n in range(4))
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000" / "000000001.jpg").write_bytes(one)
    write_tar(tmp_path / "00001.tar", {"000010001.jpg": two, "000010001.txt": b"x"})
    keys: list[dict[str, object]] = [
        {"key": f"{n:09d}", "jpg": three if n == 20001 else four} for n in range(20000, 20003)
    ]
    write_parquet(tmp_path / "00002.parquet", keys)
    write_parquet(tmp_path / "00001.parquet", [{"key": "000010001", "caption": "no pictures"}])
    folder = PictureFolder(tmp_path / "rows.jsonl", FolderConfig(), Tally())
    found = {key: folder.find_key(key) for key in ("000000001", "000010001", "000020001", "9")}
    sources = {
        key: picture.source if isinstance(picture, Picture) else None
        for key, picture in found.items()
    }
    assert sources == {
        "000000001": tmp_path / "00000" / "000000001.jpg",
        "000010001": two,
        "000020001": three,
        "9": None,
    }


def test_the_tar_beside_a_table_is_looked_into_first(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"0000{number}.tar", {"7.jpg": png(70 + number)})
    folder = PictureFolder(tmp_path / "00001.parquet", FolderConfig(), Tally())
    found = folder.find_key("7")
    assert isinstance(found, Picture)
    assert found.source == png_of(tmp_path / "00001.tar")


def png_of(path: Path) -> bytes:
    import tarfile

    with tarfile.open(path) as tar:
        member = tar.extractfile("7.jpg")
        assert member is not None
        return member.read()
