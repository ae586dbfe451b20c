"""Steps of static shape give what steps whose shapes follow the work give."""

import itertools

import pytest
import torch

from kosmos.document.types import Document, Image, Text
from kosmos.generate import cuda_graph
from kosmos.generate.cuda_graph import GraphedSteps
from kosmos.generate.generator import Generator
from kosmos.generate.rollout import Rollout
from tests.unit.generate.random_models import make_generator, make_model
from tests.unit.generate.test_rollout import TOLERANCE, prompts_of


@pytest.fixture(scope="module", params=["sinusoidal", "xpos"])
def model(request, tokenizer) -> Generator:
    model = make_model(tokenizer.vocabulary.size, seed=1, positions=request.param)
    return make_generator(tokenizer, model)


@pytest.fixture
def docs(pictures) -> list[Document]:
    return [
        Document([Image(pictures[0]), Text("An image of")]),
        Document([Text("a dog")]),
        Document([Image(pictures[0]), Text("a star"), Image(pictures[1]), Text("a red dog")]),
    ]


STEPS = [([0, 0, 2, 2], [10, 11, 12, 13]), ([1, 0, 3, 3], [14, 15, 16, 17]), ([3, 0], [18, 19])]


@torch.inference_mode()
@pytest.mark.parametrize("shared", [False, True])
def test_forks_and_rows_that_leave_are_the_same_in_a_static_shape(model, docs, shared):
    prompts = prompts_of(model, docs)
    groups = [prompts] if shared else [[prompt] for prompt in prompts]
    graphed = GraphedSteps(model.model)
    for _ in range(2):  # the second time with a cache that holds what the first left
        plain = Rollout(model.model, groups, room=3, fan=2)
        still = Rollout(model.model, groups, room=3, fan=2, graphed=graphed)
        assert (plain.log_probs - still.log_probs).abs().max() < TOLERANCE
        for rows, token_ids in STEPS:
            found, expected = still.step(rows, token_ids), plain.step(rows, token_ids)
            assert (found - expected).abs().max() < TOLERANCE
        still.close()


@torch.inference_mode()
def test_shapes_are_kept_and_the_oldest_let_go(model):
    graphed = GraphedSteps(model.model)
    first = graphed.take(rows=1, width=3, prompt=10, room=5)
    assert first is not None
    assert (first.width, first.cache.capacity) == (4, 256)
    graphed.give_back(first)
    assert graphed.take(rows=1, width=4, prompt=90, room=20) is first
    graphed.give_back(first)
    for rows in range(2, 6):
        graphed.give_back(graphed.take(rows=rows, width=1, prompt=1, room=1))
    assert graphed.take(rows=1, width=4, prompt=90, room=20) is not first


@torch.inference_mode()
def test_a_step_is_lent_to_one_at_a_time(model, monkeypatch):
    graphed = GraphedSteps(model.model)
    shape = {"rows": 1, "width": 1, "prompt": 10, "room": 5}
    first, second = graphed.take(**shape), graphed.take(**shape)
    assert first is not second
    graphed.give_back(second)
    assert graphed.take(**shape) is second
    # what is lent counts, until its reader has died with it
    monkeypatch.setattr(cuda_graph, "_MOST_CACHE_BYTES", 2 * first.cache.num_bytes)
    assert graphed.take(**shape) is None
    del second
    assert graphed.take(**shape) is not None


@pytest.fixture
def still(model) -> Generator:
    """The model with steps of static shape, as on a GPU, and the same without a graph."""
    still = make_generator(model.tokenizer, model.model)
    still._reader.graphed = GraphedSteps(model.model)
    return still


@pytest.mark.parametrize("num_streams", [2, 5])
def test_streams_that_are_told_in_turns_are_those_told_one_after_the_other(
    model, still, docs, num_streams
):
    words = ["a dog", "a star", "red left", "of the", "a red"]
    options = {"max_new_tokens": 8, "min_new_tokens": 8}
    expected = [model.generate(word, **options) for word in words[:num_streams]]
    streams = [still.stream(word, **options) for word in words[:num_streams]]
    found = [next(stream) for stream in streams]
    # whatever else is asked meanwhile
    there, here = (one.generate(docs, num_beams=2, **options) for one in (still, model))
    assert [reply.token_ids for reply in there] == [reply.token_ids for reply in here]
    left = streams.pop()
    expected.pop(), found.pop()
    left.close()
    for pieces in itertools.zip_longest(*streams):
        found = [piece or before for piece, before in zip(pieces, found, strict=True)]
    assert [piece.reply.token_ids for piece in found] == [reply.token_ids for reply in expected]


def test_steps_come_back_however_a_reading_ends(model, still):
    free = still._reader.graphed._free
    for text in ("a dog", "a star"):
        next(still.stream(text, max_new_tokens=5, min_new_tokens=5))
        assert len(free) == 1  # the stream was left
    *_, last = still.stream("a dog", max_new_tokens=5)
    assert last.reply.token_ids == model.generate("a dog", max_new_tokens=5).token_ids
    assert len(free) == 1


def test_a_cache_too_large_to_be_given_whole_is_left_to_the_work(model):
    assert GraphedSteps(model.model).take(rows=4096, width=64, prompt=2000, room=2000) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("num_beams", [1, 3])
def test_replies_of_a_recorded_step_are_those_of_the_cpu(tokenizer, pictures, num_beams):
    model = make_model(tokenizer.vocabulary.size, seed=3)
    docs = [Document([Image(picture), Text("a")]) for picture in pictures]
    expected = make_generator(tokenizer, model).generate(docs, num_beams=num_beams)
    cuda = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=3).cuda())
    for _ in range(2):
        found = cuda.generate(docs, num_beams=num_beams)
        assert [r.token_ids for r in found] == [r.token_ids for r in expected]
