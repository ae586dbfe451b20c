"""Steps of fixed shape give what steps whose shapes follow the work give."""

import pytest
import torch

from kosmos.document.types import Document, Image, Text
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
def test_forks_and_rows_that_leave_are_the_same_in_a_fixed_shape(model, docs, shared):
    prompts = prompts_of(model, docs)
    groups = [prompts] if shared else [[prompt] for prompt in prompts]
    fixed = GraphedSteps(model.model)
    for _ in range(2):  # the second time with a cache that holds what the first left
        plain = Rollout(model.model, groups, room=3, fan=2)
        still = Rollout(model.model, groups, room=3, fan=2, fixed=fixed)
        assert (plain.log_probs - still.log_probs).abs().max() < TOLERANCE
        for rows, token_ids in STEPS:
            found, expected = still.step(rows, token_ids), plain.step(rows, token_ids)
            assert (found - expected).abs().max() < TOLERANCE


@torch.inference_mode()
def test_shapes_are_kept_and_the_oldest_let_go(model):
    fixed = GraphedSteps(model.model)
    first = fixed.take(rows=1, width=3, prompt=10, room=5)
    assert first is not None
    assert (first.width, first.cache.capacity) == (4, 256)
    assert fixed.take(rows=1, width=4, prompt=90, room=20) is first
    for rows in range(2, 6):
        fixed.take(rows=rows, width=1, prompt=1, room=1)
    assert fixed.take(rows=1, width=4, prompt=90, room=20) is not first


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
