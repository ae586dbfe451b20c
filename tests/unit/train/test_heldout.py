"""kosmos.train.heldout, and runs that keep the best checkpoint."""

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kosmos.card.write import write_card
from kosmos.config import replace
from kosmos.errors import ConfigError
from kosmos.files import Json
from kosmos.findings import raise_first_error
from kosmos.train import heldout
from kosmos.train.config import Run, run_rules
from kosmos.train.heldout import Best
from kosmos.train.trainer import train
from kosmos.weights.folder import load_model

LOSSES = {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5}
"""Held-out losses that a run is told, by step: the model of step 4 is the best."""


def follow(losses: dict[int, float]) -> Best:
    best = Best()
    for step, loss in losses.items():
        best = best.after(step, {"data": loss})
    return best


@given(st.lists(st.floats(0.1, 9.0) | st.just(math.nan), min_size=1))
def test_the_best_is_the_first_of_the_lowest_that_are_finite(values: list[float]) -> None:
    best = follow(dict(enumerate(values, start=1)))
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        assert best == Best()
    else:
        assert (best.loss, best.step) == (min(finite), values.index(min(finite)) + 1)


def test_what_was_before_the_first_step_is_no_candidate_but_a_measure() -> None:
    assert follow({0: 1.0, 2: 3.0, 4: 2.0}) == Best(step=4, loss=2.0, before=1.0)
    assert follow({0: 1.0, 2: 3.0}).is_worse_than_before
    assert not follow({0: 1.0, 2: 0.5, 4: 2.0}).is_worse_than_before
    assert not follow({2: 3.0}).is_worse_than_before


def test_the_mean_over_streams_decides() -> None:
    best = Best().after(1, {"a": 1.0, "b": 3.0}).after(2, {"a": 2.5, "b": 1.0})
    assert (best.step, best.loss) == (2, 1.75)


@pytest.fixture
def keeping(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose held-out losses are those of LOSSES."""
    told: Callable[..., dict[str, float]] = lambda objective, batches: {  # noqa: E731
        "captions": LOSSES[_Steps.done]
    }
    monkeypatch.setattr(heldout, "heldout_losses", told)
    return replace(
        run,
        {
            "train.steps": 8,
            "train.keep_best": True,
            "train.heldout_every": 2,
            "train.checkpoint_every": 3,
            "train.keep_checkpoints": 1,
        },
    )


class _Steps:
    """Steps done by the run under test."""

    done = 0


def count(record: dict[str, Json]) -> None:
    assert isinstance(record["step"], int)
    _Steps.done = record["step"]


def test_the_model_is_that_of_the_best_step_and_its_checkpoint_stays(
    keeping: Run, tmp_path: Path, cache_folder: Path
) -> None:
    out = tmp_path / "out"
    train(keeping, out=out, cache_folder=cache_folder, on_step=count)
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["step-00000004", "step-00000008"]
    loaded = load_model(out / "model")
    assert isinstance(loaded.provenance, dict)
    assert loaded.provenance["step"] == 4
    assert "- [model](model), of step 4: " in write_card(out).read_text(encoding="utf-8")

    # what the weights were there: the same run, stopped behind its fourth step
    def stop(record: dict[str, Json]) -> None:
        count(record)
        if record["step"] == 4:
            os.kill(os.getpid(), signal.SIGINT)

    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        train(keeping, out=other, cache_folder=cache_folder, on_step=stop)
    one, two = (
        (folder / "checkpoints" / "step-00000004" / "__0_0.distcp").read_bytes()
        for folder in (other, out)
    )
    assert one == two


def test_a_stopped_run_remembers_its_best(keeping: Run, tmp_path: Path, cache_folder: Path) -> None:
    def stop(record: dict[str, Json]) -> None:
        count(record)
        if record["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)

    whole, out = tmp_path / "whole", tmp_path / "out"
    train(keeping, out=whole, cache_folder=cache_folder, on_step=count)
    with pytest.raises(KeyboardInterrupt):
        train(keeping, out=out, cache_folder=cache_folder, on_step=stop)
    train(keeping, out=out, cache_folder=cache_folder, on_step=count, resume=True)
    ours, theirs = (load_model(folder / "model").model for folder in (out, whole))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_keeping_the_best_needs_something_to_judge_by(run: Run) -> None:
    with pytest.raises(ConfigError, match="heldout_every: expected a positive number"):
        raise_first_error(
            run_rules(replace(run, {"train.keep_best": True, "train.heldout_every": 0}))
        )
    blind = {f"streams.{stream.name}.heldout_path": "" for stream in run.data.streams}
    with pytest.raises(ConfigError, match="expected held-out data in one of the streams"):
        raise_first_error(run_rules(replace(run, {"train.keep_best": True, **blind})))
