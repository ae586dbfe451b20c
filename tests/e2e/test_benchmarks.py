"""Benchmarks of the tiny model, from the command to the JSON file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["folder", "raven"])
def test_both_sides_agree_and_are_timed(name: str, tmp_path: Path) -> None:
    words = ["--size", "tiny", "--rounds", "1", "--results", "found", "--work", "work"]
    command = [sys.executable, "-m", "benchmarks.all", "--only", name, *words]
    command = [tmp_path / word if word in ("found", "work") else word for word in command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found" / f"{name}.json").read_text())
    assert len(found["ours_s"]) == len(found["peer_s"]) == 1
    assert min(found["ours_s"] + found["peer_s"]) > 0.0
    assert found["limit_s"] > 0.0
    assert found["title"] in done.stdout
