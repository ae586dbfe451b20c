"""Which pictures a record may name, and what becomes of names that are none."""

import json
import os
from collections import Counter
from pathlib import Path

import fsspec
import pytest

from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.pictures import Missing, Picture, PictureFolder
from kosmos.corpus.formats.tally import Tally
from kosmos.remote import AnyPath, locate
from tests.unit.corpus.formats.sources import PNG, png, read, write_rows
from tests.unit.spring.test_remote import served

OUTSIDE = "picture outside the folder of pictures"
TOO_LONG = "x" * 300 + ".png"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures beside one that no record may reach."""
    (tmp_path / "photos" / "in").mkdir(parents=True)
    (tmp_path / "photos" / "in" / "a.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "photos-2").mkdir()
    (tmp_path / "photos-2" / "b.png").write_bytes(PNG)
    return tmp_path / "photos"


def found(folder: AnyPath, name: str) -> object:
    """The picture of a name, or why there is none."""
    pictures = PictureFolder(folder / "rows.jsonl", FolderConfig(), Tally())
    picture = pictures.find(name)
    return picture.reason if isinstance(picture, Missing) else picture.name


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "in/../../secret.png", "../photos-2/b.png", "../nothing.png", "/etc/passwd"],
)
def test_a_record_names_no_file_outside_the_folder(photos: Path, name: str) -> None:
    assert found(photos, name) == OUTSIDE


def test_a_path_may_take_any_way_that_ends_inside(photos: Path) -> None:
    for name in ("in/a.png", "./in/a.png", "in/../in/a.png", str(photos / "in" / "a.png")):
        assert found(photos, name) == "a.png"
    linked = photos.parent / "linked"
    linked.symlink_to(photos)
    assert found(linked, "in/a.png") == "a.png"
    # the user says so, not the record
    everywhere = PictureFolder(photos / "r.jsonl", FolderConfig(images="/"), Tally())
    assert isinstance(everywhere.find(str(photos.parent / "secret.png")), Picture)


def test_links_lead_nowhere_else(photos: Path) -> None:
    (photos / "one.png").symlink_to(photos.parent / "secret.png")
    (photos / "all").symlink_to(photos.parent)
    (photos / "near.png").symlink_to(photos / "in" / "a.png")
    (photos / "round.png").symlink_to(photos / "round.png")
    names = ("one.png", "all/secret.png", "near.png", "round.png")
    expected = [OUTSIDE, OUTSIDE, "near.png", "no file of the picture"]
    assert [found(photos, name) for name in names] == expected


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "%2E.", "%252e%252e", "in/%2e%2e/%2e%2e"])
def test_names_are_no_way_out_over_the_web(photos: Path, dots: str) -> None:
    with served(photos.parent) as url:
        assert found(locate(f"{url}/photos"), f"{dots}/secret.png") == OUTSIDE
        assert found(locate(f"{url}/photos"), "in/a.png") == "a.png"


def test_names_are_no_way_out_of_a_bucket() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/secret.png", PNG)
    memory.pipe("/bucket/photos/a.png", PNG)
    folder = locate("memory://bucket/photos")
    names = ("../secret.png", "/bucket/secret.png", "a.png::file:///etc/passwd", "..\\x.png")
    assert [found(folder, name) for name in names] == [OUTSIDE] * len(names)
    assert found(folder, "a.png") == "a.png"
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("name", [TOO_LONG, "a\0b.png", "\ud800.png", "in", ""])
def test_a_name_that_no_file_can_have_is_a_picture_that_is_not_there(
    photos: Path, name: str
) -> None:
    assert found(photos, name) == "no file of the picture"


def test_a_pipe_is_no_picture_and_is_not_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    assert found(photos, "pipe.png") == "no file of the picture"


ROWS: dict[str, dict[str, object]] = {
    "coco": {"file": "NAME", "caption": "a dog"},
    "boxes": {"file": "NAME", "phrase": "a dog", "boxes": "xyxy-pixels", "box": [1, 2, 30, 40]},
    "grit": {"file": "NAME", "caption": "a dog", "ref_exps": [[0, 5, 0.1, 0.1, 0.5, 0.5, 1.0]]},
    "grit-instructions": {
        "file": "NAME",
        "caption": "a dog",
        "ref_exps": [[0, 5, 0.1, 0.1, 0.5, 0.5, 1.0]],
    },
    "questions": {"file": "NAME", "question": "What?", "answer": "a dog"},
    "llava": {"image": "NAME", "instruction": "What?", "output": "A dog."},
    "mmc4": {
        "text_list": ["A dog."],
        "image_info": [{"image_name": "NAME", "matched_text_index": 0}],
    },
    "coco-references": {"file": "NAME", "caption": "a dog"},
    "refcoco": {
        "file": "NAME",
        "expression": "a dog",
        "width": 80,
        "height": 70,
        "bbox_xyxy": [1, 2, 30, 40],
    },
    "vqa": {"file": "NAME", "question": "What?", "answer": "a dog"},
}


def named(format_name: str, *names: str) -> list[str]:
    row = json.dumps(ROWS[format_name])
    return [row.replace('"NAME"', json.dumps(name)) for name in names]


def every(format_name: str) -> dict[str, object]:
    """Settings that keep pages with one picture."""
    return {"single_image_share": 1.0} if format_name == "mmc4" else {}


@pytest.mark.parametrize("format_name", ROWS)
def test_one_bad_name_costs_one_record_in_every_format(photos: Path, format_name: str) -> None:
    names = [TOO_LONG, "a\0b.png", str(photos.parent / "secret.png"), "in/a.png"]
    source = write_rows(photos / "rows.jsonl", *named(format_name, *names))
    docs, tally = read(format_name, source, **every(format_name))
    assert len(docs) == 1
    lost = Counter(loss.reason for loss in tally.losses)
    assert (lost["no file of the picture"], lost[OUTSIDE]) == (2, 1)


@pytest.mark.parametrize("format_name", ROWS)
def test_pictures_to_leave_out_are_left_out_of_every_format(
    tmp_path: Path, format_name: str
) -> None:
    # UNINEXT#38: the test pictures of RefCOCO lie in COCO's training set
    names = [f"COCO_train2014_{number:012d}.jpg" for number in range(1, 25)]
    for name in names:
        (tmp_path / name).write_bytes(png())
    (tmp_path / "leave-out.txt").write_text("".join(f"{number:012d}.jpg\n" for number in range(13)))
    source = write_rows(tmp_path / "rows.jsonl", *named(format_name, *names))
    options = {"exclude_images": str(tmp_path / "leave-out.txt"), **every(format_name)}
    docs, tally = read(format_name, source, **options)
    assert len(docs) == 12
    reason = "picture of the list to leave out"
    assert Counter(loss.reason for loss in tally.losses)[reason] == 12


def test_folders_that_cannot_be_read_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        (tmp_path / "texts" / name / f"{name}.txt").write_text(f"{name} words")
    (tmp_path / "texts" / "more").symlink_to(tmp_path / "texts" / "one")
    os.mkfifo(tmp_path / "texts" / "pipe.txt")
    scan = os.scandir

    def refuse(path: str) -> object:
        # root may read everything
        if Path(path).name == "two":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    docs, tally = read("text", tmp_path / "texts")
    assert sorted(doc.text for doc in docs) == ["one words", "three words"]
    assert tally.counts("bad") == {"folder that cannot be read": 1}
    assert tally.counts("left out") == {"link to a folder": 1, "no regular file": 1}
    assert any("two: Permission denied" in loss.where for loss in tally.losses)
