"""Ids to text as they come, never half a character nor half a control token."""

import codecs
import copy
from collections.abc import Sequence

from kosmos.errors import DataError
from kosmos.text.vocabulary import Vocabulary


class StreamDecoder:
    """Turns ids into text one by one; the parts add up to the text of them all.

    Held back until more is known: spaces (they go if nothing follows), and bytes of a character
    that is not complete.

    Args:
        surface: What each id of a piece adds to a text, bytes where it is a byte of a character.
        vocabulary: Ids of the control tokens.
        markup: Whether the grounding tokens are written out.
    """

    def __init__(
        self, surface: Sequence[str | bytes], vocabulary: Vocabulary, *, markup: bool
    ) -> None:
        self._surface = surface
        self._vocabulary = vocabulary
        self._markup = markup
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._has_bytes = False
        self._spaces = ""
        self._at_start = True  # nothing said yet: spaces go
        self._at_line_start = False  # the space that begins a word goes
        self._in_image = False

    def push(self, token_id: int) -> str:
        """The text that an id completes, often none.

        Raises:
            DataError: If the id is not in the vocabulary.
        """
        if not 0 <= token_id < self._vocabulary.size:
            raise DataError(
                f"token id: expected 0 to {self._vocabulary.size - 1}, found {token_id}"
            )
        if self._in_image:
            self._in_image = token_id != self._vocabulary.image_end_id
            return ""
        if token_id >= self._vocabulary.mask_id:
            return self._say(self._flush_bytes()) + self._say(self._control(token_id))
        surface = self._surface[token_id]
        if isinstance(surface, bytes):
            self._has_bytes = True
            return self._say(self._bytes.decode(surface))
        return self._say(self._flush_bytes()) + self._say(surface)

    def finish(self) -> str:
        """What was held back and is text; the decoder is as new afterwards."""
        text = self._say(self._flush_bytes())
        self._spaces = ""
        self._at_start, self._at_line_start, self._in_image = True, False, False
        return text

    def fork(self) -> "StreamDecoder":
        """Another decoder that has seen the same ids."""
        other = copy.copy(self)
        other._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        other._bytes.setstate(self._bytes.getstate())
        return other

    @property
    def is_inside_character(self) -> bool:
        """Whether bytes are held back that are not yet a character."""
        return bool(self._bytes.getstate()[0])

    def _control(self, token_id: int) -> str:
        if token_id == self._vocabulary.line_end_id:
            return "\n"
        if token_id == self._vocabulary.image_id:
            self._in_image = True
        if token_id < self._vocabulary.line_end_id or not self._markup:
            return ""
        return self._vocabulary.control_token(token_id) or ""

    def _flush_bytes(self) -> str:
        if not self._has_bytes:
            return ""
        self._has_bytes = False
        text = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return text

    def _say(self, text: str) -> str:
        """Let words through; hold back spaces behind them, drop those that begin a line."""
        if self._at_line_start:
            text = text.lstrip(" ")
        if not text:
            return ""
        self._at_line_start = text == "\n"
        text = self._spaces + text
        if self._at_start:
            text = text.lstrip()
        said = text.rstrip()
        self._spaces = text[len(said) :]
        self._at_start = self._at_start and not said
        return said
