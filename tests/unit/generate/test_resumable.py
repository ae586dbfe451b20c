"""A file of lines goes on where it was stopped, and is never mixed with another's lines."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, read_jsonl
from kosmos.generate.resumable import ResumableLines

MADE_BY: dict[str, Json] = {"model": "d1", "decoding": {"num_beams": 1, "seed": 0}}
ASKED = ("image", "question")


def lines_of(path: Path, **options: bool) -> ResumableLines:
    return ResumableLines(path, MADE_BY, asked=ASKED, **options)


def write(path: Path, *ids: str) -> None:
    with lines_of(path) as out:
        for item_id in ids:
            out.add(item_id, {"image": item_id}, {"text": f"about {item_id}"})


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
    with lines_of(path) as out:
        assert out.has("a", {"image": "a"})
        assert not out.has("c", {"image": "c"})
        out.add("c", {"image": "c"}, {})
        assert out.has("c", {"image": "c"})
    assert ids(path) == ["a", "b", "c"]


def test_a_name_that_is_not_utf_8_survives(tmp_path):
    path = tmp_path / "out.jsonl"
    name = b"caf\xe9 \xf0\x9f\x90\xb6.png".decode("utf-8", "surrogateescape")
    write(path, name)
    with lines_of(path) as out:
        assert out.has(name, {"image": name})


@given(cut=st.integers(0, 120), again=st.integers(0, 120))
@settings(max_examples=60)
def test_a_file_cut_anywhere_is_repaired_and_completed(tmp_path_factory, cut, again):
    path = tmp_path_factory.mktemp("cut") / "out.jsonl"
    names = ["a", "b", "c"]
    write(path, *names)
    whole = path.read_bytes()
    for size in (cut, again):
        path.write_bytes(path.read_bytes()[:size])
        with lines_of(path) as out:
            kept = [name for name in names if out.has(name, {"image": name})]
            # nothing that was whole is lost, nothing that was torn is kept
            assert kept == names[: whole[:size].count(b"\n")]
            for name in names:
                if name not in kept:
                    out.add(name, {"image": name}, {"text": f"about {name}"})
        assert path.read_bytes() == whole


def test_other_settings_are_refused_naming_what_differs(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a")
    before = path.read_bytes()
    other = {"model": "d1", "decoding": {"num_beams": 5, "seed": 0}, "prompt": "An image of"}
    with pytest.raises(ConfigError) as caught:
        ResumableLines(path, other, asked=ASKED)
    assert "decoding.num_beams 1 there, 5 here; prompt None there" in caught.value.message
    assert "seed" not in caught.value.message
    assert "--force" in str(caught.value.hint)
    assert path.read_bytes() == before
    with ResumableLines(path, other, asked=ASKED, force=True) as out:
        assert not out.has("a", {"image": "a"})
        assert path.read_bytes() == b""
        out.add("a", {"image": "a"}, {})
    with pytest.raises(ConfigError, match="num_beams 5 there, 1 here"):
        lines_of(path)


def test_an_empty_file_may_be_of_any_settings(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path)
    with ResumableLines(path, {"model": "d2"}, asked=ASKED) as out:
        out.add("a", {"image": "a"}, {})
    assert ids(path) == ["a"]


def test_lines_without_a_record_of_what_made_them_are_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("a diary\n")
    with pytest.raises(ConfigError, match=r"notes\.txt\.meta\.json"):
        lines_of(path)
    assert path.read_text() == "a diary\n"


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b'{"id": 3}\n', b"\xff\xfe\n"])
def test_a_whole_line_that_is_none_of_ours_is_named(tmp_path, line):
    path = tmp_path / "out.jsonl"
    write(path, "a")
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(DataError, match=r"out\.jsonl:2: expected"):
        lines_of(path)


def test_an_id_that_was_asked_something_else_is_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "1")
    with lines_of(path) as out, pytest.raises(ConfigError, match=r"'1'.*something else"):
        out.has("1", {"image": "another.png"})


def test_bad_items_are_recorded_once_and_tried_again_when_told_to(tmp_path):
    path = tmp_path / "out.jsonl"
    bad = tmp_path / "out.jsonl.bad.jsonl"
    for _ in range(2):
        with lines_of(path) as out:
            out.add_bad("a", {"image": "a"}, reason="picture", error="a: expected a picture")
    assert list(read_jsonl(bad)) == [
        {"id": "a", "image": "a", "reason": "picture", "error": "a: expected a picture"}
    ]
    with lines_of(path) as out:
        assert out.has_failed("a", {"image": "a"})
        # what is asked now was never tried
        assert not out.has_failed("a", {"image": "b"})
        assert not out.has("a", {"image": "a"})
    with lines_of(path, retry_bad=True) as out:
        assert not out.has_failed("a", {"image": "a"})
    assert not bad.exists()


def test_a_second_process_is_kept_out(tmp_path):
    path = tmp_path / "out.jsonl"
    with lines_of(path), pytest.raises(DataError, match="no other process"):
        lines_of(path)
    write(path, "a")


def test_a_full_disk_keeps_what_is_whole_and_says_so(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, "a")
    size = path.stat().st_size
    with lines_of(path) as out, file_size_limit(size + 10), pytest.raises(DataError) as caught:
        out.add("b", {"image": "b"}, {"text": "x" * 100})
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
    with pytest.raises(DataError, match="could not be opened"):
        lines_of(tmp_path)
