"""Replies that are one of given strings."""

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.document.encode import encode
from kosmos.document.layout import INFERENCE, TRAINING
from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError, DataError
from kosmos.generate.choices import Choices
from kosmos.generate.config import RELEASED
from kosmos.generate.generator import Generator
from kosmos.image.config import ImageConfig
from kosmos.text.tokenizer import Tokenizer
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

TOKENIZER = small_tokenizer()
EOS = TOKENIZER.vocabulary.eos_id
ANSWERS = ("a dog", "a dog left of a star", "a red dog", "yes", "no", "it is", "it", "a blue star")
SEARCHES = (
    {},
    {"num_beams": 3},
    {"num_beams": 2, "early_stopping": True, "length_penalty": 0.0},
    {"temperature": 1.5},
    {"temperature": 0.8, "top_k": 3, "top_p": 0.9},
)
words = st.lists(st.sampled_from(["a", "dog", "red", "star", "it", "x9"]), min_size=1, max_size=4)
lists_of_answers = st.lists(words.map(" ".join), min_size=1, max_size=12, unique=True)


def next_ids(choices: Choices, reply: list[int]) -> list[int]:
    return choices.allowed([0], reply, 30).tolist()


@given(lists_of_answers, st.data())
def test_the_trie_allows_what_filtering_the_list_allows(answers, data):
    choices = Choices(TOKENIZER, answers)
    rows = [[*TOKENIZER.encode(answer), EOS] for answer in answers]
    begun = data.draw(st.sampled_from(rows))
    strange = data.draw(st.lists(st.integers(0, TOKENIZER.vocabulary.size - 1), max_size=4))
    for reply in (*(begun[:size] for size in range(len(begun))), strange):
        size = len(reply)
        expected = {row[size] for row in rows if row[:size] == reply and len(row) > size}
        assert next_ids(choices, reply) == sorted(expected)


@given(st.integers(0, 10**6), lists_of_answers, st.sampled_from(SEARCHES))
@settings(max_examples=30)
def test_every_reply_is_one_of_the_choices_and_says_which(seed, answers, search):
    generator = make_generator(TOKENIZER, make_model(TOKENIZER.vocabulary.size, seed=seed % 7))
    choices = Choices(TOKENIZER, answers)
    docs = [Document([Text(text)], id=f"{seed}-{text}") for text in ("a dog", "it is a star")]
    for reply in generator.generate(docs, constraint=choices, **search):
        assert list(reply.token_ids) == [*TOKENIZER.encode(answers[choices.index(reply)]), EOS]
        assert reply.finish == "stop"
        assert reply.logprob < 0.0


@pytest.mark.parametrize("seed", range(6))
def test_enough_beams_find_the_choice_that_scores_best(seed, pictures):
    generator = make_generator(TOKENIZER, make_model(TOKENIZER.vocabulary.size, seed=seed))
    choices = Choices(TOKENIZER, ANSWERS)
    doc = Document([Image(pictures[seed % 3]), Text("what is it")])
    reply = generator.generate(
        doc, constraint=choices, num_beams=len(ANSWERS), length_penalty=0.0, early_stopping="never"
    )
    scores = [score.logprob for score in generator.score(doc, ANSWERS, end=True)]
    assert reply.logprob == pytest.approx(max(scores), abs=1e-4)
    assert choices.index(reply) == scores.index(max(scores))


def test_greedy_takes_the_likeliest_of_what_may_come(generator):
    reply = generator.generate("a dog left of", constraint=Choices(TOKENIZER, ANSWERS))
    rows = [[*TOKENIZER.encode(answer), EOS] for answer in ANSWERS]
    said: list[int] = []
    while EOS not in said:
        logits = next_logits(generator, "a dog left of", said)
        may = {row[len(said)] for row in rows if row[: len(said)] == said}
        said.append(max(may, key=lambda token_id: float(logits[token_id])))
    assert list(reply.token_ids) == said


def next_logits(generator: Generator, prompt: str, said: list[int]) -> torch.Tensor:
    """Behind a prompt and a part of the reply, read as one."""
    ids = [*generator.encode(prompt).token_ids.tolist(), *said]
    with torch.inference_mode():
        return generator.model.logits(generator.model(torch.tensor([ids]))[0, -1])


def test_documents_have_choices_of_their_own(generator):
    docs = ["it is", "a dog", "a star"]
    yes_no, colors = Choices(TOKENIZER, ["yes", "no"]), Choices(TOKENIZER, ["red", "green", "blue"])
    for search in SEARCHES:
        both = generator.generate(docs, constraint=[yes_no, None, colors], **search)
        assert both[0].text in yes_no.strings
        assert both[2].text in colors.strings
        alone = [generator.generate("a dog", **search)]
        alone.append(generator.generate("it is", constraint=yes_no, **search))
        assert [both[1].token_ids, both[0].token_ids] == [reply.token_ids for reply in alone]
    with pytest.raises(ConfigError, match="one for each of 3, found 2"):
        generator.generate(docs, constraint=[yes_no, colors])


