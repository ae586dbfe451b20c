"""Lines grow, survive a kill, and are never mixed with another's."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, read_jsonl
from kosmos.lines import Lines

MADE_BY: dict[str, Json] = {"model": "d1", "decoding": {"num_beams": 1, "seed": 0}}
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
HEADERS: list[Literal["first", "beside"] | None] = [None, "first", "beside"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
records = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=5)


def write(path: Path, *rows: dict[str, Json], **options: object) -> None:
    with Lines(path, **options) as lines:  # type: ignore[arg-type]
        for row in rows:
            lines.write(row)


@pytest.mark.parametrize("header", HEADERS)
@given(first=records, more=records)
@settings(max_examples=40)
def test_what_is_written_is_read_at_the_next_start_and_added_to(
    tmp_path_factory, header, first, more
):
    path = tmp_path_factory.mktemp("lines") / "new" / "a.jsonl"
    for rows, before in ((first, []), (more, first)):
        with Lines(path, MADE_BY, header=header) as lines:
            assert list(lines.records()) == before
            for row in rows:
                lines.write(row)
            assert list(lines.records()) == [*before, *rows]
    for line in path.read_bytes().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("header", HEADERS)
@given(rows=records.filter(bool), data=st.data())
@settings(max_examples=40)
def test_a_file_cut_anywhere_keeps_every_whole_line_and_nothing_else(
    tmp_path_factory, header, rows, data
):
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    write(path, *rows, made_by=MADE_BY, header=header)
    whole = path.read_bytes()
    size = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size])
    num_whole = max(0, whole[:size].count(b"\n") - (header == "first"))
    # a reader meanwhile sees the same, and a last line that lacks no more than its end
    assert len(list(read_jsonl(path))) - whole[:size].count(b"\n") in (0, 1)
    with Lines(path, MADE_BY, header=header) as lines:
        assert list(lines.records()) == rows[:num_whole]
        for row in rows[num_whole:]:
            lines.write(row)
    assert path.read_bytes() == whole


def test_numbers_that_are_not_finite_are_null_and_names_of_files_survive(tmp_path):
    path = tmp_path / "a.jsonl"
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    row = {"loss": float("nan"), "rates": [float("inf"), 1.0], "file": name, "word": "ž\u2028"}
    write(path, row)
    assert list(read_jsonl(path)) == [{**row, "loss": None, "rates": [None, 1.0]}]
    assert path.read_bytes().count(b"\n") == 1
    write(path, {"is": "UTF-8"})
    path.read_bytes().decode("utf-8")


@pytest.mark.parametrize("header", ["first", "beside"])
def test_lines_of_something_else_are_refused_naming_what_differs(tmp_path, header):
    path = tmp_path / "a.jsonl"
    write(path, {"id": "a"}, made_by=MADE_BY, header=header)
    before = path.read_bytes()
    other: Json = {"model": "d1", "decoding": {"num_beams": 5, "seed": 0}, "prompt": "An image of"}
    with pytest.raises(ConfigError) as caught:
        Lines(path, other, header=header)
    assert "decoding.num_beams 1 there, 5 here; prompt None there" in caught.value.message
    assert "seed" not in caught.value.message
    assert "--force" in str(caught.value.hint)
    assert path.read_bytes() == before
    with Lines(path, other, header=header, force=True) as lines:
        assert lines.is_new
        assert list(lines.records()) == []
        lines.write({"id": "b"})
    with Lines(path, other, header=header) as lines:
        assert not lines.is_new
        assert list(lines.records()) == [{"id": "b"}]


@pytest.mark.parametrize("header", ["first", "beside"])
def test_a_file_without_records_may_be_of_anything(tmp_path, header):
    path = tmp_path / "a.jsonl"
    write(path, made_by=MADE_BY, header=header)
    with Lines(path, {"model": "d2"}, header=header) as lines:
        assert lines.is_new
        lines.write({"id": "a"})
    write(path, made_by={"model": "d2"}, header=header)
    with pytest.raises(ConfigError, match="'d2' there, 'd1' here"):
        Lines(path, MADE_BY, header=header)


@pytest.mark.parametrize("header", ["first", "beside"])
@pytest.mark.parametrize("text", ["a diary\n", '{"id": "a"}\n', "[]\n", "{\n\n\n"])
def test_a_file_that_says_not_what_made_it_is_refused_and_kept(tmp_path, header, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"what made them, found nothing"):
        Lines(path, MADE_BY, header=header)
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b"3\n", b"\xff\xfe\n", b"[" * 9999 + b"\n"])
def test_a_whole_line_that_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    write(path, {"id": "a"})
    path.write_bytes(path.read_bytes() + line)
    with Lines(path) as lines, pytest.raises(DataError, match=r"a\.jsonl:2: expected"):
        list(lines.records())


def test_damaged_lines_are_passed_over_by_who_asks_for_it(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\x00\x00\n{"a": 2}\n{"a"')
    damaged: list[DataError] = []
    assert list(read_jsonl(path, damaged=damaged)) == [{"a": 1}, {"a": 2}]
    assert [error.message.partition(": ")[0] for error in damaged] == [f"{path}:2"]


@pytest.mark.parametrize("header", [None, "first"])
@pytest.mark.parametrize("num", [0, 1, 2, 3, 9])
def test_all_but_the_first_records_are_dropped(tmp_path, header, num):
    path = tmp_path / "a.jsonl"
    rows: list[dict[str, Json]] = [{"step": step} for step in range(3)]
    write(path, *rows, made_by=MADE_BY, header=header)
    with Lines(path, MADE_BY, header=header) as lines:
        lines.cut(num)
        lines.write({"step": "new"})
        assert list(lines.records()) == [*rows[:num], {"step": "new"}]


def test_a_second_writer_is_kept_out_and_readers_are_not(tmp_path):
    path = tmp_path / "a.jsonl"
    with Lines(path) as lines:
        lines.write({"id": "a"})
        with pytest.raises(DataError, match="expected no other process at it"):
            Lines(path)
        assert list(read_jsonl(path)) == [{"id": "a"}]
    write(path, {"id": "b"})


@forks
def test_a_writer_that_is_killed_lets_go(tmp_path):
    path = tmp_path / "a.jsonl"
    child = os.fork()
    if child == 0:
        Lines(path).write({"id": "a"})
        os._exit(9)
    os.waitpid(child, 0)
    write(path, {"id": "b"})
    assert list(read_jsonl(path)) == [{"id": "a"}, {"id": "b"}]


def test_a_full_disk_keeps_what_is_whole_and_leaves_no_half(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, {"id": "a"})
    before = path.read_bytes()
    with Lines(path) as lines:
        with file_size_limit(len(before) + 10), pytest.raises(DataError, match="could not be writ"):
            lines.write({"id": "b", "text": "x" * 100})
        assert path.read_bytes() == before
        lines.write({"id": "c"})
    assert list(read_jsonl(path)) == [{"id": "a"}, {"id": "c"}]


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for path, found in (
        (tmp_path, "could not be opened: expected a file, found a folder"),
        (Path("/dev/null"), "expected a file, found a device or a pipe"),
        (tmp_path / "pipe", "expected a file, found a device or a pipe"),
        (tmp_path / "file" / "a", "file: could not be opened: expected a folder, found a file"),
        (tmp_path / ("x" * 300), "could not be opened: expected a shorter name"),
    ):
        with pytest.raises(DataError, match=found):
            Lines(path)


@forks
def test_only_whole_records_are_seen_while_somebody_writes(tmp_path):
    path = tmp_path / "a.jsonl"
    child = os.fork()
    if child == 0:
        with Lines(path) as lines:
            for number in range(2000):
                lines.write({"number": number, "text": "x" * 200})
        os._exit(0)
    counts = [0]
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if path.exists():
            rows = list(read_jsonl(path))
            assert [row["number"] for row in rows] == list(range(len(rows)))  # type: ignore[index, call-overload]
            counts.append(len(rows))
    assert all(first <= second for first, second in pairwise(counts))
    assert len(list(read_jsonl(path))) == 2000
