"""kosmos.train.step."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kosmos.config import replace
from kosmos.data.batch import Batch
from kosmos.data.loader import Loader
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.events import nonfinite_error
from kosmos.train.optimizer import freeze_vision, make_optimizer
from kosmos.train.step import NextToken, StepResult, heldout_losses, training_step


@pytest.fixture(scope="module")
def loaders(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> dict[int, Loader]:
    return {
        limit: Loader(
            replace(run.data, {"micro_batch_tokens": limit}),
            tokenizer,
            seed=run.seed,
            cache_folder=cache_folder,
        )
        for limit in (1, 128, 10**6)
    }


def make_model(run: Run, *, dropout: float = 0.0) -> Kosmos:
    decoder = dataclasses.replace(run.model.decoder, dropout=dropout)
    model = Kosmos(dataclasses.replace(run.model, decoder=decoder))
    initialize(model, 0)
    return model.train()


def do_step(
    model: Kosmos, run: Run, batches: list[Batch], *, clip_norm: float = 0.0, seed: int = 0
) -> StepResult:
    optimizer = make_optimizer(model, run.train)
    return training_step(
        NextToken(model),
        optimizer,
        batches,
        learning_rate=0.01,
        clip_norm=clip_norm,
        seed=seed,
        step=1,
    )


def weights(model: Kosmos) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_loss_of_a_batch_is_that_of_each_row_by_itself(
    run: Run, loaders: dict[int, Loader]
) -> None:
    model = make_model(run).eval()
    for batch in loaders[10**6].step(0):
        if batch.stream == "pages":  # its rows are isolated documents; see below
            continue
        expected, first_image = 0.0, 0
        for row in range(len(batch.token_ids)):
            used = int((batch.token_ids[row] != 1).sum())
            slots = torch.tensor(batch.image_slots[row : row + 1, :used])
            num_images = int(slots.sum()) // run.data.layout.num_image_tokens
            soft = None
            if num_images and batch.pixels is not None:
                pixels = batch.pixels[first_image : first_image + num_images]
                soft = model.encode_images(torch.tensor(pixels))
                first_image += num_images
            ids = torch.tensor(batch.token_ids[row : row + 1, :used])
            hidden = model(ids, image_slots=slots, image_embeddings=soft)
            losses = F.cross_entropy(
                model.logits(hidden)[0], torch.tensor(batch.targets[row, :used]), reduction="none"
            )
            expected += float(
                (losses * torch.tensor(batch.loss_weights[row, :used])).sum().detach()
            )
        # 3e-6 relative seen on rows of 64 tokens
        assert float(NextToken(model).loss(batch).detach()) == pytest.approx(expected, rel=2e-5)


def test_isolated_documents_do_not_see_each_other(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    captions = dataclasses.replace(run.data.streams[1], max_tokens=128)
    batches = {}
    for packing in ("single", "isolated"):
        stream = dataclasses.replace(captions, packing=packing, sequences_per_step=1)
        loader = Loader(
            replace(
                run.data,
                {"streams": (stream,), "micro_batch_tokens": 10**6, "heldout_sequences": 100},
            ),
            tokenizer,
            seed=0,
            cache_folder=cache_folder,
        )
        batches[packing] = loader.heldout("captions")
    model = make_model(run).eval()
    assert len(batches["isolated"][0].token_ids) < len(batches["single"][0].token_ids)
    alone, packed = (
        heldout_losses(NextToken(model), batches[name]) for name in ("single", "isolated")
    )
    assert packed["captions"] == pytest.approx(alone["captions"], rel=1e-5)


def test_gradient_is_the_mean_over_the_tokens_however_a_step_is_cut(
    run: Run, loaders: dict[int, Loader]
) -> None:
    # far from zero gradients, Adam's first update hides their scale; compare norms and weights
    results, moved = [], []
    for limit in (1, 128, 10**6):
        model = make_model(run)
        results.append(do_step(model, run, loaders[limit].step(0)))
        moved.append(weights(model))
    whole = results[-1]
    for result, after in zip(results[:-1], moved[:-1], strict=True):
        assert result.num_tokens == whole.num_tokens
        assert result.num_loss_tokens == whole.num_loss_tokens
        assert result.loss == pytest.approx(whole.loss, rel=1e-5)
        assert result.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
        # Adam divides gradients by their own size, so those near its epsilon move by rounding
        assert (after - moved[-1]).abs().mean() < 1e-5


def test_gradient_norm_is_that_of_the_mean_loss(run: Run, loaders: dict[int, Loader]) -> None:
    batches = loaders[128].step(3)
    model = make_model(run)
    total = sum(batch.num_loss_tokens for batch in batches)
    (sum(NextToken(model).loss(batch) for batch in batches) / total).backward()  # type: ignore[union-attr]
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    expected = float(torch.cat(gradients).norm())
    result = do_step(make_model(run), run, batches)
    assert result.grad_norm == pytest.approx(expected, rel=1e-5)


def test_clipping_scales_the_gradient_to_the_limit(run: Run, loaders: dict[int, Loader]) -> None:
    batches = loaders[128].step(0)
    seen = {}
    for clip_norm in (0.0, 0.5):
        model = make_model(run)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        before = weights(model)
        result = training_step(
            NextToken(model),
            optimizer,
            batches,
            learning_rate=1.0,
            clip_norm=clip_norm,
            seed=0,
            step=1,
        )
        seen[clip_norm] = (weights(model) - before).norm(), result.grad_norm
    assert seen[0.0][1] == seen[0.5][1] > 0.5
    assert float(seen[0.0][0]) == pytest.approx(seen[0.0][1], rel=1e-4)
    assert float(seen[0.5][0]) == pytest.approx(0.5, rel=1e-4)


def test_losses_of_the_streams_add_up_to_the_loss(run: Run, loaders: dict[int, Loader]) -> None:
    batches = loaders[128].step(0)
    result = do_step(make_model(run), run, batches)
    assert set(result.losses) == {"text", "captions", "pages"}
    total = sum(
        loss * sum(b.num_loss_tokens for b in batches if b.stream == name)
        for name, loss in result.losses.items()
    )
    assert result.loss == pytest.approx(total / result.num_loss_tokens)


def test_dropout_follows_from_seed_and_step_alone(run: Run, loaders: dict[int, Loader]) -> None:
    batches = loaders[128].step(0)

    def loss(seed: int, noise: int) -> float:
        torch.manual_seed(noise)
        return do_step(make_model(run, dropout=0.3), run, batches, seed=seed).loss

    assert loss(1, 0) == loss(1, 99)
    assert loss(1, 0) != loss(2, 0)


def test_a_loss_that_is_not_finite_names_step_stream_and_documents_and_moves_nothing(
    run: Run, loaders: dict[int, Loader]
) -> None:
    batches = loaders[128].step(0)
    place = next(i for i, batch in enumerate(batches) if batch.pixels is not None)
    pixels = batches[place].pixels
    assert pixels is not None
    batches[place] = dataclasses.replace(batches[place], pixels=np.full_like(pixels, np.nan))
    model = make_model(run)
    before = weights(model)
    result = do_step(model, run, batches)
    assert torch.equal(weights(model), before)
    assert [problem.stream for problem in result.problems] == ["captions"]
    error = str(nonfinite_error(result.problems, 1))
    assert re.match(r"step 1: .* found a loss of nan in stream 'captions', .*'caption-", error)


def test_a_gradient_that_is_not_finite_moves_nothing(run: Run, loaders: dict[int, Loader]) -> None:
    model = make_model(run)
    model.decoder.layers[0].ffn.fc1.bias.register_hook(lambda grad: grad * torch.inf)
    before = weights(model)
    result = do_step(model, run, loaders[128].step(0))
    assert torch.equal(weights(model), before)
    (problem,) = result.problems
    assert re.fullmatch("a gradient of norm (inf|nan) although every loss is finite", problem.what)
    assert math.isfinite(result.loss)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_heldout_losses_use_no_dropout_and_leave_the_model_in_training(
    run: Run, loaders: dict[int, Loader]
) -> None:
    model = make_model(run, dropout=0.5)
    batches = loaders[128].heldout("captions")
    first, second = (
        heldout_losses(NextToken(model), batches),
        heldout_losses(NextToken(model), batches),
    )
    assert first == second
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_vision_gets_no_gradient_and_stays(run: Run, loaders: dict[int, Loader]) -> None:
    model = make_model(run)
    assert model.vision is not None
    freeze_vision(model, "frozen")
    before = [parameter.detach().clone() for parameter in model.vision.parameters()]
    do_step(model, run, loaders[128].step(0))
    assert all(torch.equal(a, b) for a, b in zip(before, model.vision.parameters(), strict=True))
