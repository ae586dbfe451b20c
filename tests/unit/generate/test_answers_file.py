"""A file of answers goes on where it was stopped, and is never mixed with another's."""

import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, read_jsonl
from kosmos.generate.request_file import Entry, Problem
from kosmos.generate.sinks.answers_file import AnswersFile

MADE_BY: dict[str, Json] = {"model": "d1", "decoding": {"num_beams": 1, "seed": 0}}
BAD = Problem("picture", "expected a picture", "look at it")


def entry(name: str, image: str | None = None) -> Entry:
    return Entry(id=name, asked={"image": image or name})


def file_of(path: Path, **options: bool) -> AnswersFile:
    return AnswersFile(path, MADE_BY, **options)


def write(path: Path, *names: str) -> None:
    with closing(file_of(path)) as file:
        for name in names:
            file.put(entry(name), {"text": f"about {name}"})


def ids(path: Path) -> list[str]:
    return [row["id"] for row in read_jsonl(path) if isinstance(row, dict)]


def test_a_line_has_its_id_what_was_asked_and_the_answer(tmp_path):
    path = tmp_path / "new" / "out.jsonl"
    write(path, "a.png")
    assert list(read_jsonl(path)) == [{"id": "a.png", "image": "a.png", "text": "about a.png"}]
    assert not path.with_name("out.jsonl.bad.jsonl").exists()


def test_what_is_done_is_known_at_the_next_start(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a", "b")
    with closing(file_of(path)) as file:
        assert file.has(entry("a"))
        assert not file.has(entry("c"))
        file.put(entry("c"), {})
        assert file.has(entry("c"))
        assert [name for name, _ in file.rows()] == ["a", "b", "c"]
    assert ids(path) == ["a", "b", "c"]


def test_a_name_that_is_not_utf_8_survives(tmp_path):
    path = tmp_path / "out.jsonl"
    name = b"caf\xe9 \xf0\x9f\x90\xb6.png".decode("utf-8", "surrogateescape")
    write(path, name)
    with closing(file_of(path)) as file:
        assert file.has(entry(name))


@given(cut=st.integers(0, 120), again=st.integers(0, 120))
@settings(max_examples=60)
def test_a_file_cut_anywhere_is_repaired_and_completed(tmp_path_factory, cut, again):
    path = tmp_path_factory.mktemp("cut") / "out.jsonl"
    names = ["a", "b", "c"]
    write(path, *names)
    whole = path.read_bytes()
    for size in (cut, again):
        path.write_bytes(path.read_bytes()[:size])
        with closing(file_of(path)) as file:
            kept = [name for name in names if file.has(entry(name))]
            # nothing that was whole is lost, nothing that was torn is kept
            assert kept == names[: whole[:size].count(b"\n")]
            for name in names:
                if name not in kept:
                    file.put(entry(name), {"text": f"about {name}"})
        assert path.read_bytes() == whole


def test_other_settings_are_refused_naming_what_differs(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a")
    before = path.read_bytes()
    other = {"model": "d1", "decoding": {"num_beams": 5, "seed": 0}, "prompt": "An image of"}
    with pytest.raises(ConfigError) as caught:
        AnswersFile(path, other)
    assert "decoding.num_beams 1 there, 5 here; prompt None there" in caught.value.message
    assert "seed" not in caught.value.message
    assert "--force" in str(caught.value.hint)
    assert path.read_bytes() == before
    with closing(AnswersFile(path, other, force=True)) as file:
        assert not file.has(entry("a"))
        assert path.read_bytes() == b""
        file.put(entry("a"), {})
    with pytest.raises(ConfigError, match="num_beams 5 there, 1 here"):
        file_of(path)


def test_an_empty_file_may_be_of_any_settings(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path)
    with closing(AnswersFile(path, {"model": "d2"})) as file:
        file.put(entry("a"), {})
    assert ids(path) == ["a"]


def test_lines_without_a_record_of_what_made_them_are_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a diary\n")
    with pytest.raises(ConfigError, match=r"notes\.txt\.meta\.json"):
        file_of(path)
    assert path.read_text() == "a diary\n"


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b'{"id": 3}\n', b"\xff\xfe\n"])
def test_a_whole_line_that_is_none_of_ours_is_named(tmp_path, line):
    path = tmp_path / "out.jsonl"
    write(path, "a")
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(DataError, match=r"out\.jsonl:2: expected"):
        file_of(path)
    # and what was opened is let go of
    path.write_bytes(b"")
    write(path, "a")


def test_an_id_that_was_asked_something_else_is_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "1")
    with closing(file_of(path)) as file, pytest.raises(ConfigError, match=r"'1'.*something else"):
        file.has(entry("1", "another.png"))


def test_bad_entries_are_recorded_once_and_tried_again_when_told_to(tmp_path):
    path = tmp_path / "out.jsonl"
    bad = tmp_path / "out.jsonl.bad.jsonl"
    for _ in range(2):
        with closing(file_of(path)) as file:
            file.put(entry("a"), BAD)
    error = "expected a picture (hint: look at it)"
    row = {"id": "a", "image": "a", "reason": "picture", "error": error}
    assert list(read_jsonl(bad)) == [row]
    with closing(file_of(path)) as file:
        assert file.has_failed(entry("a"))
        # what is asked now was never tried
        assert not file.has_failed(entry("a", "b"))
        assert not file.has(entry("a"))
        assert list(file.rows()) == [("a", Problem("picture", error))]
    with closing(file_of(path, retry_bad=True)) as file:
        assert not file.has_failed(entry("a"))
    assert not bad.exists()


def test_a_second_process_is_kept_out(tmp_path):
    path = tmp_path / "out.jsonl"
    with closing(file_of(path)), pytest.raises(DataError, match="no other process"):
        file_of(path)
    write(path, "a")


def test_a_full_disk_keeps_what_is_whole_and_says_so(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a")
    size = path.stat().st_size
    with (
        closing(file_of(path)) as file,
        file_size_limit(size + 10),
        pytest.raises(DataError) as caught,
    ):
        file.put(entry("b"), {"text": "x" * 100})
    assert "could not be written" in caught.value.message
    write(path, "b")
    assert ids(path) == ["a", "b"]


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    for place in (tmp_path, Path("/dev/null")):
        with pytest.raises(DataError, match=str(place)):
            file_of(place)
