"""The clock, the ratio, the table, the JSON file and the refusals, on steps that do nothing."""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness import bench, machine, models
from benchmarks.harness.bench import OF_LIMIT, RATIO, SECONDS, Benchmark, Case
from benchmarks.harness.machine import Calibration
from benchmarks.harness.measure import DisagreementError, Ratio, Target, Times, alternate
from benchmarks.harness.page import page
from benchmarks.harness.table import HEADER, cells, seconds, show
from kosmos.errors import ConfigError
from tests.tiny import tiny_tokenizer

RATES = Calibration(flops_per_s=1e9, bytes_per_s=1e9)
BENCHMARK = Benchmark(
    name="decode",
    title="a fake",
    workload="nothing",
    peer="nobody",
    targets=[Target(name=RATIO, bound=2.0), Target(name=OF_LIMIT, bound=0.9)],
    size="tiny",
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a case as a benchmark; the model, the machine and the clock are not the real ones."""
    monkeypatch.setattr(bench, "model_folder", lambda *_, **__: tmp_path)
    monkeypatch.setattr(machine, "calibrate", lambda *_, **__: RATES)

    def run(case: Case, *words: str, benchmark: Benchmark = BENCHMARK) -> int:
        file = tmp_path / "found.json"
        given = ["--json", str(file), "--work", str(tmp_path), "--rounds", "3", *words]
        return bench.main(benchmark, lambda setting: case, words=given)

    return run


def fake(*, ours: float = 1.0, peer: float = 3.0, check=dict) -> Case:
    """Steps that say themselves how long they took."""
    return Case(
        ours=lambda turn: ours,
        peer=lambda turn: peer,
        check=check,
        limit_s=lambda rates: 8e8 / rates.bytes_per_s,
        seconds=float,
        unit="fakes",
        count=2,
    )


def test_sides_take_turns_and_change_places_every_round():
    order = []
    alternate(
        lambda turn: order.append(("ours", turn)),
        lambda turn: order.append(("peer", turn)),
        rounds=3,
        warmups=1,
    )
    sides = [side for side, _ in order]
    assert sides == ["ours", "peer", "peer", "ours", "ours", "peer", "peer", "ours"]
    assert [turn for _, turn in order] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_warm_up_is_not_timed_and_loops_share_a_time():
    calls = []
    times = alternate(
        calls.append, lambda turn: None, rounds=2, warmups=1, loops=4, seconds=lambda _: 1.0
    )
    assert len(calls) == (2 + 1) * 4
    assert len(times.ours) == len(times.peer) == 2


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), st.floats(0.1, 10.0))
def test_a_slow_machine_slows_both_halves_of_a_pair_and_leaves_the_ratio(slowness, factor):
    times = Times(ours=slowness, peer=[factor * value for value in slowness])
    ratio = Ratio.of(times)
    assert ratio.least == pytest.approx(factor)
    assert ratio.median == pytest.approx(factor)
    assert ratio.greatest == pytest.approx(factor)


def test_targets_look_the_right_way():
    assert Target(name="ratio", bound=1.3).is_met_by(1.3)
    assert not Target(name="ratio", bound=1.3).is_met_by(1.29)
    assert Target(name="peak", bound=1.05, at_most=True).is_met_by(1.0)
    assert not Target(name="peak", bound=1.05, at_most=True).is_met_by(1.06)


def test_a_run_prints_a_table_and_writes_what_it_found(run, tmp_path, capsys):
    assert run(fake()) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ratio"] == {"median": 3.0, "least": 3.0, "greatest": 3.0}
    assert found["numbers"] == {RATIO: 3.0, OF_LIMIT: pytest.approx(0.8)}
    assert [target["met"] for target in found["targets"]] == [True, False]
    assert found["machine"]["versions"]["torch"]
    row = next(line for line in printed.splitlines() if line.startswith("a fake"))
    for shown in ("1 s, 2 fakes/s", "3 s, 0.667 fakes/s", "800 ms", "80%", "3.00 (3.00–3.00)"):
        assert shown in row
    assert row.endswith("yes; no (0.8)")


def test_no_path_of_this_machine_gets_into_the_record(run, tmp_path):
    assert run(fake(), "--photos", str(tmp_path)) == 0
    text = (tmp_path / "found.json").read_text()
    assert str(tmp_path) not in text
    assert f"--photos {tmp_path.name}" in json.loads(text)["command"]


def test_ours_alone_has_seconds_and_no_ratio(run, tmp_path, capsys):
    alone = dataclasses.replace(fake(ours=0.25), peer=None)
    targets = [Target(name=SECONDS, bound=1.0, at_most=True)]
    assert run(alone, benchmark=dataclasses.replace(BENCHMARK, targets=targets)) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["ratio"], found["peer_s"]) == (None, [])
    assert found["numbers"][SECONDS] == 0.25
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("a fake"))
    assert row.endswith("–            s ≤ 1   yes (0.25)")


def test_a_benchmark_of_a_gpu_runs_elsewhere_only_to_be_tested(run, capsys):
    on_gpu = dataclasses.replace(BENCHMARK, needs_cuda=True)
    assert run(fake(), "--device", "cpu", "--size", "medium", benchmark=on_gpu) == 0
    assert "skipped on --device cpu: this one is about a GPU" in capsys.readouterr().out
    assert run(fake(), "--device", "cpu", benchmark=on_gpu) == 0
    assert "a fake" in capsys.readouterr().out


def test_memory_of_a_side_is_that_of_a_process_of_its_own(tmp_path):
    args = argparse.Namespace(size="tiny", work=tmp_path)
    words = ["--work", str(tmp_path)]
    setting = bench.Setting(args=args, name="head_loss", words=words)
    held = np.ones(64 * 2**20, np.uint8)  # of this process, and so of neither side
    peaks = [setting.peak_bytes(side) for side in ("ours", "peer")]
    assert all(0 < peak < held.nbytes for peak in peaks)


def test_sides_that_disagree_are_not_timed(run, tmp_path, capsys):
    def check() -> dict[str, object]:
        raise DisagreementError("token 3: expected 7 as the peer, found 8")

    def never(turn: int) -> object:
        raise AssertionError("timed")

    case = Case(ours=never, peer=never, check=check)
    assert run(case) == 1
    assert "decode: token 3: expected 7 as the peer, found 8" in capsys.readouterr().err
    assert not (tmp_path / "found.json").exists()


def test_without_a_gpu_a_gpu_run_is_skipped_aloud(run, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(fake(), "--device", "cuda") == 0
    assert "skipped on --device cuda: there is none here" in capsys.readouterr().out


def test_columns_are_aligned():
    found = {
        "title": "a", "workload": "b", "size": "tiny", "dtype": "float32", "ours_s": [1.0],
        "peer_s": [2.0], "limit_s": None, "ratio": {"median": 2.0, "least": 2.0, "greatest": 2.0},
        "unit": "", "count": 0, "targets": [], "rounds": 1, "facts": {}, "date": "", "commit": "",
        "command": "", "calibration": {"flops_per_s": 1.0, "bytes_per_s": 1.0},
        "machine": {"versions": {}, "gpu": None, "processor": "p", "threads": 1, "python": "3"},
    }  # fmt: skip
    other = {**found, "title": "a longer name", "limit_s": 0.5, "dtype": "bfloat16"}
    lines = show([found, other]).splitlines()
    start = lines[0].index("workload")
    assert [line[start:].split()[0] for line in lines[1:3]] == ["b", "b"]
    assert len(cells(found)) == len(HEADER)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12.3456, "12.3 s"), (0.0471, "47.1 ms"), (3.1e-5, "31 µs"), (2e-9, "2 ns")],
)
def test_times_are_shown_with_their_unit(value, shown):
    assert seconds(value) == shown


def test_two_full_size_runs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with models.only_one("full"):
        with (
            pytest.raises(ConfigError, match=f"found process {os.getpid()}"),
            models.only_one("full"),
        ):
            pass
        with models.only_one("tiny"):
            pass
    with models.only_one("full"):
        pass


def test_a_run_that_would_swap_is_refused(monkeypatch):
    monkeypatch.setattr(models, "free_memory_bytes", lambda: 10 * 10**9)
    models.check_memory("tiny", 100.0)
    with pytest.raises(ConfigError, match=r"expected 16.\d GB of free memory for --size full"):
        models.check_memory("full", 2.2)


def test_stand_in_tokenizer_reads_and_has_the_size_asked_for():
    tokenizer = models.stand_in_tokenizer(1000)
    assert tokenizer.vocabulary.size == tiny_tokenizer(32).vocabulary.size - 64 + 1000
    ids = tokenizer.encode("a large red circle")
    assert tokenizer.decode(ids) == "a large red circle"
    assert max(ids) < 300


def test_page_says_what_was_not_measured(tmp_path: Path):
    text = page(tmp_path)
    assert text.count("not measured") == text.count("Not measured yet: `python -m benchmarks.")
