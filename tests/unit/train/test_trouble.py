"""What a run does when the disk is full or the data goes away: it ends, says what and where, and
goes on to the same end once that is mended."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kosmos.config import replace
from kosmos.errors import CheckpointError, DataError
from kosmos.files import Json, read_jsonl
from kosmos.train.config import Run
from kosmos.train.trainer import train
from tests.tiny_run import full_disk, make_run, without_tensorboard


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose data these tests may harm."""
    return make_run(tmp_path_factory.mktemp("trouble"))


@pytest.fixture(scope="module")
def expected(own_run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """Losses of the run when nothing happens."""
    out = tmp_path_factory.mktemp("expected") / "out"
    train(own_run, out=out)
    return losses(out)


@pytest.fixture
def shard(own_run: Run) -> Iterator[Path]:
    """The first shard of the captions, as it was again behind the test."""
    (captions,) = (stream for stream in own_run.data.streams if stream.name == "captions")
    path = Path(captions.path) / "00000.tar"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def losses(out: Path) -> list[Json]:
    rows = [row for row in read_jsonl(out / "metrics.jsonl") if isinstance(row, dict)]
    return [[row["step"], row["kind"], row["losses"]] for row in rows]


def at_step(number: int, action: Callable[[], object]) -> Callable[[dict[str, Json]], None]:
    def on_step(record: dict[str, Json]) -> None:
        if record["step"] == number:
            action()

    return on_step


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes_ends_the_run_with_step_record_and_shard(
    own_run: Run, expected: list[Json], shard: Path, tmp_path: Path, workers: int
) -> None:
    run = replace(own_run, {"train.loader_workers": workers, "train.steps": 6})
    out, kept = tmp_path / "out", shard.read_bytes()
    with pytest.raises(DataError) as error:
        train(run, out=out, on_step=at_step(3, shard.unlink))
    # the step behind may have been read ahead
    said = re.escape(str(shard))
    assert re.fullmatch(
        rf"step [456]: stream 'captions', document 'caption-\d+': {said}: expected a shard, "
        "found No such file or directory",
        error.value.message,
    )
    assert error.value.hint is not None
    assert "--resume" in error.value.hint
    shard.write_bytes(kept)
    train(run, out=out, resume=True)
    assert losses(out) == expected


def test_a_shard_that_rots_ends_the_run_with_step_record_and_shard(
    own_run: Run, expected: list[Json], shard: Path, tmp_path: Path
) -> None:
    out, kept = tmp_path / "out", shard.read_bytes()
    rotten = kept.replace(b"IHDR", b"\0\0\0\0")
    assert rotten != kept
    with pytest.raises(DataError) as error:
        train(own_run, out=out, on_step=at_step(2, lambda: shard.write_bytes(rotten)))
    assert re.match(
        rf"step [3456]: stream 'captions', document 'caption-\d+' \({re.escape(str(shard))}, "
        r"document \d+\), image 0: ",
        error.value.message,
    )
    shard.write_bytes(kept)
    train(own_run, out=out, resume=True)
    assert losses(out) == expected


def test_a_shard_that_is_cut_ends_the_run_too(own_run: Run, shard: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"step [3456]: .*00000.tar: expected \d+ bytes at"):
        train(own_run, out=tmp_path / "out", on_step=at_step(2, lambda: shard.write_bytes(b"")))


@pytest.mark.parametrize("in_background", [True, False])
def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before_to_go_on_from(
    own_run: Run,
    expected: list[Json],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_background: bool,
) -> None:
    without_tensorboard(monkeypatch)
    run = replace(own_run, {"train.background_checkpoints": in_background})
    out = tmp_path / "out"
    with ExitStack() as stack:

        def fill() -> None:
            deadline = time.monotonic() + 60.0
            while not (out / "checkpoints" / "step-00000002").is_dir():  # still being written
                assert time.monotonic() < deadline
                time.sleep(0.01)
            stack.enter_context(full_disk(60_000))

        with pytest.raises(CheckpointError) as error:
            train(run, out=out, on_step=at_step(3, fill))
    assert re.search(
        r"step-00000004: could not be written: .* \(\d+\.\d\d GB free on /", error.value.message
    )
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    assert not (out / "model").exists()
    train(run, out=out, resume=True)
    assert losses(out) == expected


def test_a_disk_that_is_full_at_the_very_end_leaves_no_half_a_model(
    own_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_tensorboard(monkeypatch)
    out = tmp_path / "out"
    run = replace(own_run, {"train.heldout_every": 0, "train.background_checkpoints": False})
    train(run, out=out)
    shutil.rmtree(out / "model")
    with full_disk(60_000), pytest.raises(CheckpointError, match=r"model.*could not be written"):
        train(run, out=out, resume=True)
    assert not (out / "model").exists()
    train(run, out=out, resume=True)
    assert (out / "model" / "model.safetensors").is_file()
