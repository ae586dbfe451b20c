"""kosmos.train.record."""

from pathlib import Path

import pytest

from kosmos.config import from_json, replace, to_json
from kosmos.data.loader import Loader
from kosmos.errors import CheckpointError, DataError
from kosmos.files import Json, write_json
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.record import check_same_data, check_same_run, recorded_order, run_record
from tests.tiny_run import caption_document, write_shards


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
            "train.checkpoint_every": 77,
            "train.log_every": 5,
            "train.loader_workers": 3,
            "streams.captions.path": str(moved),
            "name": "renamed",
        },
    )
    check_same_run(record, make_record(other, tokenizer, cache_folder), where="run.json")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("train.learning_rate", 0.5, "train.learning_rate was 0.001 and is 0.5"),
        ("seed", 4, "seed was 3 and is 4"),
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
    other = make_record(replace(run, {name: value}), tokenizer, cache_folder)
    with pytest.raises(CheckpointError, match=r"run\.json: expected the run") as error:
        check_same_run(record, other, where="run.json")
    assert error.value.message.endswith(f"found {told}")


def test_other_data_in_the_same_place_is_told(
    run: Run, record: dict[str, Json], tokenizer: Tokenizer, cache_folder: Path
) -> None:
    more = write_shards(cache_folder / "more", [caption_document(n) for n in range(31)])
    other = replace(run, {"streams.captions.path": str(more)})
    with pytest.raises(CheckpointError, match=r"data\.captions\.shards was .* and is "):
        check_same_run(record, make_record(other, tokenizer, cache_folder), where="run.json")


def test_order_and_number_of_streams_are_part_of_a_run(
    run: Run, record: dict[str, Json], tokenizer: Tokenizer, cache_folder: Path
) -> None:
    for streams in (run.data.streams[::-1], run.data.streams[:2]):
        other = make_record(replace(run, {"streams": streams}), tokenizer, cache_folder)
        with pytest.raises(CheckpointError, match=r"streams\.order was"):
            check_same_run(record, other, where="run.json")


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


def test_the_order_of_a_run_is_read_from_its_record_and_its_indices_alone(
    run: Run, record: dict[str, Json], cache_folder: Path, tmp_path: Path
) -> None:
    elsewhere = replace(from_json(Run, record["run"]), {"tokenizer": "gone"})
    write_json(tmp_path / "run.json", {**record, "run": to_json(elsewhere)})
    found, order = recorded_order(tmp_path, cache_folder)
    assert found == elsewhere
    counts = [len(part.sequences) for part in order.step(10**6)]
    assert sum(counts) == sum(stream.sequences_per_step for stream in run.data.streams)


def test_a_run_folder_without_its_indices_is_told(record: dict[str, Json], tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", record)
    with pytest.raises(DataError, match=r"expected the index of stream 'text'"):
        recorded_order(tmp_path)