def test_an_answer_that_begins_another_ends_where_the_model_ends_it(generator):
    choices = Choices(TOKENIZER, ["a dog", "a dog left of a star"])
    short = TOKENIZER.encode("a dog")
    assert next_ids(choices, short) == sorted([EOS, TOKENIZER.encode("a dog left")[len(short)]])
    found = {
        choices.index(
            generator.generate(Document([Text("a dog is")], id=str(n)), constraint=choices,
                               temperature=3.0)
        )
        for n in range(30)
    }  # fmt: skip
    assert found == {0, 1}


def test_rules_yield_where_they_would_leave_no_answer(generator):
    prompt = "yes no a red dog a blue star"
    choices = Choices(TOKENIZER, ["yes", "no", "a red dog", "a blue star"])
    settings_ = ({"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2}, {"min_new_tokens": 20})
    for rules, search in itertools.product(settings_, ({}, {"num_beams": 2}, {"temperature": 1.0})):
        reply = generator.generate(prompt, constraint=choices, **rules, **search)
        assert reply.text in choices.strings


def test_a_longer_answer_is_taken_where_a_least_length_leaves_it():
    choices = Choices(TOKENIZER, ["a", "a red dog"])
    least = len(TOKENIZER.encode("a")) + 2
    for seed in range(5):
        generator = make_generator(TOKENIZER, make_model(TOKENIZER.vocabulary.size, seed=seed))
        reply = generator.generate("it", constraint=choices, min_new_tokens=least)
        assert choices.index(reply) == 1


def test_the_decoding_of_the_release_takes_choices(generator):
    reply = generator.generate(
        "a red dog", decoding=RELEASED, max_total_tokens=None, max_new_tokens=9,
        constraint=Choices(TOKENIZER, ["yes", "no"]),
    )  # fmt: skip
    assert reply.text in ("yes", "no")


@pytest.mark.parametrize("layout", [INFERENCE, TRAINING])
def test_a_choice_has_the_tokens_that_the_answer_has_behind_a_prompt(layout):
    marked = "<phrase>a red dog</phrase><object><patch_index_0000><patch_index_0010></object>."
    for answer in (*ANSWERS, " yes ", marked):
        choices = Choices(TOKENIZER, [answer], layout=layout)
        doc = Document([Text("what is it", loss=False), Text(answer)])
        row = encode(doc, TOKENIZER, layout=layout, image=ImageConfig(), complete=True)
        reply = [int(i) for i in row.token_ids[row.loss_mask]]
        for size, token_id in enumerate(reply):
            assert next_ids(choices, reply[:size]) == [token_id]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "choices: expected at least one answer, found none"),
        (["yes", ""], "choice 1: expected words, found no words: ''"),
        (["  "], "choice 0: expected words"),
        (["no", "yes", "yes "], "choice 2: .* found 'yes ', .* tokens of choice 1, 'yes'"),
        ("yes", "expected a list of strings, found the string 'yes'"),
    ],
)
def test_a_list_that_is_none_is_refused(answers, message):
    with pytest.raises(ConfigError, match=message):
        Choices(TOKENIZER, answers)


def test_too_little_room_for_the_longest_answer_is_an_error_that_names_the_document(generator):
    choices = Choices(TOKENIZER, ANSWERS)
    longest = max(len(TOKENIZER.encode(answer)) for answer in ANSWERS)
    docs = [Document([Text("it is")], id=name) for name in ("a", "b")]
    for search in ({}, {"num_beams": 2}, {"temperature": 1.0}):
        with pytest.raises(ConfigError, match=f"^document 'a': choices: .* {longest} tokens and"):
            generator.generate(docs, constraint=choices, max_new_tokens=longest, **search)
    assert generator.generate(docs, constraint=choices, max_new_tokens=longest + 1)


def test_a_prompt_that_leaves_the_longest_answer_no_room_fails_alone(generator):
    choices = Choices(TOKENIZER, ANSWERS)
    size = len(generator.encode("dog " * 8)) - len(generator.encode("dog " * 7))
    long = Document([Text("dog " * ((96 - 6) // size))], id="long")
    good, bad = generator.generate(["it", long], constraint=choices, errors="return")
    assert good.text in ANSWERS
    assert bad.name == "document 'long'"
    assert "expected room for the longest answer" in bad.error.message


def test_another_reply_is_no_choice(generator):
    with pytest.raises(DataError, match="expected one of 2 choices"):
        Choices(TOKENIZER, ["yes", "no"]).index(generator.generate("a dog", max_new_tokens=3))


def test_the_thousand_classes_of_imagenet_are_choices(shared_data):
    tokenizer = Tokenizer.load(shared_data / "kosmos2" / "sentencepiece.bpe.model")
    folder = shared_data / "classify"
    names = json.loads((folder / "imagenet_simple_labels.json").read_text())
    choices = Choices(tokenizer, names)
    assert len(choices) == 1000
    for name in names:
        reply = tokenizer.encode(name)
        for size, token_id in enumerate([*reply, EOS]):
            assert token_id in choices.allowed([0], reply[:size], 30)
    # one list gives a name to two classes, and a reply would not say which
    twice = json.loads((folder / "clip_imagenet_classes.json").read_text())
    with pytest.raises(ConfigError, match=r"choice 744: .* tokens of choice 657, 'missile'"):
        Choices(tokenizer, twice)
