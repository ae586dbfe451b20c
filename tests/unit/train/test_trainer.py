"""kosmos.train.trainer; kills are in tests/e2e/test_resume.py."""

import dataclasses
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kosmos.config import digest, from_json, replace
from kosmos.document.layout import AnswerConfig
from kosmos.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from kosmos.files import Json, read_json, read_jsonl
from kosmos.model.config import ModelConfig
from kosmos.model.lora import LoraConfig
from kosmos.train import trainer
from kosmos.train.config import Run
from kosmos.train.events import MIN_SEEN
from kosmos.train.optimizer import learning_rate
from kosmos.train.step import StepResult, training_step
from kosmos.train.trainer import train
from kosmos.weights.folder import load_model
from kosmos.weights.quantize import quantize_folder


def losses(out: Path) -> list[tuple[Json, Json, Json]]:
    rows = [row for row in read_jsonl(out / "metrics.jsonl") if isinstance(row, dict)]
    return [(row["step"], row.get("loss"), row["losses"]) for row in rows]


def test_a_run_leaves_its_record_metrics_checkpoints_and_model(run: Run, finished: Path) -> None:
    record = read_json(finished / "run.json")
    assert isinstance(record, dict)
    assert from_json(Run, record["run"]) == run
    assert record["digest"] == digest(run)
    rows = [row for row in read_jsonl(finished / "metrics.jsonl") if isinstance(row, dict)]
    kinds = [(row["kind"], row["step"]) for row in rows]
    expected = [("train", step) for step in range(1, 7)]
    expected.insert(3, ("heldout", 3))
    assert kinds == [*expected, ("heldout", 6)]
    first = rows[0]
    assert set(first) == {
        "kind", "step", "tokens", "wall_s", "loss", "losses", "learning_rate", "grad_norm",
        "num_tokens", "num_loss_tokens", "num_positions", "num_fillers", "step_s", "tokens_per_s",
        "flops", "utilisation", "memory_bytes", "data_wait_s", "data_wait_share",
    }  # fmt: skip
    for row in rows:
        if row["kind"] == "train":
            assert row["num_positions"] >= row["num_tokens"] > row["num_loss_tokens"] > 0  # type: ignore[operator]
            assert 0 <= row["data_wait_share"] <= 1  # type: ignore[operator]
            assert row["utilisation"] is None or 0 < row["utilisation"] <= 1  # type: ignore[operator]
            assert row["num_fillers"] == 0
    tokens = [row["num_tokens"] for row in rows if row["kind"] == "train"]
    assert rows[-1]["tokens"] == sum(tokens)  # type: ignore[arg-type]
    assert set(rows[-1]["losses"]) == set(rows[-1]["unigram"]) == {"captions"}  # type: ignore[arg-type]
    names = sorted(path.name for path in (finished / "checkpoints").iterdir())
    assert names == ["step-00000004", "step-00000006"]


def test_the_model_folder_holds_the_trained_model(run: Run, finished: Path) -> None:
    loaded = load_model(finished / "model")
    assert loaded.image == run.data.image
    assert loaded.layout == run.data.layout
    assert isinstance(loaded.provenance, dict)
    assert loaded.provenance["digest"] == digest(run)
    assert loaded.provenance["step"] == 6


