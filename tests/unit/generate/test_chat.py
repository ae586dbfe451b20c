"""A chat is a growing document."""

import pytest

from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from kosmos.generate.chat import Chat, Conversation
from kosmos.generate.config import Decoding
from tests.unit.generate.random_models import make_generator, make_model


def test_a_conversation_is_a_document_with_roles(pictures):
    talk = Conversation().system("Be short.").user("What is it?", pictures[:1]).assistant("a dog")
    assert talk.document == Document(
        [
            Text("Be short.", role="system", loss=False),
            Image(pictures[0], role="user"),
            Text("Question: What is it? Answer:", role="user", loss=False),
            Text("a dog", role="assistant"),
        ]
    )
    assert Conversation(template=str.upper).user("it").document.text == "IT"


def test_each_answer_is_the_reply_to_all_that_was_said(tokenizer, pictures):
    # a model whose replies here have words; an empty reply adds no part
    generator = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=5))
    chat = Chat(generator, decoding=Decoding(max_new_tokens=5, min_new_tokens=5))
    first = chat.say("What is it?", pictures[:1])
    second = chat.say("a dog", max_new_tokens=6, min_new_tokens=6)
    before = Conversation().user("What is it?", pictures[:1])
    assert first == generator.generate(before.document, max_new_tokens=5, min_new_tokens=5)
    after = before.assistant(first.markup).user("a dog")
    assert second == generator.generate(after.document, max_new_tokens=6, min_new_tokens=6)
    assert first.markup
    assert second.markup
    assert chat.conversation == after.assistant(second.markup)


def test_an_answer_told_while_it_grows_is_the_same_and_enters_the_talk(tokenizer, pictures):
    generator = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=5))
    decoding = Decoding(max_new_tokens=9, min_new_tokens=9)
    said, told = Chat(generator, decoding=decoding), Chat(generator, decoding=decoding)
    for words, shown in (("What is it?", pictures[:1]), ("a dog", [])):
        *pieces, last = told.stream(words, shown)
        assert last.reply == said.say(words, shown)
        assert "".join(piece.text for piece in [*pieces, last]) == last.reply.text
        assert told.conversation == said.conversation
    next(told.stream("red?"))
    assert told.conversation == said.conversation


def test_an_empty_answer_adds_no_part(tokenizer):
    # nothing is as likely as </s>
    model = make_model(tokenizer.vocabulary.size, seed=0, end_bias=50.0)
    chat = Chat(make_generator(tokenizer, model))
    assert chat.say("What is it?").token_ids == (2,)
    assert chat.conversation == Conversation().user("What is it?")


def test_a_turn_that_does_not_fit_leaves_the_conversation_as_it_was(generator):
    chat = Chat(generator)
    with pytest.raises(DataError, match="fewer tokens than the context"):
        chat.say("dog " * 100)
    assert chat.conversation == Conversation()
