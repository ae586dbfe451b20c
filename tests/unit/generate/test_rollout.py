"""The cached model agrees with the uncached one, whatever the company of a row."""

import pytest
import torch

from kosmos.document.types import Document, Image, Text
from kosmos.errors import CheckpointError
from kosmos.generate.constraints import Ahead
from kosmos.generate.generator import Generator
from kosmos.generate.image_cache import ImageCache
from kosmos.generate.rollout import Rollout, token_log_probs
from kosmos.generate.tree import Prompt
from kosmos.image.transform import ImageTransform
from tests.unit.generate.random_models import make_generator, make_model

# float32 on CPU; worst seen 7.6e-6, with xpos (2026-11-21, torch 2.13). A position or a padding
# mask that is off by one moves log-probabilities by more than 0.1.
TOLERANCE = 2.4e-5


def prompts_of(generator: Generator, docs: list[Document]) -> list[Prompt]:
    rows = [generator.encode(doc) for doc in docs]
    pictures = ImageCache(generator.model, ImageTransform(generator.image))
    soft = pictures.take([row.images for row in rows], names=["document"] * len(rows))
    return [
        Prompt(encoded=row, soft_tokens=tokens, name=f"document {index}")
        for index, (row, tokens) in enumerate(zip(rows, soft, strict=True))
    ]


def uncached(generator: Generator, prompt: Prompt, reply: list[int]) -> torch.Tensor:
    ids = torch.tensor([[*prompt.token_ids, *reply]])
    slots = torch.zeros(ids.shape, dtype=torch.bool)
    slots[0, : len(prompt.encoded)] = torch.from_numpy(prompt.encoded.image_slots)
    hidden = generator.model(ids, image_slots=slots, image_embeddings=prompt.soft_tokens)
    return generator.model.logits(hidden[0, -1]).log_softmax(-1)


@pytest.fixture(scope="module", params=["sinusoidal", "xpos"])
def model(request, tokenizer) -> Generator:
    model = make_model(tokenizer.vocabulary.size, seed=1, positions=request.param)
    return make_generator(tokenizer, model)


@pytest.fixture
def docs(pictures) -> list[Document]:
    first, second, _ = pictures
    return [
        Document([Image(first), Text("An image of")]),
        Document([Text("a dog")]),
        Document([Image(first), Text("a star. "), Image(second), Text("a red dog left of it")]),
    ]


@torch.inference_mode()
def test_cached_steps_equal_reading_everything_again(model, docs):
    prompts = prompts_of(model, docs)
    rollout = Rollout(model.model, [[prompt] for prompt in prompts], room=4)
    replies: list[list[int]] = [[], [], []]
    log_probs = rollout.log_probs
    for step in range(4):
        for row, prompt in enumerate(prompts):
            expected = uncached(model, prompt, replies[row])
            assert (log_probs[row] - expected).abs().max() < TOLERANCE
        chosen = [10 + step, 20 + step, 30 + step]
        for reply, token_id in zip(replies, chosen, strict=True):
            reply.append(token_id)
        log_probs = rollout.step([0, 1, 2], chosen)


@torch.inference_mode()
def test_looking_ahead_sees_what_a_step_sees_and_changes_nothing(model, docs):
    prompts = prompts_of(model, docs)
    rollout = Rollout(model.model, [[prompt] for prompt in prompts], room=4)
    for rows, ids in (([2, 0, 2, 2], [10, 11, 12, 13]), ([1], [14]), ([2, 1, 0], [15, 16, 17])):
        log_probs = rollout.look_ahead(rows, ids)
        for found, row, token_id in zip(log_probs, rows, ids, strict=True):
            expected = uncached(model, prompts[row], [token_id])
            assert (found - expected).abs().max() < TOLERANCE
    rollout.step([2, 2, 0], [20, 21, 22])
    rollout.look_ahead([1, 1, 0], [23, 24, 25])
    log_probs = rollout.step([1, 2], [26, 27])
    for found, (prompt, reply) in zip(
        log_probs, [(prompts[2], [21, 26]), (prompts[0], [22, 27])], strict=True
    ):
        assert (found - uncached(model, prompt, reply)).abs().max() < TOLERANCE


@torch.inference_mode()
def test_rows_may_leave_and_be_multiplied_and_exchanged(model, docs):
    prompts = prompts_of(model, docs)
    rollout = Rollout(model.model, [[prompt] for prompt in prompts], room=5)
    rollout.step([0, 0, 2, 2], [10, 11, 12, 13])
    rollout.step([1, 0, 3, 3], [14, 15, 16, 17])
    log_probs = rollout.step([3, 0], [18, 19])
    expected = [(prompts[2], [13, 17, 18]), (prompts[0], [11, 14, 19])]
    for row, (prompt, reply) in enumerate(expected):
        assert (log_probs[row] - uncached(model, prompt, reply)).abs().max() < TOLERANCE


