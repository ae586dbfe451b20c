"""kosmos.train.checkpoint."""

import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata

from kosmos.errors import CheckpointError
from kosmos.files import read_json, sha256_file, write_json
from kosmos.model.config import PRESETS
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.train import checkpoint
from kosmos.train.checkpoint import Checkpoints
from kosmos.train.config import TrainConfig
from kosmos.train.optimizer import freeze_vision, make_optimizer
from tests.tiny_run import full_disk

CONFIG = TrainConfig(steps=10, warmup_steps=0, learning_rate=0.01, decay_all=False)


def make(seed: int, *, num_updates: int = 0) -> tuple[Kosmos, torch.optim.AdamW]:
    model = Kosmos(PRESETS["nano"])
    initialize(model, seed)
    freeze_vision(model, "last-layer")
    optimizer = make_optimizer(model, CONFIG)
    for update in range(num_updates):
        rng = torch.Generator().manual_seed(update)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=rng)
        optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def assert_same(
    one: tuple[Kosmos, torch.optim.AdamW], other: tuple[Kosmos, torch.optim.AdamW]
) -> None:
    for a, b in zip(one[0].parameters(), other[0].parameters(), strict=True):
        assert torch.equal(a, b)
    ours, theirs = one[1].state_dict()["state"], other[1].state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for key, state in ours.items():
        for name, value in state.items():
            assert torch.equal(value, theirs[key][name])


def test_weights_and_moments_come_back_to_the_bit(tmp_path: Path) -> None:
    saved = make(0, num_updates=3)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(3, *saved, {"done": {"tokens": 7}})
    restored = make(1)
    checkpoints.load(3, *restored)
    assert_same(saved, restored)
    assert checkpoints.record(3)["done"] == {"tokens": 7}


def test_the_latest_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = make(0, num_updates=1)
    for step in (1, 2, 3, 10):
        checkpoints.save(step, *state, {})
    assert checkpoints.steps() == [3, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]


