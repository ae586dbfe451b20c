"""kosmos.train.record."""

import sys
from pathlib import Path

import pytest
import torch

from kosmos.config import from_json, replace
from kosmos.data.loader import Loader
from kosmos.errors import CheckpointError
from kosmos.files import Json, read_jsonl
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.record import (
    check_same_data,
    check_same_run,
    note_session,
    run_record,
)
from tests.tiny_run import caption_document, write_shards

ARGUMENTS = ["train", "tiny", "--out", "runs/a b"]


@pytest.fixture(scope="module")
def record(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> dict[str, Json]:
    return make_record(run, tokenizer, cache_folder)


def make_record(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> dict[str, Json]:
    loader = Loader(
        replace(run.data, {"micro_batch_tokens": 128}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )
    return run_record(run, loader)


def test_the_run_can_be_built_again_from_its_record(run: Run, record: dict[str, Json]) -> None:
    assert from_json(Run, record["run"]) == run


def test_what_changes_no_weight_may_differ(
    run: Run, record: dict[str, Json], tokenizer: Tokenizer, cache_folder: Path
) -> None:
    moved = write_shards(cache_folder / "moved", [caption_document(n) for n in range(30)])
    other = replace(
        run,
        {
            "train.steps": 9,
            "train.checkpoint_every": 77,
            "train.log_every": 5,
            "train.loader_workers": 3,
            "streams.captions.path": str(moved),
            "name": "renamed",
        },
    )
    check_same_run(record, make_record(other, tokenizer, cache_folder), other, where="run.json")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("train.learning_rate", 0.5, "train.learning_rate was 0.001 and is 0.5"),
        ("seed", 4, "seed was 3 and is 4"),
        ("train.steps", 5, "train.steps was 6 and is 5"),
        (
            "streams.text.sequences_per_step",
            9,
            "data.streams.text.sequences_per_step was 2 and is 9",
        ),
        ("model.decoder.dropout", 0.0, "model.decoder.dropout was 0.1 and is 0.0"),
    ],
)
def test_what_changes_weights_is_named(
    run: Run,
    record: dict[str, Json],
    tokenizer: Tokenizer,
    cache_folder: Path,
    name: str,
    value: float,
    told: str,
) -> None:
    changed = replace(run, {name: value})
    other = make_record(changed, tokenizer, cache_folder)
    with pytest.raises(CheckpointError, match=r"run\.json: expected the run") as error:
        check_same_run(record, other, changed, where="run.json")
    assert error.value.message.endswith(f"found {told}")


def test_other_data_in_the_same_place_is_told(
    run: Run, record: dict[str, Json], tokenizer: Tokenizer, cache_folder: Path
) -> None:
    more = write_shards(cache_folder / "more", [caption_document(n) for n in range(31)])
    other = replace(run, {"streams.captions.path": str(more)})
    with pytest.raises(CheckpointError, match=r"data\.captions\.shards was .* and is "):
        check_same_run(record, make_record(other, tokenizer, cache_folder), other, where="run.json")


def test_order_and_number_of_streams_are_part_of_a_run(
    run: Run, record: dict[str, Json], tokenizer: Tokenizer, cache_folder: Path
) -> None:
    for streams in (run.data.streams[::-1], run.data.streams[:2]):
        changed = replace(run, {"streams": streams})
        other = make_record(changed, tokenizer, cache_folder)
        with pytest.raises(CheckpointError, match=r"streams\.order was"):
            check_same_run(record, other, changed, where="run.json")


@pytest.mark.parametrize(
    ("before", "now", "num_done"),
    [
        ((), ("11-20",), 10),
        (("3-4",), ("3-4", "13"), 10),  # the first ten steps read data to 12
        (("3-4",), ("4", "3", "13-15"), 10),
        (("90",), (), 10),
        ((), ("1-5",), 0),
    ],
)
def test_data_that_is_not_read_yet_may_be_left_out(
    run: Run, before: tuple[str, ...], now: tuple[str, ...], num_done: int
) -> None:
    recorded = {"run": {"data": {"skip_steps": list(before)}}}
    changed = replace(run, {"data.skip_steps": now})
    check_same_data(recorded, changed, num_done=num_done, where="step-10")


@pytest.mark.parametrize(
    ("before", "now"),
    [((), ("10",)), ((), ("8-20",)), (("3-4",), ()), (("3-4",), ("3-5",)), (("3-4",), ("12",))],
)
def test_what_finished_steps_read_is_not_changed(
    run: Run, before: tuple[str, ...], now: tuple[str, ...]
) -> None:
    recorded = {"run": {"data": {"skip_steps": list(before)}}}
    changed = replace(run, {"data.skip_steps": now})
    with pytest.raises(CheckpointError, match=r"step-10: expected data.skip_steps that leave"):
        check_same_data(recorded, changed, num_done=10, where="step-10")


def note(folder: Path, *, num_processes: int = 1, step: int = 0) -> list[str]:
    note_session(
        folder,
        step=step,
        num_processes=num_processes,
        num_threads=3,
        device=None,
    )
    *_, session = read_jsonl(folder / "sessions.jsonl")
    command: list[str] = session["command"]  # type: ignore[index, call-overload, assignment]
    return command


def test_each_start_is_a_line_with_what_it_ran_on(tmp_path: Path) -> None:
    note(tmp_path)
    note(tmp_path, step=40)
    first, second = read_jsonl(tmp_path / "sessions.jsonl")
    assert (first["step"], second["step"]) == (0, 40)
    assert (first["processes"], first["threads"], first["device"]) == (1, 3, None)
    assert first["processor"]
    assert torch.__version__.startswith(first["versions"]["torch"])
    assert first["began"] <= second["began"]


@pytest.mark.parametrize(
    ("program", "processes", "on_each", "expected"),
    [
        ("/venv/bin/kosmos", 1, None, ["kosmos"]),
        ("/code/kosmos/__main__.py", 1, None, ["kosmos"]),
        ("mine.py", 1, None, ["mine.py"]),
        ("/code/kosmos/__main__.py", 2, "2", ["torchrun", "--nproc-per-node", "2", "-m", "kosmos"]),
        ("mine.py", 2, None, ["torchrun", "--nproc-per-node", "2", "mine.py"]),
        (
            "/venv/bin/kosmos",
            16,
            "8",
            ["torchrun", "--nnodes", "2", "--nproc-per-node", "8", "-m", "kosmos"],
        ),
    ],
)
def test_the_command_is_what_a_person_would_type(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    processes: int,
    on_each: str | None,
    expected: list[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [program, *ARGUMENTS])
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if on_each is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", on_each)
    assert note(tmp_path, num_processes=processes) == [*expected, *ARGUMENTS]
