"""A chat is a growing document."""

import pytest

from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from kosmos.generate.chat import Chat, Conversation
from kosmos.generate.config import Decoding


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


def test_each_answer_is_the_reply_to_all_that_was_said(generator, pictures):
    chat = Chat(generator, decoding=Decoding(max_new_tokens=5, min_new_tokens=5))
    first = chat.say("What is it?", pictures[:1])
    second = chat.say("red?", max_new_tokens=6, min_new_tokens=6)
    before = Conversation().user("What is it?", pictures[:1])
    assert first == generator.generate(before.document, max_new_tokens=5, min_new_tokens=5)
    after = before.assistant(first.markup).user("red?")
    assert second == generator.generate(after.document, max_new_tokens=6, min_new_tokens=6)
    assert chat.conversation.parts[:-1] == after.parts


def test_a_turn_that_does_not_fit_leaves_the_conversation_as_it_was(generator):
    chat = Chat(generator)
    with pytest.raises(DataError, match="fewer tokens than the context"):
        chat.say("dog " * 100)
    assert chat.conversation == Conversation()
