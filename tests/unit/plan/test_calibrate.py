"""What a measured step adds up; experiments/plan_accuracy.py says how near it comes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from kosmos.config import replace
from kosmos.data.loader import Loader
from kosmos.model.lora import LoraConfig
from kosmos.plan import calibrate
from kosmos.plan.calibrate import measure_step
from kosmos.plan.footprint import footprint
from kosmos.plan.plan import planned_shapes, shape_flops
from kosmos.plan.shapes import Shape
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run

CPU = torch.device("cpu")
LAYERS = 5


@pytest.fixture
def deep(run: Run) -> Run:
    return replace(run, {"model.decoder.num_layers": LAYERS, "model.vision.num_layers": LAYERS})


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is run takes a second."""

    def run_it(step: object, device: object) -> float:
        assert callable(step)
        step()
        return 1.0

    monkeypatch.setattr(calibrate, "_median_s", run_it)


@pytest.mark.usefixtures("one_second")
@pytest.mark.parametrize("changes", [{}, {"train.recompute": True}, {"train.vision": "frozen"}])
def test_layers_beyond_the_first_are_added_and_micro_batches_counted(
    deep: Run, changes: dict[str, object]
) -> None:
    run = replace(deep, {"data.micro_batch_tokens": 60, **changes})
    shapes, advanced = planned_shapes(run), []
    found = measure_step(run, shapes, device=CPU, advance=lambda: advanced.append(1))
    # the model of one layer, and what it has more; text has no pictures
    text, pictures = 1 + (LAYERS - 1), 1 + 2 * (LAYERS - 1)
    counts = {name: len(steps[0]) for name, steps in shapes.items()}
    assert counts == {"text": 1, "captions": 2, "pages": 1}
    assert found.streams == {"text": text, "captions": 2 * pictures, "pages": pictures}
    assert len(advanced) == len(run.data.streams)
    weights = footprint(run, shapes).gradients // 4
    of_thin = found.optimizer / weights
    assert 1 / weights < of_thin <= 1 / 1000  # a second for the weights of one layer
    assert found.total == sum(found.streams.values()) + found.optimizer
    two = measure_step(run, shapes, device=CPU, num_processes=2)
    assert two.streams == {"text": text, "captions": pictures, "pages": pictures}


@pytest.mark.usefixtures("one_second")
def test_reading_takes_from_the_cores_that_compute_and_is_beside_other_devices(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    loader = Loader(run.data, tokenizer, seed=run.seed, cache_folder=cache_folder)
    shapes = planned_shapes(run)
    without = measure_step(run, shapes, device=CPU)
    found = measure_step(run, shapes, device=CPU, loader=loader)
    assert (without.reading, found.reading) == (0.0, 1.0)
    assert found.total == without.total + 1.0
    elsewhere = dataclasses.replace(found, is_on_processor=False)
    assert elsewhere.total == without.total
    assert dataclasses.replace(elsewhere, reading=100.0).total == 100.0


@pytest.mark.usefixtures("one_second")
def test_region_contrast_is_the_tower(deep: Run) -> None:
    run = replace(deep, {"train.objective": "regions"})
    found = measure_step(run, planned_shapes(run), device=CPU)
    assert found.streams["captions"] == 1 + (LAYERS - 1)


@pytest.mark.usefixtures("one_second")
def test_an_adapter_is_measured_with_the_model_it_adapts(deep: Run) -> None:
    pytest.importorskip("peft")
    run = replace(deep, {"train.vision": "frozen", "train.adapter": LoraConfig(rank=2)})
    found = measure_step(run, planned_shapes(run), device=CPU)
    assert found.streams["captions"] == 1 + 2 * (LAYERS - 1)


@pytest.mark.parametrize("is_isolated", [False, True])
def test_the_batch_that_is_run_has_the_shape(run: Run, is_isolated: bool) -> None:
    pairs = 2 * (20**2 + 20**2) if is_isolated else 2 * 40**2
    shape = Shape(rows=2, tokens=40, real_tokens=80, pairs=pairs, loss_tokens=50, images=3)
    batch = calibrate._batch(run, shape, is_isolated=is_isolated)
    assert batch.num_positions == 80
    assert batch.num_loss_tokens == 50
    assert batch.pixels is not None
    assert len(batch.pixels) == 3
    assert batch.image_slots.sum() == 3 * run.data.layout.num_image_tokens
    assert not (batch.image_slots & (batch.loss_weights > 0)).any()
    if is_isolated:
        assert batch.segments is not None
        assert (np.stack([np.bincount(row) for row in batch.segments]) == 20).all()


def test_rows_beyond_what_is_measured_are_counted_by_their_share(run: Run) -> None:
    large = Shape(rows=256, tokens=64, real_tokens=16384, pairs=2**20, loss_tokens=9000, images=64)
    part, times = calibrate._part(large, CPU)
    assert times * part.positions == large.positions
    assert times * shape_flops(run, part) == pytest.approx(shape_flops(run, large), rel=0.01)
    assert calibrate._part(large, torch.device("cuda")) == (large, 1.0)


def test_a_step_of_a_small_run_is_measured(run: Run) -> None:
    found = measure_step(run, planned_shapes(run), device=CPU)
    assert all(seconds > 0 for seconds in (*found.streams.values(), found.optimizer))
    assert found.total < 10.0
