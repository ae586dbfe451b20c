"""Scores equal brute force: prompt and continuation read as one row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.document.layout import TRAINING
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import CheckpointError, ConfigError, DataError
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


@pytest.fixture(scope="module")
def prompt(pictures) -> Document:
    shown = [Image(pictures[0]), Text("a dog. ", loss=False), Image(pictures[1])]
    return Document([*shown, Text("Question: What is it? Answer:", loss=False)])


CANDIDATES = ["yes", "no", "a red circle left of the dog", "no.", "star"]


@pytest.mark.parametrize("batch_tokens", [1, 60, 2048])
@pytest.mark.parametrize("end", [False, True])
def test_scores_of_strings_equal_brute_force(generator, prompt, batch_tokens, end):
    scores = generator.score(prompt, CANDIDATES, end=end, batch_tokens=batch_tokens)
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
    asked = [Text("yes "), Image(pictures[2]), Text("a star")]
    total, count = brute_force(generator, prompt, Document([*prompt.parts, *asked]))
    assert (score.num_tokens, score.logprob) == (count, pytest.approx(total, abs=TOLERANCE))
    assert count == len(generator.tokenizer.encode("yes")) + len(
        generator.tokenizer.encode("a star")
    )


@pytest.mark.parametrize("loss", [True, False])
@pytest.mark.parametrize("role", ["text", "user", "assistant"])
def test_boxes_of_a_candidate_lie_in_the_image_of_the_prompt(generator, pictures, loss, role):
    prompt = Document([Image(pictures[0]), Text("<grounding>An image of", role=role, loss=loss)])
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


def test_no_candidates_and_an_empty_one_are_refused(generator, prompt):
    with pytest.raises(ConfigError, match="document: expected at least one candidate, found none"):
        generator.score(prompt, [])
    with pytest.raises(ConfigError, match="expected a list of them, found the string 'Yes'"):
        generator.score(prompt, "Yes")
    with pytest.raises(ConfigError, match="document 1, candidate 0: expected at least one token"):
        generator.score_many([(prompt, ["yes"]), (prompt, [" "])])
    with pytest.raises(ConfigError, match="candidate 1: expected at least one token"):
        generator.score(prompt, ["yes", " "])


def test_a_candidate_beyond_the_context_is_refused(generator, prompt):
    with pytest.raises(DataError, match="candidate 0 and its prompt: expected fewer tokens"):
        generator.score(prompt, ["dog " * 90])


WORDS = st.lists(
    st.sampled_from(["a", "red", "dog", "left", "of", "circle", "star.", "yes"]),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(candidates=st.lists(WORDS, min_size=1, max_size=8), batch_tokens=st.integers(1, 200))
def test_any_candidates_behind_any_prompts_score_as_each_alone(
    generator, prompt, candidates, batch_tokens
):
    # repeated ones, and some that are the beginning of others, are drawn often
    strings = [" ".join(words) for words in candidates]
    texts = [prompt, Document([Text("a dog is", loss=False)])]
    asks = [(doc, strings[i:]) for i, doc in enumerate(texts) if strings[i:]]
    together = generator.score_many(asks, batch_tokens=batch_tokens)
    for (doc, given_strings), scores in zip(asks, together, strict=True):
        for string, score in zip(given_strings, scores, strict=True):
            total, count = brute_force(generator, doc, Document([*doc.parts, Text(string)]))
            assert score.num_tokens == count
            # sums of up to 120, of which float32 keeps seven digits
            assert score.logprob == pytest.approx(total, abs=TOLERANCE, rel=3e-7)


def test_candidates_that_show_pictures_share_what_they_show(generator, pictures):
    first, second, third = (Image(picture) for picture in pictures)
    prompt = Document([first, second, Text("Is this one next?")])
    answers = [Document([shown, Text("Yes")]) for shown in (first, third, second, third)]
    before = generator.image_cache.num_encoded
    scores = generator.score(prompt, answers)
    assert generator.image_cache.num_encoded - before <= 3
    for answer, score in zip(answers, scores, strict=True):
        asked = [answer.parts[0], Text("Yes", role="assistant")]
        total, _ = brute_force(generator, prompt, Document([*prompt.parts, *asked]))
        assert score.logprob == pytest.approx(total, abs=TOLERANCE)
    assert scores[1].logprob == pytest.approx(scores[3].logprob, abs=TOLERANCE)
    assert abs(scores[0].logprob - scores[1].logprob) > 10 * TOLERANCE


def test_what_a_neutral_prompt_says_is_taken_off(generator, prompt):
    neutral = Document([Text("Answer:")])
    scores = generator.score(prompt, CANDIDATES, neutral=neutral)
    alone = generator.score(neutral, CANDIDATES)
    plain = generator.score(prompt, CANDIDATES)
    for score, prior, bare in zip(scores, alone, plain, strict=True):
        assert score.neutral_logprob == pytest.approx(prior.logprob, abs=TOLERANCE)
        assert score.pmi_logprob == pytest.approx(bare.logprob - prior.logprob, abs=TOLERANCE)
    with pytest.raises(ConfigError, match="expected a neutral prompt"):
        _ = plain[0].pmi_logprob


def test_weights_that_are_not_finite_are_named_by_the_candidate(tokenizer):
    generator = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=0))
    generator.model.decoder.norm.weight.data[0] = float("nan")
    with pytest.raises(
        CheckpointError, match=r"document, candidate [01]: expected a finite log-probability"
    ):
        generator.score("a dog", ["left", "right"])
