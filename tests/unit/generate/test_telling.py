"""Replies told while they grow, and several replies to one document."""

import pytest

from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError, DataError
from kosmos.generate import search
from kosmos.generate.choices import Choices
from kosmos.generate.rollout import Rollout


@pytest.fixture
def docs(pictures) -> list[Document]:
    return [
        Document([Image(pictures[0]), Text("<grounding>An image of<phrase> a dog</phrase>")]),
        Document([Text("a dog left of")], id="b"),
        Document([]),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_new_tokens": 12, "no_repeat_ngram_size": 3},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 2.0, "top_k": 30, "stop": ("ee", "</phrase>", "st")},
    ],
)
def test_a_streamed_reply_is_the_reply(generator, docs, options):
    several = 0
    for doc in docs:
        *pieces, last = generator.stream(doc, max_new_tokens=30, **options)
        reply = generator.generate(doc, max_new_tokens=30, **options)
        assert last.reply == reply
        assert all(piece.reply is None for piece in pieces)
        assert "".join(piece.text for piece in [*pieces, last]) == reply.text
        assert tuple(span for piece in [*pieces, last] for span in piece.grounded) == reply.grounded
        several += len(pieces) > 2
    assert several


def test_a_streamed_reply_is_told_before_the_next_token_is_asked_for(generator, monkeypatch):
    steps = []
    step = Rollout.step
    monkeypatch.setattr(
        Rollout, "step", lambda *args, **options: steps.append(1) or step(*args, **options)
    )
    pieces = generator.stream("a dog left of", max_new_tokens=20, min_new_tokens=20)
    assert steps == []
    next(pieces)
    assert len(steps) < 5
    *_, last = pieces
    assert len(steps) == 19
    assert len(last.reply.token_ids) == 20


def test_a_stream_may_be_left(generator):
    next(generator.stream("a dog left of", max_new_tokens=20, min_new_tokens=20))
    reply = generator.generate("a dog left of", max_new_tokens=5)
    assert reply == generator.generate("a dog left of", max_new_tokens=5)


def test_beams_are_not_told_before_they_are_complete(generator):
    with pytest.raises(ConfigError, match=r"num_beams: expected 1 .* found 3"):
        generator.stream("a", num_beams=3)


def test_a_document_that_does_not_fit_is_an_error_of_the_stream_too(generator):
    with pytest.raises(DataError, match="fewer tokens than the context"):
        next(generator.stream("dog " * 100))


def test_a_streamed_reply_keeps_to_its_constraint(generator):
    choices = Choices(generator.tokenizer, ["a red dog", "a star"])
    *_, last = generator.stream("a dog is", constraint=choices)
    assert last.reply.text in ("a red dog", "a star")
    assert last.reply == generator.generate("a dog is", constraint=choices)


def test_what_stands_behind_the_last_string_in_its_token_is_not_told(generator):
    # "▁dog" is one token
    options = {"constraint": Choices(generator.tokenizer, ["a dog left"]), "stop_after": ("do",)}
    pieces = list(generator.stream("it is", **options))
    assert pieces[-1].reply == generator.generate("it is", **options)
    assert "".join(piece.text for piece in pieces) == pieces[-1].reply.text == "a do"


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_the_best_of_the_beams_is_the_reply(generator, docs, early_stopping):
    options = {"num_beams": 5, "early_stopping": early_stopping, "max_new_tokens": 8}
    for doc in docs:
        replies = generator.generate_n(doc, 5, **options)
        assert replies[0] == generator.generate(doc, **options)
        assert generator.generate_n(doc, 2, **options) == replies[:2]
        assert len({reply.token_ids for reply in replies}) == 5
        worth = [reply.logprob / len(reply.token_ids) for reply in replies]
        assert worth == sorted(worth, reverse=True)


def test_draws_are_independent_and_one_of_them_is_the_reply(generator, docs):
    options = {"temperature": 1.2, "seed": 5, "max_new_tokens": 8}
    for doc in docs:
        replies = generator.generate_n(doc, 6, **options)
        assert [reply.logprob for reply in replies] == sorted(
            (reply.logprob for reply in replies), reverse=True
        )
        one = generator.generate(doc, **options)
        assert one.token_ids in [reply.token_ids for reply in replies]
        assert len({reply.token_ids for reply in replies}) > 3
        # a larger number has the draws of a smaller one among its own
        fewer = {reply.token_ids for reply in generator.generate_n(doc, 3, **options)}
        assert fewer <= {reply.token_ids for reply in replies}
        assert replies == generator.generate_n(doc, 6, **options)


def test_several_replies_read_the_prompt_once(generator, docs, monkeypatch):
    read = []
    forward = type(generator.model).forward

    def counting(self, token_ids, **rest):
        read.append(token_ids.shape[1])
        return forward(self, token_ids, **rest)

    monkeypatch.setattr(type(generator.model), "forward", counting)
    generator.generate_n(docs[1], 4, temperature=1.0, max_new_tokens=3, min_new_tokens=3)
    # the prompt; then two tokens of four replies, side by side in one row
    assert read == [len(generator.encode(docs[1])), 4, 4]


def test_more_replies_than_there_are_is_refused(generator):
    with pytest.raises(ConfigError, match="num_replies: expected at most num_beams=1, found 2"):
        generator.generate_n("a", 2)
    with pytest.raises(ConfigError, match="num_replies: expected at most num_beams=3, found 4"):
        generator.generate_n("a", 4, num_beams=3)
    with pytest.raises(ConfigError, match="num_replies: expected at least 1, found 0"):
        generator.generate_n("a", 0)


def test_a_constraint_may_allow_fewer_replies_than_asked_for(generator):
    choices = Choices(generator.tokenizer, ["a red dog", "a star"])
    replies = generator.generate_n("a dog is", 4, num_beams=4, constraint=choices)
    assert sorted(reply.text for reply in replies) == ["a red dog", "a star"]


def test_draws_of_different_prompts_and_documents_are_independent(generator, monkeypatch):
    drawn = []

    def recording(log_probs, decoding, rngs):
        drawn.append([rng.random() for rng in rngs])
        return log_probs.argmax(dim=-1).tolist()

    monkeypatch.setattr(search, "choose", recording)
    docs = [Text("a dog"), Text("a star"), Document([Text("a dog")], id="again"), Text("a dog")]
    generator.generate(docs, temperature=1.0, max_new_tokens=1)
    generator.generate_n("a dog", 3, temperature=1.0, max_new_tokens=1)
    together, forked = drawn
    # the same question by the same name has the same reply, so it is asked with generate_n
    assert len(set(together)) == 3
    assert len(set(forked)) == 3
    assert len(set(together) & set(forked)) == 1
