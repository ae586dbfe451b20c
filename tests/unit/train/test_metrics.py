"""kosmos.train.metrics."""

import json
import logging
import math
import re
from pathlib import Path

import pytest

from kosmos.errors import DataError
from kosmos.files import read_jsonl
from kosmos.train.metrics import MetricsLog
from tests.tiny_run import full_disk, without_tensorboard


def record(step: int, kind: str = "train") -> dict[str, object]:
    return {"kind": kind, "step": step, "loss": 0.1 + step, "losses": {"text": 1.0 / 3}}


def write(folder: Path, steps: range, *, step: int = 0) -> None:
    log = MetricsLog(folder, step=step)
    for number in steps:
        log.write(record(number))  # type: ignore[arg-type]
    log.close()


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4))
    assert list(read_jsonl(tmp_path / "metrics.jsonl")) == [record(step) for step in (1, 2, 3)]


def test_resuming_drops_what_came_after_the_checkpoint_and_a_torn_line(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "st')
    write(tmp_path, range(4, 7), step=3)
    steps = [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")]  # type: ignore[index, call-overload]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_record_is_in_the_file_before_the_next_step_begins(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, step=0)
    log.write(record(1))  # type: ignore[arg-type]
    assert len(list(read_jsonl(tmp_path / "metrics.jsonl"))) == 1
    log.close()


def test_what_is_not_finite_is_null_since_json_knows_no_such_number(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, step=0)
    log.write({"kind": "heldout", "step": 1, "losses": {"a": math.nan, "b": [math.inf, 1.5]}})
    log.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["losses"] == {"a": None, "b": [None, 1.5]}


def test_a_full_disk_names_the_file_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_tensorboard(monkeypatch)
    log = MetricsLog(tmp_path, step=0)
    log.write(record(1))  # type: ignore[arg-type]
    size = (tmp_path / "metrics.jsonl").stat().st_size
    with full_disk(size + 10), pytest.raises(DataError) as error:
        log.write(record(2))  # type: ignore[arg-type]
    assert re.search(r"metrics.jsonl: could not be written: .* \(.* GB free on /", str(error.value))
    log.close()
    # what was torn is dropped where the run goes on
    write(tmp_path, range(2, 4), step=1)
    steps = [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")]  # type: ignore[index, call-overload]
    assert steps == [1, 2, 3]


def test_tensorboard_shows_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(tmp_path, range(1, 4))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(step, pytest.approx(0.1 + step)) for step in (1, 2, 3)]
    assert len(events.Scalars("train/losses/text")) == 3


def test_without_tensorboard_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_tensorboard(monkeypatch)
    with caplog.at_level(logging.INFO):
        write(tmp_path, range(1, 3))
    assert "metrics go to metrics.jsonl alone" in caplog.text
    assert "pip install 'openkosmos[train]'" in caplog.text
    assert len(list(read_jsonl(tmp_path / "metrics.jsonl"))) == 2
    assert not (tmp_path / "tensorboard").exists()
