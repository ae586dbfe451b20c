"""Which members of a tar are one sample, and that none is lost without a reason."""

import io
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.corpus.formats import samples
from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.records import SourceFile
from kosmos.corpus.formats.samples import Sample, read_samples
from kosmos.corpus.formats.tally import Tally
from kosmos.image.codec import SUFFIXES
from tests.unit.corpus.formats.sources import PNG, read


def write_members(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar, in which a name may come twice."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pair(key: str, caption: str = "words") -> list[tuple[str, bytes]]:
    return [(f"{key}.jpg", PNG), (f"{key}.txt", caption.encode())]


def grouped(path: Path, *names: str) -> list[tuple[str, list[str]]]:
    """Samples of a tar with those members: what each is called, and what it has."""
    write_members(path, [(name, name.encode()) for name in names])
    tally = Tally()
    found = list(read_samples(SourceFile(path, path.name), ImportConfig(), tally))
    assert not tally.losses
    return [(sample.where, sorted(sample.members)) for sample in found]


def test_dots_in_names_cost_no_pair(tmp_path: Path) -> None:
    # webdataset#237: all of IMG 2.xx have the key "IMG 2" there
    keys = [f"{number:04d}" for number in range(100)]
    keys += [f"IMG 2.{number:02d}" for number in range(60)]
    path = write_members(tmp_path / "a.tar", (member for key in keys for member in pair(key, key)))
    docs, tally = read("pairs", path)
    assert [(doc.text, doc.meta["source"], doc.id) for doc in docs] == [
        (key, key, f"a.tar/{key}") for key in keys
    ]
    assert not tally.losses


def test_dots_in_folders_part_nothing(tmp_path: Path) -> None:
    # datasets#7150
    docs, _ = read("pairs", write_members(tmp_path / "a.tar", pair("v.2/22.0/1.1") + pair("v.2/1")))
    assert [doc.meta["source"] for doc in docs] == ["v.2/22.0/1.1", "v.2/1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # what webdataset makes one sample is one
        (["1.jpg", "1.seg.png", "1.txt"], [("1", [".jpg", ".seg.png", ".txt"])]),
        (["1.cls", "1.jpg", "1.meta.json"], [("1", [".cls", ".jpg", ".meta.json"])]),
        (["1.0.jpg", "1.1.jpg", "1.json"], [("1", [".0.jpg", ".1.jpg", ".json"])]),
        # other pairs among them are their own
        (
            ["1.b.jpg", "1.b.txt", "1.jpg", "1.txt"],
            [("1.b", [".jpg", ".txt"]), ("1", [".jpg", ".txt"])],
        ),
        # halves stay halves
        (["1.a.jpg", "1.b.jpg", "1.b.json"], [("1.a", [".jpg"]), ("1.b", [".jpg", ".json"])]),
        # names need not be neighbors, as long as they agree up to the first dot
        (
            ["1.a.jpg", "1.b.jpg", "1.a.txt", "1.b.txt"],
            [("1.a", [".jpg", ".txt"]), ("1.b", [".jpg", ".txt"])],
        ),
        (["1.JPG", "1.TXT"], [("1", [".jpg", ".txt"])]),
        (["README", "1.jpg"], [("README", [""]), ("1", [".jpg"])]),
    ],
)
def test_neighbors_become_samples(
    tmp_path: Path, names: list[str], expected: list[tuple[str, list[str]]]
) -> None:
    found = grouped(tmp_path / "a.tar", *names)
    assert sorted(found) == sorted((f"a.tar/{where}", members) for where, members in expected)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (0, 2, 3, 1)])
def test_a_key_that_comes_twice_in_a_row_is_two_pairs(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    both = [*pair("1", "one"), *pair("1", "two")]
    path = write_members(tmp_path / "a.tar", [both[place] for place in order])
    docs, tally = read("pairs", path)
    assert Counter(doc.text for doc in docs) == {"one": 1, "two": 1}
    assert {doc.id for doc in docs} == {"a.tar/1", "a.tar/1#2"}
    assert not tally.losses
    docs, tally = read("pairs", write_members(tmp_path / "a.tar", [both[0], both[2], both[1]]))
    assert (len(docs), tally.counts("bad")) == (1, {"no caption": 1})


ENDINGS = (".jpg", ".txt", ".json", ".seg.png", ".00.jpg", ".00.txt", ".01.jpg", ".01.txt")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "d.e/c"]), st.sampled_from(ENDINGS))))
def test_every_member_is_in_one_sample(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("s") / "a.tar"
    members = [(key + end, str(number).encode()) for number, (key, end) in enumerate(names)]
    write_members(path, members)
    found = list(read_samples(SourceFile(path, "a.tar"), ImportConfig(), Tally()))
    held = [int(data) for sample in found for data in sample.members.values()]
    assert sorted(held) == list(range(len(members)))
    for sample in found:
        for suffix, data in sample.members.items():
            assert members[int(data)][0] == sample.key + suffix


def test_a_run_that_is_too_large_is_given_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MAX_RECORD_BYTES", 100_000)
    names = [f"1.{number:03d}{end}" for end in (".jpg", ".txt") for number in range(200)]
    path = write_members(tmp_path / "a.tar", [(name, bytes(1000)) for name in names])
    held: list[int] = []
    left: list[Sample] = []
    for sample in read_samples(SourceFile(path, "a.tar"), ImportConfig(), Tally()):
        left.append(sample)
        held.append(sum(len(data) for data in sample.members.values()))
    assert sum(held) == 400_000
    assert len({sample.where for sample in left}) == len(left)


def test_a_picture_in_a_tar_ends_as_any_picture_that_is_read(tmp_path: Path) -> None:
    endings = [*sorted(SUFFIXES), ".heic"]
    members = [
        (f"{number:02d}{end}", data)
        for number, ending in enumerate(endings)
        for end, data in ((ending, PNG), (".txt", b"words"))
    ]
    docs, tally = read("pairs", write_members(tmp_path / "a.tar", members))
    assert len(docs) == len(SUFFIXES)
    assert {".jfif", ".jpe", ".tif", ".tiff", ".avif", ".jp2"} <= SUFFIXES
    assert tally.counts("bad") == {"no picture": 1}


def test_hidden_files_are_told(tmp_path: Path) -> None:
    # what macOS puts beside each file
    members = [(".DS_Store", b"x"), ("._1.jpg", b"x"), *pair("1"), ("d/._2.jpg", b"x")]
    docs, tally = read("pairs", write_members(tmp_path / "a.tar", members))
    assert len(docs) == 1
    assert tally.counts("left out") == {"hidden file": 3}
