"""kosmos.train.checkpoint."""

import shutil
from pathlib import Path

import pytest
import torch

from kosmos.errors import CheckpointError
from kosmos.files import read_json
from kosmos.model.config import PRESETS
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
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
