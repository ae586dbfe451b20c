"""Which tokens may not be chosen next, whatever the model thinks of them.

Forbidden tokens get log-probability minus infinity; the others keep theirs, so that what a reply
adds up to is still the model's own log-probability (Hugging Face and fairseq do the same).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kosmos.generate.config import Decoding
from kosmos.text.streaming import StreamDecoder
from kosmos.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """The rules of one call of generate, and when a row may stop."""

    eos_id: int
    """Ends a reply."""
    banned_ids: tuple[int, ...]
    """Never chosen."""
    min_new_tokens: int
    """``eos_id`` is not chosen before this many tokens."""
    ngram_size: int
    """No n-gram twice; 0 for no rule."""
    free_first: bool
    """The release's rule: at the first token, no n-gram rule and no stopping."""

    @classmethod
    def of(cls, decoding: Decoding, vocabulary: Vocabulary) -> "Constraints":
        """The rules that an option set means for a vocabulary."""
        return cls(
            eos_id=vocabulary.eos_id,
            banned_ids=() if decoding.allow_pad else (vocabulary.pad_id,),
            min_new_tokens=decoding.min_new_tokens,
            ngram_size=decoding.no_repeat_ngram_size,
            free_first=decoding.first_token == "release",
        )

    def mask(
        self,
        log_probs: Float[Tensor, "rows vocab"],
        prompts: Sequence[Sequence[int]],
        replies: Sequence[Sequence[int]],
    ) -> Float[Tensor, "rows vocab"]:
        """Log-probabilities with what each row may not choose set to minus infinity, in place.

        Args:
            log_probs: Of the next token of each row.
            prompts: Token ids before the reply, image slots included as their ids stand.
            replies: Token ids chosen so far.
        """
        for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
            banned = self._banned(prompt, reply)
            if banned:
                log_probs[row, banned] = float("-inf")
        return log_probs

    def stops(self, token_id: int, num_new: int) -> bool:
        """Whether a token ends the reply of which it is the ``num_new``-th."""
        return token_id == self.eos_id and not (self.free_first and num_new == 1)

    def _banned(self, prompt: Sequence[int], reply: Sequence[int]) -> list[int]:
        banned = list(self.banned_ids)
        if len(reply) < self.min_new_tokens:
            banned.append(self.eos_id)
        if self.ngram_size and not (self.free_first and not reply):
            banned += repeating_ids([*prompt, *reply], self.ngram_size)
        return banned


def repeating_ids(history: Sequence[int], size: int) -> list[int]:
    """Ids that would complete an n-gram which the history already contains.

    ``repeating_ids([5, 6, 7, 5, 6], 3)`` is ``[7]``.

    Args:
        history: Token ids so far.
        size: Tokens of an n-gram.
    """
    if len(history) < size:
        return []
    tokens = np.asarray(history, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, size)
    begun = tokens[len(tokens) - (size - 1) :]
    again = (windows[:, :-1] == begun).all(axis=1)
    return sorted(set(windows[again, -1].tolist()))


class StopStrings:
    """Watches the text of one reply for strings that end it.

    Args:
        strings: What to watch for; matched against the text with its markup.
        stream: Turns ids into text as they come.
    """

    def __init__(self, strings: Sequence[str], stream: StreamDecoder) -> None:
        self._strings = strings
        self._stream = stream
        self._text = ""

    def __call__(self, token_id: int) -> bool:
        """Take the next id; true once the text holds one of the strings."""
        self._text += self._stream.push(token_id)
        return any(string in self._text for string in self._strings)
