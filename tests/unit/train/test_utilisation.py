"""kosmos.train.utilisation, and the operations that objectives count."""

import dataclasses
from pathlib import Path

import pytest
import torch

from kosmos.config import replace
from kosmos.data.loader import Loader
from kosmos.files import Json
from kosmos.model.cost import training_flops
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.train import monitor
from kosmos.train.config import Run
from kosmos.train.monitor import Monitor
from kosmos.train.parallel import ALONE
from kosmos.train.regions import RegionContrast
from kosmos.train.step import NextToken, StepResult
from kosmos.train.utilisation import known_peak, peak_flops_per_s

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "bfloat16"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Radeon VII", None),
    ],
)
def test_known_devices_have_their_makers_rate_and_others_none(
    name: str, bfloat16: float | None
) -> None:
    assert known_peak(name, "bfloat16") == bfloat16
    slower = known_peak(name, "float32")
    assert (slower is None) == (bfloat16 is None)
    assert slower is None or bfloat16 is None or slower < bfloat16


def test_what_the_user_says_goes_before_what_is_measured() -> None:
    assert peak_flops_per_s(CPU, "float32", stated=5.0) == 5.0


def test_a_cpu_is_measured_and_random_numbers_are_left_alone() -> None:
    state = torch.random.get_rng_state()
    found = peak_flops_per_s(CPU, "float32", stated=0.0)
    assert found is not None
    assert 1e8 < found < 1e14
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.fixture(scope="module")
def loader(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> Loader:
    return Loader(
        replace(run.data, {"micro_batch_tokens": 512}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )


def test_operations_are_those_of_each_row_or_document_by_itself(run: Run, loader: Loader) -> None:
    last_layer = replace(run, {"train.vision": "last-layer"}).train
    objective = NextToken(Kosmos(run.model), last_layer)
    for batch in loader.step(0):
        expected = 0
        for row in range(len(batch.token_ids)):
            parts = batch.documents[row, 1:]
            if batch.segments is not None:
                parts = batch.segments[row]
            used = parts >= 0
            lengths = [int(used.sum())]
            if batch.segments is not None:
                lengths = [int((parts == part).sum()) for part in set(parts[used].tolist())]
            expected += sum(
                training_flops(run.model, tokens=length, loss_tokens=0) for length in lengths
            )
        images = 0 if batch.pixels is None else len(batch.pixels)
        loss_tokens = int((batch.loss_weights > 0).sum())
        rest = training_flops(
            run.model, tokens=0, images=images, loss_tokens=loss_tokens, vision="last-layer"
        )
        assert objective.flops(batch) == expected + rest
        assert objective.flops(dataclasses.replace(batch, is_filler=True)) == 0


def test_regions_take_the_tower_alone(run: Run, loader: Loader, tokenizer: Tokenizer) -> None:
    objective = RegionContrast(Kosmos(run.model), tokenizer.vocabulary)
    for batch in loader.step(0):
        images = 0 if batch.pixels is None else len(batch.pixels)
        assert (objective.flops(batch) > 0) == (images > 0)
        sums, weights = objective.document_losses(batch)
        assert weights.sum() == pytest.approx(objective.weight(batch) if images else 0.0)
        assert sums.sum() == pytest.approx(float(objective.loss(batch).detach()), rel=1e-5)


class Measured:
    """A processor whose peak is what it is said to be, one measurement after another."""

    def __init__(self, *peaks: float | None) -> None:
        self.peaks = list(peaks)

    def __call__(self, *_: object, **__: object) -> float | None:
        return self.peaks.pop(0)


def shares(monkeypatch: pytest.MonkeyPatch, run: Run, peak: Measured, *rates: float) -> list[Json]:
    """Utilisation of steps that did so many operations a second."""
    monkeypatch.setattr(monitor, "peak_flops_per_s", peak)
    watch = Monitor(run.train, NextToken(Kosmos(run.model)), ALONE)
    result = StepResult(
        loss=1.0, losses={}, num_tokens=1, num_loss_tokens=1.0, num_positions=1, num_fillers=0,
        flops=0, grad_norm=1.0,
    )  # fmt: skip
    return [
        watch.measure(dataclasses.replace(result, flops=round(rate)), step_s=1.0, data_wait_s=0.0)[
            "utilisation"
        ]
        for rate in rates
    ]


def test_a_peak_that_a_step_exceeds_was_measured_under_load_and_is_measured_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = Measured(100e9, 400e9)
    assert shares(monkeypatch, run, peak, 50e9, 206e9, 100e9) == [0.5, 0.515, 0.25]
    assert peak.peaks == []


def test_a_utilisation_above_one_is_not_known(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # measured again in vain, and not at every step for ever
    peak = Measured(100e9, 90e9, 110e9, 80e9)
    found = shares(monkeypatch, run, peak, 141e9, 422e9, 55e9, 141e9, 206e9, 110e9)
    assert found == [None, None, 0.5, None, None, 1.0]
    assert caplog.text.count("is not known") == 1


def test_where_no_peak_is_known_none_is_measured_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shares(monkeypatch, run, Measured(None), 1e15) == [None]
