from pathlib import Path

import pytest

from kosmos import files
from kosmos.errors import DataError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(ValueError, match="stop"), files.atomic_file(path) as file:
        file.write(b"half")  # type: ignore[arg-type]
        raise ValueError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_and_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with files.atomic_folder(folder) as scratch:
        (scratch / "a").write_text("old")
    with (
        pytest.raises(DataError, match="No space left on device"),
        files.atomic_folder(folder) as scratch,
    ):
        (scratch / "a").write_text("new")
        # a device that is always full
        with open("/dev/full", "w") as full:
            full.write("x" * 100_000)
    assert (folder / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with files.atomic_folder(tmp_path / "out") as scratch:
            (scratch / text).write_text(text)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two"]


def test_a_broken_json_line_is_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(DataError, match=r"rows.jsonl:3"):
        list(files.read_jsonl(path))


def test_json_round_trip(tmp_path: Path) -> None:
    rows: list[files.Json] = [{"text": "naïve 🐶", "x": [1, 2.5, None, True]}, {}]
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert list(files.read_jsonl(tmp_path / "rows.jsonl")) == rows
    files.write_json(tmp_path / "all.json", rows)
    assert files.read_json(tmp_path / "all.json") == rows


def test_digest_ignores_the_order_of_keys() -> None:
    assert files.sha256_json({"a": 1, "b": 2}) == files.sha256_json({"b": 2, "a": 1})
    assert files.sha256_json({"a": 1}) != files.sha256_json({"a": 2})
