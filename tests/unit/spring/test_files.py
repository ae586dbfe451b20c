import errno
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kosmos import files
from kosmos.errors import ConfigError, DataError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(ValueError, match="stop"), files.atomic_file(path) as file:
        file.write(b"half")
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


# --- killed at any moment

forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

OPERATIONS = ("mkdir", "open", "replace", "rename", "rmdir", "unlink", "fsync", "close", "scandir")


def replace_one_by_two(folder: Path) -> None:
    with files.atomic_folder(folder) as scratch:
        for name in ("a", "b"):
            files.write_text(scratch / name, "two")


def contents(folder: Path) -> set[str]:
    return {f"{path.name}={path.read_text()}" for path in folder.iterdir()}


@forks
@pytest.mark.parametrize("has_exchange", [True, False])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_is_old_or_new_wherever_its_writer_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool, has_exchange: bool
) -> None:
    old, new = {"a=one", "c=one"}, {"a=two", "b=two"}
    if not has_exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    seen: set[bool] = set()
    for last in range(1000):
        folder = tmp_path / f"{last}" / "out"
        folder.parent.mkdir()
        if is_there:
            folder.mkdir()
            for name in ("a", "c"):
                (folder / name).write_text("one")
        if (child := os.fork()) == 0:
            die_at(last)
            replace_one_by_two(folder)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if folder.exists():
            assert contents(folder) in ((old, new) if is_there else (new,))
            seen.add(contents(folder) == new)
        elif is_there:
            assert not has_exchange  # then who comes next puts it back
        with files.atomic_folder(folder) as scratch:
            if is_there or folder.exists():
                assert contents(folder) in (old, new)
            (scratch / "c").write_text("three")
        assert contents(folder) == {"c=three"}
        assert [path.name for path in folder.parent.iterdir()] == ["out"]  # nothing of the dead
        if code == 0:
            break
    assert code == 0
    assert last > 10
    assert seen == ({False, True} if is_there else {True})


