"""A stream whose shards lie elsewhere gives the batches that it gives here."""

from pathlib import Path

import pytest

from kosmos.config import replace
from kosmos.document.shards import ShardReader
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from tests.unit.data.test_loader import assert_equal, make_loader
from tests.unit.spring.test_remote import served


def test_remote_streams_give_the_batches_of_local_ones(
    run: Run, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS_CACHE", str(tmp_path / "cache"))
    folders = {stream.name: Path(stream.path) for stream in run.data.streams}
    (root,) = {folder.parent for folder in folders.values()}
    wanted = make_loader(run, tokenizer, tmp_path / "here")
    with served(root) as url:
        paths = {f"streams.{name}.path": f"{url}/{f.name}" for name, f in folders.items()}
        elsewhere = make_loader(replace(run, paths), tokenizer, tmp_path / "there")
        found = list(elsewhere.prefetch(0, 4, depth=2, num_workers=2))
    for step, batches in enumerate(found):
        assert_equal(batches, wanted.step(step))
    # the index is named by the contents, not by the place
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == sorted(
        p.name for p in (tmp_path / "there").iterdir()
    )
    fetched = {path.name for path in (tmp_path / "cache" / "shards").glob("*") if path.suffix == ""}
    assert fetched == {ShardReader(folder).digest for folder in folders.values()}
