"""What to answer: pictures, folders and lines, of which none takes the others with it."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from kosmos.generate import request_file
from kosmos.generate.request_file import (
    Entry,
    folder_pictures,
    named_pictures,
    readable,
    request_lines,
)

LATIN = os.fsdecode(b"caf\xe9.png")


def write(path: Path, *rows: object) -> Path:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def questions(path: Path, **options: object) -> list[Entry]:
    return request_lines(path, "question", None, **options)


GOOD = {"image": "z.png", "question": "a", "id": "x"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "expected JSON"),
        (b"3", "expected an object, found int"),
        ({"question": "a"}, "expected an image, found none"),
        ({"image": "z.png"}, "expected a question, found none"),
        ({"image": "z.png", "question": ""}, "question: expected a string"),
        ({"image": 3, "question": "a"}, "image: expected a string"),
        ({"images": "z.png", "question": "a"}, "images: expected a list of strings"),
        ({"image": "z", "images": ["z"], "question": "a"}, "expected image or images"),
        ({"image": "z", "qestion": "a"}, "expected fields among"),
        ({"image": "z", "question": "a", "gold": 1}, "expected fields among"),
        ({"image": "z", "question": "a", "id": 1.5}, "id: expected a name"),
        ({"image": "z", "question": "a", "id": True}, "id: expected a name"),
        ({"image": "z", "question": "a", "id": ""}, "id: expected a name"),
        (GOOD, "id: expected another than 'x' of line 1"),
        # what ends a reader that does not expect it
        (b'{"image": "z", "question": "\\ud800"}', "half a surrogate pair"),
        (b'{"image": "z", "question": "a", "meta": {"deep": ["\\udfff"]}}', "half a surrogate"),
        (b'{"image": "z", "question": "a", "meta": NaN}', "found NaN or infinity"),
        (b'{"image": "z", "question": "a", "meta": [1e999]}', "found NaN or infinity"),
        (b'{"image": "z", "question": "a", "meta": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b"[" * 50_000, "expected JSON"),
        (b'{"image": "z", "question": "a", "meta": ' + b"[" * 9999 + b"]" * 9999 + b"}", "inside"),
        (b'{"image": "z", "question": "\xff"}', "expected JSON"),
        (b"\x00\x01\x02", "expected JSON"),
        # addresses are no files
        ({"image": "http://[", "question": "a"}, "found the address 'http://['"),
        ({"image": "ftp://host/a.png", "question": "a"}, "found the address"),
        ({"images": ["a.png", "ZIP://x"], "question": "a"}, "found the address"),
        ({"image": "data:image/png;base64,AAAA", "question": "a"}, "found the address"),
    ],
)
def test_a_line_that_is_no_request_is_named_and_the_others_count(tmp_path, line, said):
    path = write(tmp_path / "q.jsonl", GOOD, line, {**GOOD, "id": "y"})
    first, bad, last = questions(path)
    assert [first.id, last.id] == ["x", "y"]
    assert (bad.id, bad.problem.reason) == ("line 2", "line")
    assert bad.problem.error.startswith(f"{path}:2: ")
    assert said in bad.problem.error
    # what is kept of it can be written, and read
    json.dumps([bad.asked, bad.problem.error]).encode()
    assert len(bad.asked["line"]) <= 1000


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ({"image": "z.png"}, "--question gives one to the lines that have none"),
        ({"image": "z", "qestion": "a"}, "did you mean 'question'?"),
        ({"image": "z", "question": "a", "gold": 1}, "other facts go under 'meta'"),
    ],
)
def test_a_line_that_is_no_request_has_a_hint(tmp_path, line, hint):
    (bad,) = questions(write(tmp_path / "q.jsonl", line))
    assert bad.problem.hint == hint


@given(st.lists(st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")), max_size=8))
@settings(max_examples=200)
def test_any_bytes_are_read_line_by_line(tmp_path_factory, lines):
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", GOOD, *lines)
    found = questions(path)
    assert len(found) == 1 + sum(bool(line.strip()) for line in lines)
    assert all(entry.problem is not None for entry in found[1:])


def test_a_line_without_end_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(request_file, "MAX_LINE_BYTES", 1000)
    long = b'{"image": "' + b"z" * 5000 + b'"}'
    good, bad, last = questions(write(tmp_path / "q.jsonl", GOOD, long, {**GOOD, "id": "y"}))
    assert (good.id, last.id) == ("x", "y")
    assert "expected a line of at most 1,000 bytes, found a longer one" in bad.problem.error
    # neither is one that is as long as it may be
    exact = json.dumps({**GOOD, "meta": "m"}).encode()
    exact = exact[:-2] + b"m" * (1000 - len(exact)) + b'"}'
    assert len(exact) == 1000
    (found,) = questions(write(tmp_path / "q.jsonl", exact))
    assert found.problem is None


def test_an_entry_says_what_its_line_asked(tmp_path):
    line = {"images": ["a.png", "/b.png"], "question": "what?", "id": 7, "meta": {"gold": [1]}}
    (entry,) = questions(write(tmp_path / "q.jsonl", line))
    assert (entry.id, entry.label, entry.words) == ("7", "7", "what?")
    assert entry.asked == {name: value for name, value in line.items() if name != "id"}
    assert entry.document("Question: what?") == Document(
        [Image(tmp_path / "a.png"), Image(Path("/b.png")), Text("Question: what?")], id="7"
    )


def test_lines_without_words_or_candidates_have_those_of_the_command(tmp_path):
    path = write(tmp_path / "c.jsonl", {"prompt": "it is", "candidates": ["red"]}, b"", {})
    own, given = request_lines(path, "prompt", "a", needs_image=False, candidates=["blue"])
    assert (own.words, own.candidates, own.id) == ("it is", ("red",), "1")
    assert (given.words, given.candidates, given.id) == ("a", ("blue",), "3")
    (none, _) = request_lines(path, "prompt", "a", needs_image=False)
    assert "found 'candidates'" in none.problem.error
    (only,) = request_lines(path, "prompt", "a", needs_image=False, candidates=(), limit=1)
    assert only.id == "1"


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "photos"
    for name in ("a/1.JPG", "a/2.jfif", "b c/3.jpe", "z.avif", ".hidden/4.png", "._z.png", "a.txt"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"")
    return made


def test_pictures_of_a_folder_are_named_from_it_on_in_order(folder):
    found = folder_pictures(folder, "what?")
    names = ["a/1.JPG", "a/2.jfif", "b c/3.jpe", "z.avif"]
    assert [entry.id for entry in found] == names
    assert [entry.images for entry in found] == [(folder / name,) for name in names]
    assert [entry.label for entry in found] == [str(folder / name) for name in names]
    assert all(entry.words == "what?" for entry in found)
    assert [entry.id for entry in folder_pictures(folder, limit=2)] == names[:2]


def test_photos_that_are_not_read_are_among_them_so_that_they_are_counted(folder):
    (folder / "IMG_0001.HEIC").write_bytes(b"")
    assert "IMG_0001.HEIC" in [entry.id for entry in folder_pictures(folder)]


def test_a_folder_that_cannot_be_read_is_an_entry_of_its_own(folder, monkeypatch):
    closed, scandir = folder / os.fsdecode(b"b \xe9"), os.scandir
    closed.mkdir()

    def refuse(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    *good, bad = folder_pictures(folder)
    assert len(good) == 4
    assert (bad.id, bad.problem.reason) == ("b \\udce9/", "folder")
    assert bad.asked == {"folder": "b \\udce9"}
    assert "Permission denied" in bad.problem.error


@pytest.mark.skipif(sys.platform == "darwin", reason="its names are UTF-8")
def test_a_name_that_is_not_utf_8_is_written_with_its_byte(folder):
    (folder / LATIN).write_bytes(b"")
    found = {entry.id: entry for entry in folder_pictures(folder)}
    entry = found["caf\\udce9.png"]
    assert entry.asked == {"image": "caf\\udce9.png"}
    assert entry.images == (folder / LATIN,)
    for text in (entry.id, entry.label, *entry.names):
        text.encode("utf-8")
    (named,) = named_pictures([(LATIN, Path(LATIN))])
    assert (named.id, named.images) == ("caf\\udce9.png", (Path(LATIN),))


@given(st.text())
def test_text_that_can_be_written_is_left_as_it_is(text):
    shown = readable(text)
    shown.encode("utf-8")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return
    assert shown == text


def test_folders_and_files_with_nothing_in_them_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="expected a folder with pictures"):
        folder_pictures(tmp_path / "missing")
    with pytest.raises(DataError, match=r"expected pictures \(.*\.avif"):
        folder_pictures(tmp_path)
    with pytest.raises(DataError, match=r"missing\.jsonl: could not be read"):
        questions(tmp_path / "missing.jsonl")
    with pytest.raises(DataError, match="found no line"):
        questions(write(tmp_path / "empty.jsonl", b""))
    with pytest.raises(DataError, match="expected a file, found a folder"):
        questions(tmp_path)
