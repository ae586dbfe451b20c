"""Scores equal brute force: prompt and continuation read as one row."""

import pytest
import torch

from kosmos.boxes import Box
from kosmos.document.layout import TRAINING
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError
from kosmos.generate.generator import Generator
from tests.unit.generate.random_models import make_generator, make_model

TOLERANCE = 1e-5


def brute_force(generator: Generator, prompt: Document, whole: Document, extra=()) -> tuple:
    """Sum and number over the tokens of a whole document that its prompt does not have."""
    start = len(generator.encode(prompt))
    encoded = generator.encode(whole)
    assert encoded.token_ids[:start].tolist() == generator.encode(prompt).token_ids.tolist()
    log_probs = generator.logits(whole).double().log_softmax(-1)
    ids = [*encoded.token_ids.tolist(), *extra]
    counted = [*encoded.loss_mask.tolist(), *([True] * len(extra))]
    places = [place for place in range(start, len(ids)) if counted[place]]
    return sum(float(log_probs[place - 1, ids[place]]) for place in places), len(places)


@pytest.fixture
def prompt(pictures) -> Document:
    shown = [Image(pictures[0]), Text("a dog. ", loss=False), Image(pictures[1])]
    return Document([*shown, Text("Question: What is it? Answer:", loss=False)])


CANDIDATES = ["yes", "no", "a red circle left of the dog", "no.", "star"]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("end", [False, True])
def test_scores_of_strings_equal_brute_force(generator, prompt, batch_size, end):
    scores = generator.score(prompt, CANDIDATES, end=end, batch_size=batch_size)
    for candidate, score in zip(CANDIDATES, scores, strict=True):
        whole = Document([*prompt.parts, Text(candidate)])
        total, count = brute_force(generator, prompt, whole, (2,) if end else ())
        assert score.num_tokens == count
        assert score.logprob == pytest.approx(total, abs=TOLERANCE)
        assert score.mean_logprob == pytest.approx(total / count, abs=TOLERANCE)


def test_a_space_before_a_candidate_means_nothing(generator, prompt):
    yes, spaced = generator.score(prompt, ["yes", " yes"])
    assert yes.num_tokens == spaced.num_tokens
    # two rows of a batch may round differently in the last bit
    assert yes.logprob == pytest.approx(spaced.logprob, abs=TOLERANCE)


def test_images_of_a_candidate_are_shown_and_not_counted(generator, prompt, pictures):
    parts = [Text("yes "), Image(pictures[2]), Text("a star")]
    (score,) = generator.score(prompt, [Document(parts)])
    asked = [Text("yes ", role="assistant"), Image(pictures[2]), Text("a star")]
    total, count = brute_force(generator, prompt, Document([*prompt.parts, *asked]))
    assert (score.num_tokens, score.logprob) == (count, pytest.approx(total, abs=TOLERANCE))
    assert count == len(generator.tokenizer.encode("yes")) + len(
        generator.tokenizer.encode("a star")
    )


@pytest.mark.parametrize("loss", [True, False])
def test_boxes_of_a_candidate_lie_in_the_image_of_the_prompt(generator, pictures, loss):
    prompt = Document([Image(pictures[0]), Text("<grounding>An image of", loss=loss)])
    answer = Document([Grounded("a dog", [Box(0.0, 0.0, 0.4, 0.4)])])
    markup = "<phrase>a dog</phrase><object><patch_index_0000><patch_index_0005></object>"
    by_parts, by_markup = generator.score(prompt, [answer, markup])
    assert by_parts == by_markup
    assert by_parts.num_tokens == len(generator.tokenizer.encode_markup(markup))
    with pytest.raises(DataError, match="whose words begin with <grounding>"):
        generator.score(Document([Image(pictures[0]), Text("An image of")]), [answer])


def test_a_text_alone_and_a_layout_of_training_are_scored_too(tokenizer):
    model = make_model(tokenizer.vocabulary.size, seed=5, positions="xpos")
    generator = make_generator(tokenizer, model, layout=TRAINING)
    prompt = Document([Text("the dog", role="user", loss=False)])
    (score,) = generator.score(prompt, ["left"])
    whole = Document([*prompt.parts, Text("left", role="assistant")])
    total, count = brute_force(generator, prompt, whole)
    assert (score.num_tokens, score.logprob) == (count, pytest.approx(total, abs=TOLERANCE))


def test_the_logprob_of_a_reply_is_its_score(generator, prompt):
    reply = generator.generate(prompt, max_new_tokens=5, num_beams=3, min_new_tokens=5)
    ids = torch.tensor([[*generator.encode(prompt).token_ids.tolist(), *reply.token_ids]])
    slots = torch.zeros(ids.shape, dtype=torch.bool)
    encoded = generator.encode(prompt)
    slots[0, : len(encoded)] = torch.from_numpy(encoded.image_slots)
    with torch.inference_mode():
        from kosmos.document.pixels import load_pixels
        from kosmos.image.transform import ImageTransform

        pixels = torch.from_numpy(load_pixels(encoded.images, ImageTransform(generator.image)))
        soft = generator.model.encode_images(pixels)
        hidden = generator.model(ids, image_slots=slots, image_embeddings=soft)
        log_probs = generator.model.logits(hidden[0]).log_softmax(-1)
    start = len(encoded)
    total = sum(float(log_probs[start + i - 1, token]) for i, token in enumerate(reply.token_ids))
    assert reply.logprob == pytest.approx(total, abs=TOLERANCE)


def test_no_candidates_are_no_scores_and_an_empty_one_is_refused(generator, prompt):
    assert generator.score(prompt, []) == []
    with pytest.raises(ConfigError, match="candidate 1: expected at least one token"):
        generator.score(prompt, ["yes", " "])


def test_a_candidate_beyond_the_context_is_refused(generator, prompt):
    with pytest.raises(DataError, match="candidate 0 and its prompt: expected fewer tokens"):
        generator.score(prompt, ["dog " * 90])
