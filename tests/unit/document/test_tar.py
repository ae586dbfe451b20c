"""Tar files: any reader's, and at the offsets we say."""

import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.document.tar import TarWriter, gap, read_at
from kosmos.errors import DataError
from kosmos.files import sha256_file


@given(st.lists(st.binary(max_size=1500), max_size=5))
def test_members_are_where_the_writer_says(members: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        writer = TarWriter(path)
        offsets = [writer.add(f"{i}.bin", data) for i, data in enumerate(members)]
        writer.close()
        assert writer.sha256 == sha256_file(path)
        assert writer.num_bytes == path.stat().st_size
        for data, offset in zip(members, offsets, strict=True):
            assert read_at(path, offset, len(data)) == data
        for data, begin, following in zip(members, offsets, offsets[1:], strict=False):
            assert begin + len(data) + gap(len(data)) == following
        with tarfile.open(path, "r:") as tar:
            assert [m.offset_data for m in tar] == offsets


def test_reading_past_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"12345")
    assert read_at(path, 1, 4) == b"2345"
    with pytest.raises(DataError, match=r"a\.tar: expected 5 bytes at 1, found 4"):
        read_at(path, 1, 5)
    with pytest.raises(DataError, match=r"b\.tar: expected a shard, found No such file"):
        read_at(tmp_path / "b.tar", 0, 1)