def test_a_full_disk_is_an_error_and_leaves_the_checkpoint_before_intact(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    saved = make(0, num_updates=1)
    checkpoints.save(1, *saved, {})
    with full_disk(20_000), pytest.raises(CheckpointError, match="could not be written") as error:
        checkpoints.save(2, *make(0, num_updates=2), {})
    assert " GB free on /" in error.value.message
    assert error.value.hint is not None
    assert "earlier checkpoints are untouched" in error.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    restored = make(1)
    checkpoints.load(1, *restored)
    assert_same(saved, restored)


def test_what_a_killed_writer_left_is_no_checkpoint_and_is_cleaned_up(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000002.123.partial")
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000000.old")
    assert checkpoints.steps() == [1]
    checkpoints.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("file", ["__0_0.distcp", ".metadata"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, file: str, harm: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = make(0, num_updates=1)
    for step in (1, 2):
        checkpoints.save(step, *state, {})
    path = tmp_path / "step-00000002" / file
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    elif harm == "truncate":
        del data[-1:]
    path.write_bytes(data)
    if harm == "delete":
        path.unlink()
    with pytest.raises(CheckpointError, match=f"{file}: expected a file of a whole") as error:
        checkpoints.load(2, *make(1))
    assert error.value.hint == f"move {path.parent} away to resume from step 1"


@pytest.mark.parametrize("text", ["", "{", '{"format_version": 99}', "[]"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})
    (tmp_path / "step-00000001" / "checkpoint.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"checkpoint.json: expected a file") as error:
        checkpoints.load(1, *make(1))
    assert error.value.hint is not None
    assert error.value.hint.endswith("to resume from the start")


def test_another_models_checkpoint_does_not_fit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})
    other = Kosmos(PRESETS["micro"])
    with pytest.raises(CheckpointError, match="does not fit the model"):
        checkpoints.load(1, other, make_optimizer(other, CONFIG))


def test_every_file_is_listed_with_its_checksum(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})
    record = read_json(tmp_path / "step-00000001" / "checkpoint.json")
    assert isinstance(record, dict)
    assert isinstance(record["files"], dict)
    on_disk = {path.name for path in (tmp_path / "step-00000001").iterdir()}
    assert set(record["files"]) == on_disk - {"checkpoint.json"}


def test_strangers_among_the_checkpoints_are_told_and_neither_read_nor_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(24, *make(0, num_updates=1), {})
    whole = tmp_path / "step-00000024"
    names = ["step-00000024.bad", "step-", "step-25", "step-x", ".step-notes", "step-٣"]
    for name in names:
        shutil.copytree(whole, tmp_path / name)
    (tmp_path / "step-00000099").mkdir()
    for name in ("notes.txt", "step-00000100", ".step-00000100.partial"):
        (tmp_path / name).write_text("mine")
    checkpoints.clean()
    assert checkpoints.steps() == [24]
    checkpoints.load(24, *make(1))
    told = [*names, "step-00000099", "notes.txt", "step-00000100", ".step-00000100.partial"]
    for name in told:
        assert f"{tmp_path / name}: no checkpoint; passed over" in caplog.text
        assert (tmp_path / name).exists()
    assert f"{whole}:" not in caplog.text


class Touch:
    """What a pickle of this calls when it is read makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def forge(folder: Path, change: Callable[[Path], None]) -> None:
    """Change a checkpoint's files, and its checksums with them."""
    change(folder)
    record = read_json(folder / "checkpoint.json")
    assert isinstance(record, dict)
    names = sorted(path.name for path in folder.iterdir() if path.name != "checkpoint.json")
    record["files"] = {name: sha256_file(folder / name) for name in names}
    write_json(folder / "checkpoint.json", record)


def put_in_metadata(folder: Path, value: object) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.planner_data = {"more": value}
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


@pytest.mark.parametrize("kind", ["whole", "inside", "nested name", "getattr"])
def test_a_checkpoint_that_would_run_something_is_refused_and_nothing_runs(
    tmp_path: Path, kind: str
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})
    made = tmp_path / "made"

    def harm(folder: Path) -> None:
        if kind == "inside":
            put_in_metadata(folder, Touch(made))
            return
        programs = {
            "whole": pickle.dumps(Touch(made)),
            # of a class that is allowed, what is not
            "nested name": b"\x80\x04\x8c\x07pathlib\x8c\x0fPosixPath.mkdir\x93.",
            "getattr": b"cbuiltins\ngetattr\n(cpathlib\nPosixPath\nVmkdir\ntR.",
        }
        (folder / ".metadata").write_bytes(programs[kind])

    forge(tmp_path / "step-00000001", harm)
    with pytest.raises(CheckpointError, match=r"\.metadata: expected .* found a pickle that calls"):
        checkpoints.load(1, *make(1))
    assert not made.exists()


def test_a_value_beside_the_tensors_that_would_run_something_is_refused_too(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})
    made = tmp_path / "made"

    def harm(folder: Path) -> None:
        metadata = pickle.loads((folder / ".metadata").read_bytes())
        data = bytearray((folder / "__0_0.distcp").read_bytes())
        for index, at in metadata.storage_data.items():
            if index.fqn == "optimizer.param_groups.0.lr":
                program = io.BytesIO()
                torch.save(Touch(made), program)
                at.offset, at.length = len(data), len(program.getvalue())
                data += program.getvalue()
        (folder / "__0_0.distcp").write_bytes(data)
        (folder / ".metadata").write_bytes(pickle.dumps(metadata))

    forge(tmp_path / "step-00000001", harm)
    with pytest.raises(CheckpointError, match="step-00000001"):
        checkpoints.load(1, *make(1))
    assert not made.exists()


def test_a_checkpoint_opens_no_file_but_its_own(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})

    def harm(folder: Path) -> None:
        metadata = pickle.loads((folder / ".metadata").read_bytes())
        assert isinstance(metadata, Metadata)
        for at in metadata.storage_data.values():
            at.relative_path = f"../step-00000001/{at.relative_path}"
        (folder / ".metadata").write_bytes(pickle.dumps(metadata))

    forge(tmp_path / "step-00000001", harm)
    with pytest.raises(CheckpointError, match=r"which is none of the checkpoint's files"):
        checkpoints.load(1, *make(1))


@pytest.mark.parametrize("value", [None, 3, [], {}, Metadata(state_dict_metadata={})])
def test_a_pickle_of_something_else_is_told(tmp_path: Path, value: object) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, *make(0, num_updates=1), {})
    forge(
        tmp_path / "step-00000001",
        lambda folder: (folder / ".metadata").write_bytes(pickle.dumps(value)) and None,
    )
    with pytest.raises(CheckpointError, match=r"\.metadata: expected a file of a whole"):
        checkpoints.load(1, *make(1))


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_while_a_checkpoint_is_read_or_written_is_no_failure_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    saved = make(0, num_updates=1)
    checkpoints.save(1, *saved, {})

    def press(*_: object) -> None:
        raise interrupt

    # inside torch, which takes it for a failure of a process
    monkeypatch.setattr(checkpoint.CheckpointReader, "read_data", press)
    with pytest.raises(interrupt):
        checkpoints.load(1, *make(1))
    monkeypatch.setattr("torch.distributed.checkpoint.FileSystemWriter.write_data", press)
    with pytest.raises(interrupt):
        checkpoints.save(2, *saved, {})
    assert checkpoints.steps() == [1]
