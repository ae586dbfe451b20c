"""kosmos.train.utilisation, and the operations that objectives count."""

import dataclasses
from pathlib import Path

import pytest
import torch

from kosmos.config import replace
from kosmos.data.loader import Loader
from kosmos.model.cost import training_flops
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.regions import RegionContrast
from kosmos.train.step import NextToken
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
