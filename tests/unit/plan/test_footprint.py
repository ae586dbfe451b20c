"""kosmos.plan.footprint."""

import pytest
import torch
from torch import nn

from kosmos.config import replace
from kosmos.model.config import PRESETS, ModelConfig
from kosmos.model.kosmos import Kosmos
from kosmos.plan.footprint import KEPT_BYTES, PROGRAM_BYTES, Footprint, _parts, footprint
from kosmos.plan.plan import planned_shapes
from kosmos.train.config import Run


def of(run: Run, num_processes: int = 1, **changes: object) -> Footprint:
    changed = replace(run, changes)
    return footprint(changed, planned_shapes(changed), num_processes=num_processes)


@pytest.mark.parametrize("preset", ["nano", "micro", "kosmos2-released", "kosmos2"])
def test_what_is_split_by_layers_is_what_the_model_has_in_layers(preset: str) -> None:
    config: ModelConfig = PRESETS[preset]
    with torch.device("meta"):
        model = Kosmos(config)
    layers = [
        sum(parameter.numel() for parameter in layer.parameters())
        for name, child in model.named_modules()
        if name.rpartition(".")[2] == "layers" and isinstance(child, nn.ModuleList)
        for layer in child
    ]
    total = sum(parameter.numel() for parameter in model.parameters())
    assert _parts(config) == (total - sum(layers), max(layers))


def test_processes_share_what_is_kept_and_not_what_a_micro_batch_needs(run: Run) -> None:
    one, four = of(run), of(run, 4)
    for part in ("weights", "gradients", "optimizer", "checkpoint"):
        assert getattr(four, part) == getattr(one, part) // 4
    assert (four.activations, four.loss) == (one.activations, one.loss)
    assert one.gathered == 0 < four.gathered


def test_bfloat16_halves_activations_and_keeps_float32_weights(run: Run) -> None:
    still = replace(run, {"model.decoder.dropout": 0.0})
    single, half = of(still), of(still, precision="bfloat16")
    assert 2 * half.activations == single.activations
    assert half.weights == single.weights
    assert half.gathered > 0  # weights are put together in bfloat16 even in one process


def test_recomputation_needs_less(run: Run) -> None:
    assert of(run, recompute=True).activations < of(run).activations


def test_gradients_are_beside_activations_only_if_micro_batches_follow(run: Run) -> None:
    (text, *_) = run.data.streams
    alone = replace(run, {"streams": (text,)})
    once, twice = of(alone), of(alone, micro_batch_tokens=30)
    assert (once.accumulates, twice.accumulates) == (False, True)
    assert once.device < once.weights + once.gradients + once.optimizer + (
        once.activations + once.loss
    )
    assert twice.device == sum(
        (twice.weights, twice.gradients, twice.optimizer, twice.activations, twice.loss)
    )
    assert not of(alone, 2, micro_batch_tokens=30).accumulates  # one of the two for each process


def test_checkpoints_are_copied_only_if_training_goes_on_beside_them(run: Run) -> None:
    copied = of(run)
    assert copied.checkpoint == copied.weights + copied.optimizer
    held = copied.device + copied.activations  # what was freed is kept
    assert copied.activations < KEPT_BYTES
    assert copied.processor == PROGRAM_BYTES + held + copied.checkpoint
    assert of(run, background_checkpoints=False).checkpoint == 0
    assert of(run, checkpoint_every=6).checkpoint == 0  # the last is waited for