def test_the_model_folder_says_how_it_is_asked_not_how_its_targets_were_laid_out(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    run = replace(
        run,
        {"answers": AnswerConfig(), "image.geometry": "center-crop", "train.steps": 2},
    )
    folder = train(run, out=tmp_path / "out", cache_folder=cache_folder)
    loaded = load_model(folder)
    assert loaded.image == dataclasses.replace(run.data.image, geometry="square")
    assert loaded.layout == dataclasses.replace(
        run.data.layout, slot_ids="counting", rounding="hf", spans="separate"
    )


def test_training_lowers_the_loss(run: Run, tmp_path: Path, cache_folder: Path) -> None:
    longer = replace(
        run, {"train.steps": 40, "train.learning_rate": 5e-3, "train.heldout_every": 0}
    )
    train(longer, out=tmp_path / "out", cache_folder=cache_folder)
    values = [loss for _, loss, _ in losses(tmp_path / "out") if loss is not None]
    # 4.8 to 2.7 seen
    assert values[-1] < values[0] - 1.0  # type: ignore[operator]


def test_the_same_run_gives_the_same_losses_wherever_it_stops(
    run: Run, tmp_path: Path, cache_folder: Path, finished: Path
) -> None:
    out = tmp_path / "out"

    def interrupt(record: dict[str, Json]) -> None:
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(run, out=out, cache_folder=cache_folder, on_step=interrupt)
    assert sorted(path.name for path in (out / "checkpoints").iterdir())[-1] == "step-00000003"
    assert not (out / "model").exists()
    train(run, out=out, cache_folder=cache_folder, resume=True)
    assert losses(out) == losses(finished)
    ours, theirs = (load_model(folder / "model").model for folder in (out, finished))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_sigterm_leaves_a_checkpoint_too_and_handlers_are_put_back(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminate(record: dict[str, Json]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(run, out=tmp_path / "out", cache_folder=cache_folder, on_step=terminate)
    assert (tmp_path / "out" / "checkpoints" / "step-00000001").is_dir()
    assert signal.getsignal(signal.SIGTERM) is before


def test_resuming_a_finished_run_writes_the_model_again_and_trains_nothing(
    run: Run, tmp_path: Path, cache_folder: Path, finished: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "model")
    steps: list[Json] = []
    train(
        run,
        out=out,
        cache_folder=cache_folder,
        resume=True,
        on_step=lambda r: steps.append(r["step"]),
    )
    assert steps == []
    assert losses(out) == losses(finished)
    assert (out / "model" / "model.safetensors").is_file()


def test_a_finished_run_goes_on_with_more_steps(
    run: Run, tmp_path: Path, cache_folder: Path, finished: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    longer = replace(run, {"train.steps": run.train.steps + 2})
    rates: dict[Json, Json] = {}
    train(
        longer,
        out=out,
        cache_folder=cache_folder,
        resume=True,
        on_step=lambda r: rates.update({r["step"]: r["learning_rate"]}),
    )
    assert rates == {step: learning_rate(step, longer.train) for step in (7, 8)}
    record = read_json(out / "run.json")
    assert isinstance(record, dict)
    assert from_json(Run, record["run"]) == longer
    assert (out / "model" / "model.safetensors").is_file()
    with pytest.raises(CheckpointError, match=r"train\.steps was 8 and is 6"):
        train(run, out=out, cache_folder=cache_folder, resume=True)


def test_resuming_where_nothing_is_starts(run: Run, tmp_path: Path, cache_folder: Path) -> None:
    short = replace(run, {"train.steps": 2})
    train(short, out=tmp_path / "out", cache_folder=cache_folder, resume=True)
    assert (tmp_path / "out" / "model").is_dir()


def test_a_run_is_not_overwritten(run: Run, cache_folder: Path, finished: Path) -> None:
    with pytest.raises(CheckpointError, match="expected an empty run folder, found a run") as error:
        train(run, out=finished, cache_folder=cache_folder)
    assert error.value.hint is not None
    assert "--resume" in error.value.hint


def test_another_run_is_not_resumed(run: Run, cache_folder: Path, finished: Path) -> None:
    other = replace(run, {"train.weight_decay": 0.5})
    with pytest.raises(CheckpointError, match=r"train.weight_decay was 0.01 and is 0.5"):
        train(other, out=finished, cache_folder=cache_folder, resume=True)


def test_a_damaged_checkpoint_is_an_error_and_not_passed_over(
    run: Run, tmp_path: Path, cache_folder: Path, finished: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    file = out / "checkpoints" / "step-00000006" / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"step-00000006/__0_0.distcp: expected"):
        train(run, out=out, cache_folder=cache_folder, resume=True)


def test_starting_from_a_model_continues_its_loss(
    run: Run, tmp_path: Path, cache_folder: Path, finished: Path
) -> None:
    values = {"train.start_from": str(finished / "model"), "train.steps": 2}
    again = replace(run, {**values, "train.heldout_every": 0})
    train(again, out=tmp_path / "out", cache_folder=cache_folder)
    first = losses(tmp_path / "out")[0][1]
    assert first != losses(finished)[0][1]
    assert first < losses(finished)[0][1]  # type: ignore[operator]


def test_a_run_without_tokenizer_or_with_another_vocabulary_is_told_what_to_set(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    with pytest.raises(ConfigError, match="tokenizer: expected a SentencePiece model file"):
        train(replace(run, {"tokenizer": ""}), out=tmp_path, cache_folder=cache_folder)
    size = run.model.decoder.vocab_size
    with pytest.raises(ConfigError) as error:
        train(
            replace(run, {"model.decoder.vocab_size": size + 1}),
            out=tmp_path,
            cache_folder=cache_folder,
        )
    assert error.value.hint == f"--set model.decoder.vocab_size={size}"


def test_pictures_for_a_language_model_are_an_error(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    blind = replace(run, {"model": ModelConfig(decoder=run.model.decoder)})
    with pytest.raises(ConfigError, match=r"streams.captions: expected text alone .* 30 pictures"):
        train(blind, out=tmp_path / "out", cache_folder=cache_folder)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_the_same_run_to_nearly_the_same_loss(
    run: Run, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # dropout draws differently on a GPU
    still = replace(run, {"model.decoder.dropout": 0.0})
    train(still, out=tmp_path / "gpu", cache_folder=cache_folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    train(still, out=tmp_path / "cpu", cache_folder=cache_folder)
    for (_, one, _), (_, other, _) in zip(
        losses(tmp_path / "gpu"), losses(tmp_path / "cpu"), strict=True
    ):
        if one is not None:
            assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    ("size", "expected"), [("2", "other variables of torchrun"), ("no", "'no'")]
)
def test_a_number_of_processes_that_nothing_started_is_an_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, expected: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ConfigError, match=f"WORLD_SIZE.*{expected}"):
        train(run, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def poisoned(*steps: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Makes the loss of these steps NaN."""

    def poison(monkeypatch: pytest.MonkeyPatch) -> None:
        def step(*args: object, step: int, **options: object) -> StepResult:
            objective, optimizer, batches = args
            if step in steps:
                of_picture = next(i for i, b in enumerate(batches) if b.pixels is not None)
                bad = np.full_like(batches[of_picture].pixels, np.nan)
                batches = [*batches]
                batches[of_picture] = dataclasses.replace(batches[of_picture], pixels=bad)
            return training_step(objective, optimizer, batches, step=step, **options)

        monkeypatch.setattr(trainer, "training_step", step)

    return poison


def test_a_step_that_is_not_finite_ends_the_run_and_is_noted(
    run: Run, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(3)(monkeypatch)
    with pytest.raises(DataError, match=r"step 3: .*a loss of nan"):
        train(run, out=tmp_path / "out", cache_folder=cache_folder)
    (event,) = read_jsonl(tmp_path / "out" / "events.jsonl")
    assert isinstance(event, dict)
    assert (event["kind"], event["step"], event["stream"]) == ("nonfinite", 3, "captions")
    assert event["documents"]
    assert (tmp_path / "out" / "checkpoints" / "step-00000002").is_dir()


def test_a_spike_is_noted_with_the_documents_that_raised_it(
    run: Run,
    tmp_path: Path,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    at, guilty = MIN_SEEN + 3, set()

    def step(objective, optimizer, batches, *, step, **options):
        for batch in batches:
            if step == at and batch.stream == "captions":  # all words are one that never occurs
                batch.targets[:] = 3
                guilty.update(batch.document_ids)
        return training_step(objective, optimizer, batches, step=step, **options)

    monkeypatch.setattr(trainer, "training_step", step)
    longer = replace(
        run, {"train.steps": at + 2, "train.spike_factor": 1.0, "train.learning_rate": 5e-3}
    )
    train(longer, out=tmp_path / "out", cache_folder=cache_folder)
    (event,) = read_jsonl(tmp_path / "out" / "events.jsonl")
    assert isinstance(event, dict)
    assert (event["kind"], event["step"], event["stream"]) == ("spike", at, "captions")
    assert event["data_step"] == at
    assert event["loss"] > event["usual"] + 1.0  # type: ignore[operator]
    assert set(event["documents"]) == guilty  # type: ignore[arg-type]
    assert min(event["document_losses"]) > event["usual"]  # type: ignore[operator, type-var]
    assert f"step {at}: the loss of stream 'captions' is" in caplog.text


def test_steps_that_are_not_finite_are_skipped_if_so_asked_but_not_forever(
    run: Run, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(2, 4, 5)(monkeypatch)
    skipping = replace(run, {"train.nonfinite": "skip", "train.max_nonfinite": 2})
    train(skipping, out=tmp_path / "out", cache_folder=cache_folder)
    assert [row[0] for row in losses(tmp_path / "out") if row[1] is None and row[2] == {}] == [
        2,
        4,
        5,
    ]
    events = [row for row in read_jsonl(tmp_path / "out" / "events.jsonl") if isinstance(row, dict)]
    assert [event["step"] for event in events] == [2, 4, 5]
    stricter = replace(skipping, {"train.max_nonfinite": 1})
    with pytest.raises(DataError, match="step 5: "):
        train(stricter, out=tmp_path / "other", cache_folder=cache_folder)


def test_what_a_start_lacks_is_told_before_data_is_indexed(
    run: Run, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = {"train.start_from": str(finished / "model")}
    index = tmp_path / "index"
    quantize_folder(finished / "model", tmp_path / "int8")
    with pytest.raises(CheckpointError, match="expected floating-point weights, found int8"):
        train(
            replace(run, {"train.start_from": str(tmp_path / "int8")}),
            out=tmp_path / "one",
            cache_folder=index,
        )
    monkeypatch.setitem(sys.modules, "peft", None)
    lora = {"train.adapter": LoraConfig(), "train.vision": "frozen"}
    with pytest.raises(MissingExtraError, match="peft"):
        train(replace(run, {**start, **lora}), out=tmp_path / "two", cache_folder=index)
    assert not index.exists()


def test_who_resumes_already_is_not_told_to_use_resume(
    run: Run, tmp_path: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(record: dict[str, Json]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with caplog.at_level("INFO"):
        for resume, told in ((False, "--resume goes on"), (True, "the same command goes on")):
            with pytest.raises(KeyboardInterrupt):
                train(
                    run,
                    out=tmp_path / "out",
                    cache_folder=cache_folder,
                    resume=resume,
                    on_step=interrupt,
                )
            assert caplog.messages[-1].endswith(told)
