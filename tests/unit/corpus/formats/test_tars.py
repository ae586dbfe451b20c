"""No member of a tar of others is lost without a word."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from kosmos.errors import DataError
from tests.unit.corpus.formats.sources import png, read, write_rows, write_tar

KEEPING = {"damaged_files": "count"}
COUNT = 4


def write_pairs(path: Path, *, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """Four pairs; one has a name so long that its header takes several blocks."""
    with tarfile.open(path, "w", format=tar_format) as tar:
        for number in range(COUNT):
            key = "a" * 120 if number == 2 else f"{number}"
            for suffix, data in (("png", png(9, 9)), ("txt", b"words")):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def end_of_members(data: bytes) -> int:
    """Where the first block of the mark at the end of a tar begins."""
    return -(-len(data.rstrip(b"\0")) // 512) * 512


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_that_is_cut_anywhere_is_damaged(tmp_path: Path, tar_format: int) -> None:
    path = tmp_path / "a.tar"
    data = write_pairs(path, tar_format=tar_format)
    docs, tally = read("pairs", path)
    assert (len(docs), tally.num_bad) == (COUNT, 0)
    # block by block: at every border, in every header, in every picture
    cuts = [*range(0, end_of_members(data) + 1, 512), *range(100, end_of_members(data), 512)]
    for cut in cuts:
        path.write_bytes(data[:cut])
        docs, tally = read("pairs", path, **KEEPING)
        assert tally.counts("bad") == {"file that is damaged or ends early": 1}, cut
        assert "a.tar" in tally.losses[0].where
        assert len(docs) <= COUNT
        with pytest.raises(DataError, match=r"a\.tar: expected a whole tar file, found "):
            read("pairs", path)


def test_a_damaged_header_does_not_end_a_tar_unseen(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = bytearray(write_pairs(path))
    place = data.index(b"1.png")
    data[place : place + 3] = b"xyz"  # its checksum is wrong now
    path.write_bytes(data)
    docs, tally = read("pairs", path, **KEEPING)
    assert len(docs) == 0  # a pair is whole when the next begins
    assert tally.counts("bad") == {"file that is damaged or ends early": 1}
    assert "damaged header" in tally.losses[0].where


def test_a_compressed_tar_that_is_cut_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = gzip.compress(write_pairs(path))
    path.write_bytes(data)
    assert len(read("pairs", path)[0]) == COUNT
    for cut in range(1, len(data) - 20, 97):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"a\.tar: expected a whole tar file"):
            read("pairs", path)


def test_pictures_are_not_looked_for_in_half_a_tar(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "00000.tar", {f"{n}.png": png(9, 9) for n in range(3)})
    data = archive.read_bytes()
    rows = write_rows(
        tmp_path / "00000.jsonl", *({"file": f"{n}.png", "caption": "words"} for n in range(3))
    )
    assert len(read("coco", rows)[0]) == 3
    # behind the second picture: the third would be no file of the picture, and no more be said
    archive.write_bytes(data[: data.index(b"2.png")])
    with pytest.raises(DataError, match=r"00000\.tar: expected a whole tar file"):
        read("coco", rows)
