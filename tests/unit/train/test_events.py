"""kosmos.train.spikes; the whole way from a step to events.jsonl is in test_trainer.py."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.config import replace
from kosmos.data.loader import Loader
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.events import MIN_SEEN, NUM_NAMED, Spike, SpikeWatch, worst_documents
from kosmos.train.parallel import ALONE
from kosmos.train.step import NextToken


def falling(step: int, rng: np.random.Generator) -> float:
    """A loss as runs have it: from 10 to 3, with noise."""
    return 3.0 + 7.0 * math.exp(-step / 100) + 0.1 * float(rng.standard_normal())


@pytest.mark.parametrize("seed", range(5))
def test_a_falling_loss_with_noise_is_no_spike(seed: int) -> None:
    watch, rng = SpikeWatch(8.0), np.random.default_rng(seed)
    assert [watch.see({"text": falling(step, rng)}) for step in range(1000)] == [[]] * 1000


def test_a_step_far_above_is_told_with_what_is_usual_and_does_not_move_the_mark() -> None:
    watch, rng = SpikeWatch(8.0), np.random.default_rng(0)
    for step in range(500, 600):
        watch.see({"text": falling(step, rng), "captions": 2.0})
    for _ in range(5):  # one after another: the median stands
        (spike,) = watch.see({"text": 6.0, "captions": 2.0})
        assert (spike.stream, spike.loss) == ("text", 6.0)
        assert spike.usual == pytest.approx(3.0, abs=0.1)
    assert watch.see({"text": 3.0, "captions": 2.0}) == []


def test_nothing_is_judged_before_a_stream_has_been_seen_often_enough() -> None:
    for already in range(MIN_SEEN + 1):
        watch = SpikeWatch(8.0)
        for step in range(already):
            assert watch.see({"text": 2.0 + 0.01 * (step % 3)}) == []
        assert bool(watch.see({"text": 9.0})) == (already == MIN_SEEN)


def test_a_stream_that_has_learned_by_heart_does_not_cry_at_every_breath() -> None:
    watch = SpikeWatch(8.0)
    for _ in range(50):
        watch.see({"text": 0.01})
    assert watch.see({"text": 0.08}) == []
    assert watch.see({"text": 0.2})


def test_factor_zero_turns_it_off() -> None:
    watch = SpikeWatch(0.0)
    for _ in range(50):
        watch.see({"text": 1.0})
    assert watch.see({"text": 1e9}) == []


@given(
    losses=st.lists(st.floats(0.0, 20.0), min_size=MIN_SEEN, max_size=120),
    shift=st.floats(-5.0, 5.0),
)
def test_only_distances_matter(losses: list[float], shift: float) -> None:
    plain, moved = SpikeWatch(3.0), SpikeWatch(3.0)
    for loss in losses:
        found, same = plain.see({"a": loss}), moved.see({"a": loss + shift})
        if found and same:
            assert same[0].usual == pytest.approx(found[0].usual + shift, abs=1e-9)
        elif found or same:  # rounding at the very edge
            (edge,) = found or same
            assert edge.loss > edge.usual


@pytest.fixture(scope="module")
def loader(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> Loader:
    return Loader(
        replace(run.data, {"micro_batch_tokens": 128}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )


@pytest.mark.parametrize("stream", ["text", "captions", "pages"])
def test_documents_lose_together_what_their_stream_loses(
    run: Run, loader: Loader, stream: str
) -> None:
    model = Kosmos(run.model).eval()
    initialize(model, 0)
    objective = NextToken(model)
    for batch in loader.step(0):
        if batch.stream == stream:
            sums, weights = objective.document_losses(batch)
            assert len(sums) == len(batch.document_ids)
            assert weights.sum() == batch.num_loss_tokens
            # 1e-6 seen: another order of summation
            assert sums.sum() == pytest.approx(float(objective.loss(batch).detach()), rel=1e-5)


def test_the_document_that_raised_the_loss_stands_first(run: Run, loader: Loader) -> None:
    model = Kosmos(run.model).train()
    initialize(model, 0)
    objective = NextToken(model)
    batches = loader.step(0)
    places = [i for i, batch in enumerate(batches) if batch.stream == "captions"]
    # the word that is least likely everywhere, in one document alone
    batch = batches[places[-1]]
    owners = batch.documents[:, 1:]
    guilty = int(owners[owners >= 0].max())
    usual = np.mean(
        [total / weight for b in batches if b.stream == "captions"
         for total, weight in zip(*objective.document_losses(b), strict=True)]
    )  # fmt: skip
    model.head_weight.data[7] -= 100 * model.head_weight.data.mean(0)
    batch.targets[(owners == guilty) & (batch.loss_weights > 0)] = 7
    spike = Spike(stream="captions", loss=9.0, usual=float(usual))
    documents = worst_documents(objective, batches, spike, ALONE)
    assert documents[0].id == batch.document_ids[guilty]
    excess = [(found.loss - usual) * found.weight for found in documents]
    assert excess == sorted(excess, reverse=True)
    assert len(documents) <= NUM_NAMED
    assert {found.id.split("-")[0] for found in documents} == {"caption"}
    assert model.training