def die_at(last: int) -> None:
    """End this process, as SIGKILL would, at an operation on files."""
    done = 0

    def mortal(operation: object) -> object:
        def act(*args: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done > last:
                os._exit(9)
            return operation(*args, **options)  # type: ignore[operator]

        return act

    for name in OPERATIONS:
        setattr(os, name, mortal(getattr(os, name)))


WRITER = """
import itertools, sys
from pathlib import Path
from kosmos import files

for number in itertools.count():
    with files.atomic_folder(Path(sys.argv[1])) as scratch:
        for name in "abcde":
            files.write_text(scratch / name, f"{number}")
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_one_result_whole(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    dice = random.Random(0)
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert writer.stdout is not None
        for _ in range(dice.randint(1, 9)):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert sorted(path.name for path in folder.iterdir()) == list("abcde")
        assert len({path.read_text() for path in folder.iterdir()}) == 1
    replace_one_by_two(folder)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("operation", ["mkdir", "replace"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_disk_that_refuses_a_step_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, is_there: bool
) -> None:
    folder = tmp_path / "out"
    if is_there:
        replace_one_by_two(folder)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with monkeypatch.context() as patch, pytest.raises(DataError, match="out: could not be writt"):
        patch.setattr(os, operation, refuse)
        with files.atomic_folder(folder) as scratch:
            (scratch / "new").touch()
    assert list(tmp_path.iterdir()) == ([folder] if is_there else [])


def test_processes_of_the_same_number_do_not_share_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as in two containers with a disk in common
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with files.atomic_file(tmp_path / "a") as first, files.atomic_file(tmp_path / "a") as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    with (
        files.atomic_folder(tmp_path / "out") as scratch,
        ThreadPoolExecutor() as pool,
    ):
        (scratch / "a").touch()
        refused = pool.submit(replace_one_by_two, tmp_path / "out")
        with pytest.raises(DataError, match="out: expected no other process at it, found one"):
            refused.result()
        assert (scratch / "a").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_who_waits_comes_after_who_is_at_it(tmp_path: Path) -> None:
    begun = threading.Event()

    def second() -> set[str]:
        begun.set()
        with files.atomic_folder(tmp_path / "out", wait=True) as scratch:
            (scratch / "b").touch()
            return {path.name for path in (tmp_path / "out").iterdir()}

    with ThreadPoolExecutor() as pool:
        with files.atomic_folder(tmp_path / "out") as scratch:
            seen = pool.submit(second)
            begun.wait()
            (scratch / "a").touch()
        assert seen.result() == {"a"}


def test_a_folder_behind_a_link_is_replaced_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "disk" / "out").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    replace_one_by_two(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert contents(tmp_path / "disk" / "out") == {"a=two", "b=two"}


def test_names_as_long_as_the_system_takes_can_be_written(tmp_path: Path) -> None:
    name = "é" * 127
    files.write_text(tmp_path / name, "whole")
    replace_one_by_two(tmp_path / "in" / name)
    assert {path.name for path in tmp_path.rglob("*")} == {name, "in", "a", "b"}


# --- what --force may remove


def check(folder: Path) -> None:
    files.check_replaceable(
        folder,
        "document shards",
        files=("manifest.json", "train/*.tar"),
        is_result=lambda folder: (folder / "manifest.json").read_text() == "shards",
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"manifest.json": "shards", "train/0.tar": ""}, None),
        ({}, None),
        ({"manifest.json": "of a phone"}, "found another folder"),
        ({"manifest.json": "shards", "train/thesis.tex": ""}, "found 'train/thesis.tex' in it"),
        ({"manifest.json": "shards", "0.tar": "", "train/a/0.tar": ""}, "found '0.tar', 'train/a/"),
        ({f"{n}.jpg": "" for n in range(9)}, "'3.jpg', '4.jpg' and more in it"),
    ],
)
def test_only_an_earlier_result_is_replaced_and_strangers_are_named(
    tmp_path: Path, found: dict[str, str], told: str | None
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name, text in found.items():
        files.write_text(folder / name, text)
    if told is None:
        with files.atomic_folder(folder, check=check):
            pass
        assert list(folder.iterdir()) == []
        return
    with pytest.raises(ConfigError, match=told), files.atomic_folder(folder, check=check):
        pytest.fail("the work was begun")
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {*found}


def test_a_file_that_came_during_the_work_is_not_removed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(ConfigError, match="'mine' in it"):  # noqa: SIM117
        with files.atomic_folder(folder, check=check):
            files.write_text(folder / "mine", "keep")
    assert contents(folder) == {"mine=keep"}
    with pytest.raises(ConfigError, match="which may be replaced, found a file"):
        check(folder / "mine")


# --- JSON of others


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'{"a": ', "Expecting value"),
        (b"\xff\xfe\xfd", "codec can't decode"),
        (b'"caf\xe9"', "codec can't decode"),
        (b"[" * 50_000, "found more than 100 values inside each other"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "found more than 100 values inside each other"),
        (b"9" * 4301, "found an integer of 4301 digits"),
        (b'{"image_id": -' + b"9" * 400 + b"}", "found an integer of 401 digits"),
        (rb'["\ud800"]', "half a surrogate pair"),
        (rb'{"\ude00\ud83d": 1}', "half a surrogate pair"),
        ("\ud800", "found"),
        ('"\ud800"', "half a surrogate pair"),
    ],
)
def test_json_that_is_none_is_a_data_error_that_says_where(text: bytes | str, told: str) -> None:
    with pytest.raises(DataError, match=rf"^a\.jsonl:3: expected JSON, .*{told}"):
        files.parse_json(text, where="a.jsonl:3")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[" * 100 + b"]" * 100, None),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (b"\xef\xbb\xbf[1]", [1]),
        ('{"a": "é"}'.encode("utf-16"), {"a": "é"}),
        (b"1" + b"0" * 308, 10**308),
        (b'["' + b"1" * 5000 + b'"]', ["1" * 5000]),
        (b"[" + b"[[]]," * 200 + b"0]", [*[[[]]] * 200, 0]),
    ],
)
def test_json_that_is_unusual_is_read(text: bytes, value: object) -> None:
    assert value is None or files.parse_json(text, where="here") == value
    files.parse_json(text, where="here")


def test_files_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\n")
    (tmp_path / "file").touch()
    for path, told in (
        (tmp_path / "a.json", "a.json(:1)?: expected JSON, found"),
        (tmp_path / "b.json", "b.json: expected a JSON file, found nothing there"),
        (tmp_path, "expected a file, found a folder"),
        (tmp_path / "file" / "a.json", "/file: expected a folder, found a file"),
        (tmp_path / ("x" * 300), "expected a shorter name"),
    ):
        for read in (files.read_json, lambda path: list(files.read_jsonl(path))):
            with pytest.raises(DataError, match=told.replace("JSON file", "JSON.* file")):
                read(path)
