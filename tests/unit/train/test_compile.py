"""Compiled layers train what plain ones do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kosmos.config import replace, to_json
from kosmos.files import read_jsonl, write_json
from kosmos.train.config import Run
from kosmos.train.trainer import train
from kosmos.weights.folder import load_model

# 3 times the worst: of the tiny mixture's three streams over 3 steps, 9e-8 (relative); of weights,
# 1.3e-6 of a bias whose gradient is rounding alone. torch 2.13 on a CPU
LOSS_TOLERANCE = 3e-7
WEIGHT_TOLERANCE = 4e-6


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler"
)
def test_compiled_layers_train_what_plain_ones_do(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    # each shape is compiled anew: one layer, and one row of tokens that no line is shorter than.
    # Compiled dropout draws other numbers
    (text,) = (stream for stream in run.data.streams if stream.name == "text")
    plain = replace(
        run,
        {
            "streams": (
                replace(text, {"sequences_per_step": 1, "max_tokens": 10, "max_unusable": 1.0}),
            ),
            "model.decoder.num_layers": 1,
            "model.decoder.dropout": 0.0,
            "train.steps": 2,
            "train.heldout_every": 0,
        },
    )
    train(plain, out=tmp_path / "plain", cache_folder=cache_folder)
    write_json(tmp_path / "run.json", to_json(plain))
    # a process of its own: the shapes that tests check while they run cannot be compiled
    compiled = subprocess.run(
        [
            *(sys.executable, "-m", "kosmos", "train", tmp_path / "run.json"),
            *("--out", tmp_path / "compiled", "--set", "train.compile=true"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    assert any((tmp_path / "cache").rglob("*.cpp"))  # something was compiled
    rows, its_rows = (
        [row for row in read_jsonl(tmp_path / name / "metrics.jsonl") if isinstance(row, dict)]
        for name in ("plain", "compiled")
    )
    for row, its in zip(rows, its_rows, strict=True):
        assert its["losses"] == pytest.approx(row["losses"], rel=LOSS_TOLERANCE)
        assert its["num_loss_tokens"] == row["num_loss_tokens"]
    one, other = (
        load_model(tmp_path / name / "model").model.state_dict() for name in ("plain", "compiled")
    )
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, rtol=0, atol=WEIGHT_TOLERANCE)
