"""Several processes train the adapter that one does."""

from pathlib import Path

import pytest
import torch

from kosmos.config import replace
from kosmos.model.lora import LoraConfig
from kosmos.train.config import Run
from kosmos.train.trainer import train
from kosmos.weights.adapter import read_adapter
from tests.distributed.test_training import assert_same_run, train_on
from tests.tiny_run import make_run

pytest.importorskip("peft")

# of matrices that begin at zero and move by up to 5e-2: 3 times the worst seen
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An adapter of every part, with dropout; captions alone, so that held-out loss decides."""
    folder = tmp_path_factory.mktemp("finetuning")
    run = make_run(folder, steps=2)
    start = train(run, out=folder / "start")
    return replace(
        run,
        {
            "train.start_from": str(start),
            "train.adapter": LoraConfig(rank=4, targets=("decoder", "connector", "vision.ffn")),
            "train.vision": "frozen",
            "train.learning_rate": 1e-2,
            "train.keep_best": True,
            "train.heldout_every": 2,
            "train.steps": 6,
        },
    )


@pytest.fixture(scope="module")
def alone(lora: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("alone") / "out"
    train(lora, out=out)
    return out


def assert_same_adapter(one: Path, other: Path) -> None:
    first, second = (read_adapter(folder / "adapter").matrices for folder in (one, other))
    assert first.keys() == second.keys()
    for name, pair in first.items():
        for ours, theirs in zip(pair, second[name], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_two_processes_train_the_adapter_that_one_does(
    lora: Run, alone: Path, tmp_path: Path
) -> None:
    out = train_on(lora, tmp_path / "out", 2)
    assert_same_run(out, alone)
    assert_same_adapter(out, alone)


@pytest.mark.slow
def test_a_killed_process_brings_the_adapter_back_and_one_goes_on(
    lora: Run, alone: Path, tmp_path: Path
) -> None:
    out = train_on(lora, tmp_path / "out", 2, kill=(1, 5), restarts=1)
    assert (tmp_path / "out.died").exists()
    assert_same_run(out, alone)
    assert_same_adapter(out, alone)


@pytest.mark.slow
def test_an_adapter_learns_in_bfloat16_beside_layers_computed_again(
    lora: Run, alone: Path, tmp_path: Path
) -> None:
    half = replace(lora, {"train.precision": "bfloat16", "train.recompute": True})
    out = train_on(half, tmp_path / "out", 2)
    pairs = (read_adapter(folder / "adapter").matrices for folder in (out, alone))
    for (ours, _), (theirs, _) in zip(*(matrices.values() for matrices in pairs), strict=True):
        assert ours.dtype == torch.float32
        # 8 bits, and Adam's first steps are of one size whatever the gradient's: 3 times the worst
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.1)
