"""Benchmarks of the tiny model, from the command to the JSON file."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("--size", "tiny", "--rounds", "1", "--warmups", "0")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


def check(found: dict, title: str, printed: str) -> None:
    assert len(found["ours_s"]) == len(found["peer_s"]) == 1
    assert min(found["ours_s"] + found["peer_s"]) > 0.0
    assert found["title"] == title
    assert title in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beam", "folder", "raven"])
def test_both_sides_agree_and_are_timed(
    name: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.harness.bench import main

    file = work / f"{name}.json"
    module = importlib.import_module(f"benchmarks.{name}")
    words = [*WORDS, "--work", str(work), "--json", str(file)]
    code = main(module.BENCHMARK, module.prepare, words=words)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    found = json.loads(file.read_text(encoding="utf-8"))
    check(found, module.BENCHMARK.title, printed.out)
    assert found["limit_s"] > 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["train_step", "mixture_step", "head_loss", "xpos", "packing", "loader"]
)
def test_training_does_the_same_work_as_its_peers(
    name: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.harness.bench import main

    file = work / f"{name}.json"
    module = importlib.import_module(f"benchmarks.{name}")
    words = [*WORDS, "--work", str(work), "--json", str(file)]
    code = main(module.BENCHMARK, module.prepare, words=words)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    found = json.loads(file.read_text(encoding="utf-8"))
    check(found, module.BENCHMARK.title, printed.out)
    assert all(math.isfinite(target["found"]) for target in found["targets"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seek", "gpu_mfu"])
def test_what_has_no_peer_is_timed_alone(name: str, work: Path) -> None:
    file = work / f"{name}.json"
    # a process of its own: it joins a group of processes
    command = [sys.executable, "-m", f"benchmarks.{name}", *WORDS, "--device", "cpu"]
    command += ["--work", str(work), "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["ratio"] is None
    assert found["ours_s"][0] > 0.0
    assert all(math.isfinite(target["found"]) for target in found["targets"])


@pytest.mark.slow
def test_all_runs_each_in_a_process_of_its_own_and_leaves_the_page_alone(work: Path) -> None:
    page = ROOT / "docs" / "performance.md"
    before = page.read_bytes()
    command = [sys.executable, "-m", "benchmarks.all", "--only", "parsing", *WORDS]
    command += ["--results", str(work / "results"), "--work", str(work)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((work / "results" / "parsing.json").read_text(encoding="utf-8"))
    check(found, "grounded parsing", done.stdout)
    assert page.read_bytes() == before
