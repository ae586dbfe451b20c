"""What is certain of a reply while it grows: words and boxes that no later token takes back.

Words are certain unless a stop string may begin in them, which would cut them off, or they end in
half a character. A box is certain when its object closes. With the stop string ``"stop"``::

    token    a  dog  <phrase>  it  </phrase>  <object>  44  863  </object>   sto     ry
    words    a  dog            it                                           (held)  story
    boxes                                                         of "it"
"""

from collections.abc import Callable, Sequence

from kosmos.generate.reply import GroundedSpan, Piece, Reply
from kosmos.generate.search import Draft
from kosmos.text.streaming import StreamDecoder


class ReplyStream:
    """Tells the pieces of one reply.

    Args:
        read: Makes a reply of a draft.
        stream: Turns ids into text as they come.
        stop: Strings before the first of which the reply will be cut.
    """

    def __init__(
        self, read: Callable[[Draft], Reply], stream: StreamDecoder, stop: Sequence[str]
    ) -> None:
        self._read = read
        self._stream = stream
        self._stop = stop
        self._markup = ""
        self._sizes = [0]  # characters of the markup with so many tokens
        self._num_certain = 0  # tokens
        self._num_chars = 0  # told
        self._num_spans = 0

    def grow(self, draft: Draft) -> Piece:
        """What the last token of a draft makes certain, often nothing.

        Args:
            draft: The reply so far; one token longer than the last time.
        """
        self._markup += self._stream.push(draft.token_ids[-1])
        self._sizes.append(-1 if self._stream.is_inside_character else len(self._markup))
        num_sure = len(self._markup) - self._num_held()
        num_certain = max(i for i, size in enumerate(self._sizes) if 0 <= size <= num_sure)
        if num_certain == self._num_certain:
            return Piece()
        self._num_certain = num_certain
        reply = self._read(
            Draft(
                token_ids=draft.token_ids[:num_certain],
                token_logprobs=draft.token_logprobs[:num_certain],
                finish="length",
            )
        )
        return self._news(reply, _closed(reply))

    def finish(self, draft: Draft) -> Piece:
        """The rest, with the reply."""
        reply = self._read(draft)
        news = self._news(reply, reply.grounded)
        return Piece(text=news.text, grounded=news.grounded, reply=reply)

    def _news(self, reply: Reply, spans: Sequence[GroundedSpan]) -> Piece:
        piece = Piece(text=reply.text[self._num_chars :], grounded=spans[self._num_spans :])
        self._num_chars = len(reply.text)
        self._num_spans = len(spans)
        return piece

    def _num_held(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        return max(
            (
                size
                for string in self._stop
                for size in range(1, len(string))
                if self._markup.endswith(string[:size])
            ),
            default=0,
        )


def _closed(reply: Reply) -> Sequence[GroundedSpan]:
    """Spans that stay as they are whatever follows.

    A box without a phrase stands behind the words before it, and how many spaces these end in
    shows when there are more words.
    """
    spans = reply.grounded
    for index, span in enumerate(spans):
        if not span.text and span.end == len(reply.text):
            return spans[:index]
    return spans