@torch.inference_mode()
def test_prompts_that_begin_alike_continue_from_one_row(model, docs, pictures):
    more = [
        Document([Image(pictures[0]), Text(words)]) for words in ("a red", "An image", "a star")
    ]
    first, *others = prompts_of(model, [docs[1], *more])
    rollout = Rollout(model.model, [others, [first]], room=3, score_prompts=True)
    alone = Rollout(model.model, [[prompt] for prompt in (*others, first)], room=3)
    replies = [[10], [11], [12], [13], [14]]
    rows, ids = [2, 0, 0, 3, 1], [10, 11, 12, 13, 14]
    found, expected = rollout.step(rows, ids), alone.step(rows, ids)
    assert (found - expected).abs().max() < TOLERANCE
    found = rollout.step([4, 1, 1, 0], [15, 16, 17, 18])
    prompts = [*others, first]
    for row, (old, token_id) in enumerate([(4, 15), (1, 16), (1, 17), (0, 18)]):
        reply = [*replies[old], token_id]
        assert (found[row] - uncached(model, prompts[rows[old]], reply)).abs().max() < TOLERANCE


def ahead_of(*token_ids: int) -> list[Ahead]:
    """A chain of tokens."""
    return [Ahead(token_ids[0], ahead_of(*token_ids[1:]))] if token_ids else []


@torch.inference_mode()
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_read_ahead_changes_nothing_but_the_number_of_passes(model, docs, shared):
    prompts = prompts_of(model, docs)
    groups = [prompts] if shared else [[prompt] for prompt in prompts]
    plain, ahead = (Rollout(model.model, groups, room=6) for _ in range(2))
    steps = [
        # forked with trees of unequal size, of which one is then left and one is gone on with
        ([0, 0, 2, 1], [10, 11, 12, 13], [ahead_of(14, 15), [], ahead_of(16, 17, 18), []]),
        ([0, 1, 2, 2], [14, 20, 16, 21], [[], [], [], [*ahead_of(23, 24), *ahead_of(22)]]),
        ([3, 2, 2, 0], [22, 17, 17, 15], ()),
        ([1, 2, 0], [18, 23, 24], ()),
        ([2, 1, 0], [25, 26, 27], [ahead_of(28), [], []]),
    ]
    passes = []
    forward = model.model.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.model, "forward", lambda *a, **k: passes.append(1) or forward(*a, **k))
        for rows, token_ids, runs in steps:
            expected = plain.step(rows, token_ids)
            passes.clear()
            found = ahead.step(rows, token_ids, ahead=runs)
            assert (found - expected).abs().max() < TOLERANCE
            if token_ids[0] == 22:
                assert not passes, "all of it had been read"


@torch.inference_mode()
def test_prompt_log_probs_are_those_of_each_prompt_alone(model, docs):
    prompts = prompts_of(model, docs)
    apart = Rollout(model.model, [[prompt] for prompt in prompts], room=1, score_prompts=True)
    together = Rollout(model.model, [prompts], room=1, score_prompts=True)
    assert together.prompt_log_probs == pytest.approx(apart.prompt_log_probs, abs=1e-4)
    for prompt, found in zip(prompts, apart.prompt_log_probs, strict=True):
        ids = prompt.token_ids
        slots = torch.from_numpy(prompt.encoded.image_slots)[None]
        hidden = model.model(
            torch.tensor([ids]), image_slots=slots, image_embeddings=prompt.soft_tokens
        )
        values = model.model.logits(hidden[0]).log_softmax(-1)
        expected = sum(float(values[i, ids[i + 1]]) for i in range(len(ids) - 1))
        assert found == pytest.approx(expected, abs=1e-4)


@torch.inference_mode()
def test_log_probs_of_targets_are_the_same_in_chunks(model):
    torch.manual_seed(0)
    hidden = torch.randn(600, 32)
    targets, which = torch.randint(0, 50, (900,)), torch.randint(0, 600, (900,))
    all_log_probs = model.model.logits(hidden).log_softmax(-1)
    found = token_log_probs(model.model, hidden, targets, which=which)
    assert torch.allclose(found, all_log_probs[which, targets], atol=1e-5)
    found = token_log_probs(model.model, hidden, targets[:600])
    assert torch.allclose(found, all_log_probs[torch.arange(600), targets[:600]], atol=1e-5)


@torch.inference_mode()
def test_logits_that_are_not_finite_are_an_error_naming_the_step_and_the_prompt(tokenizer, docs):
    generator = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=0))
    rollout = Rollout(generator.model, [[prompt] for prompt in prompts_of(generator, docs)], room=4)
    rollout.step([0, 2], [10, 11])
    # an embedding that only the second row reads, from its next token on
    generator.model.decoder.embedding.weight[30] = float("nan")
    with pytest.raises(CheckpointError, match=r"document 0: .* found NaN at step 2"):
        rollout.step([0, 1], [12, 30])
