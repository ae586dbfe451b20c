"""Chat: a conversation as a document whose parts have roles.

Nothing of a chat is special to the model: each turn is words (and pictures) in one growing
document, laid out by the same encoder as everything else. A user's words are put into a template,
by default the papers' ``Question: ... Answer:``, since that is what the models have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

from kosmos.document.types import Document, Image, ImageSource, Part, Text
from kosmos.generate.config import GREEDY, Decoding, DecodingOptions
from kosmos.generate.generator import Generator
from kosmos.generate.reply import Piece, Reply
from kosmos.text.prompts import question


@dataclass(frozen=True, slots=True)
class Conversation:
    """What has been said; every method returns a longer conversation and changes nothing.

    Args:
        parts: The turns in order, as parts of a document.
        template: What a user's words become in the document.
    """

    parts: tuple[Part, ...] = ()
    template: Callable[[str], str] = question

    def system(self, text: str) -> "Conversation":
        """Add words that stand before the talk."""
        return self._with(Text(text, role="system", loss=False))

    def user(self, text: str, images: Sequence[ImageSource] = ()) -> "Conversation":
        """Add a user's turn; its images stand before its words."""
        shown = [Image(source, role="user") for source in images]
        return self._with(*shown, Text(self.template(text), role="user", loss=False))

    def assistant(self, text: str) -> "Conversation":
        """Add an answer, which may carry markup."""
        return self._with(Text(text, role="assistant"))

    @property
    def document(self) -> Document:
        """The conversation as a prompt, or as an example to learn from."""
        return Document(self.parts)

    def _with(self, *parts: Part) -> "Conversation":
        return replace(self, parts=(*self.parts, *parts))


class Chat:
    """A conversation with a model.

    Args:
        generator: Who answers.
        conversation: What has been said before.
        decoding: How answers are chosen.
    """

    def __init__(
        self,
        generator: Generator,
        conversation: Conversation | None = None,
        *,
        decoding: Decoding = GREEDY,
    ) -> None:
        self.generator = generator
        self.conversation = Conversation() if conversation is None else conversation
        self.decoding = decoding

    def say(
        self,
        text: str,
        images: Sequence[ImageSource] = (),
        **options: Unpack[DecodingOptions],
    ) -> Reply:
        """Take the user's turn and answer it; both enter the conversation.

        Args:
            text: The user's words.
            images: Pictures shown with them; boxes of the answer lie in the last one shown.
            options: Fields of :class:`~kosmos.generate.config.Decoding` for this turn.

        Raises:
            DataError: If the conversation outgrows the model's context; it stays as it was.
        """
        asked = self.conversation.user(text, images)
        reply = self.generator.generate(asked.document, decoding=self.decoding, **options)
        self._answer(asked, reply)
        return reply

    def stream(
        self,
        text: str,
        images: Sequence[ImageSource] = (),
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Piece]:
        """Do as :meth:`say` does and tell the answer while it grows; not with beams.

        Yields:
            Pieces of the answer, the last with the whole. The turn enters the conversation before
            the last piece comes; one that is not told to the end leaves no trace.

        Raises:
            ConfigError: If there are beams.
            DataError: As for :meth:`say`.
        """
        asked = self.conversation.user(text, images)
        for piece in self.generator.stream(asked.document, decoding=self.decoding, **options):
            if piece.reply is not None:
                self._answer(asked, piece.reply)
            yield piece

    def _answer(self, asked: Conversation, reply: Reply) -> None:
        self.conversation = asked.assistant(reply.markup) if reply.markup else asked
