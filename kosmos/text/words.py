"""Ids of words that SentencePiece splits alike in every text, looked up instead of split again.

No piece of a usual model reaches over a space, so a text is split word by word, but for one
thing: scores are added up over the whole text in float32. Where two ways to split a word are
nearly as good, as ``_ ope`` and ``_op e`` are (19.56 and 19.60), rounding may choose one in this
text and the other in that. So a word is known here only if the best way beats the next by more
than rounding can amount to, and the ids are the same as ever.

Twice as fast as SentencePiece once the words of a corpus are known (captions, one core). Only
printable ASCII is looked at, which normalization leaves as it is (checked for each word).
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain

import numpy as np
import sentencepiece

from kosmos.text.vocabulary import NUM_MODEL_CONTROLS

_MOST_WORDS = 50_000
_MOST_CHARS = 1024  # of a text; the longer, the larger the sums and their rounding
_MOST_WORD_CHARS = 32
_UNKNOWN_PENALTY = 10.0  # what SentencePiece takes off the lowest score for an unknown character
_SPACE = "\u2581"


class Words:
    """The words met so far.

    Args:
        processor: A SentencePiece model; of another kind than unigram, or one that treats spaces
            unusually, no word is ever known.
    """

    def __init__(self, processor: sentencepiece.SentencePieceProcessor) -> None:
        self._processor = processor
        self._known: dict[str, list[int]] = {}
        self._met: set[str] = set()
        self._unsafe: set[str] = set()

    def encode(self, text: str) -> list[int] | None:
        """Our ids of a text; None if SentencePiece must be asked."""
        if len(text) > _MOST_CHARS or not (text.isascii() and text.isprintable()):
            return None
        words = text.split()
        try:
            return list(chain.from_iterable(map(self._known.__getitem__, words)))
        except KeyError:
            self._meet(words)
            return None

    def _meet(self, words: Sequence[str]) -> None:
        """Learn the words that come for the second time; most others will not come again."""
        for word in words:
            if word in self._known or len(self._met) >= _MOST_WORDS:
                continue
            if word not in self._met:
                self._met.add(word)
            elif word not in self._unsafe:
                ids = self._split(word) if self._margin else None
                if ids is None:
                    self._unsafe.add(word)
                else:
                    self._known[word] = ids

    def _split(self, word: str) -> list[int] | None:
        """Our ids of a word, if no text can split it otherwise."""
        processor = self._processor
        if len(word) > _MOST_WORD_CHARS or processor.normalize(word) != _SPACE + word:
            return None
        best, *others = processor.nbest_encode(word, nbest_size=2)
        scores = [processor.get_score(indices) for indices in (best, *others)]
        # no unknown characters, no bytes, and none of the pieces whose scores are made up
        if any(index < NUM_MODEL_CONTROLS or processor.is_byte(index) for index in best):
            return None
        if max(max(row) for row in scores) >= 0.0 or best != processor.encode(word):
            return None
        if others and sum(scores[0]) - sum(scores[1]) <= self._margin:
            return None
        return [index + 1 for index in best]

    @cached_property
    def _margin(self) -> float:
        """How far apart two splits must be, in log-probability; 0 if no word is safe."""
        processor = self._processor
        indices = list(range(NUM_MODEL_CONTROLS, processor.vocab_size()))
        if processor.normalize("  a  b ") != f"{_SPACE}a{_SPACE}b":
            return 0.0
        pieces = "\n".join(["", *processor.id_to_piece(indices)])
        if pieces.count(_SPACE) != pieces.count(f"\n{_SPACE}"):  # one reaches over a space
            return 0.0
        try:
            processor.nbest_encode("a", nbest_size=2)
        except RuntimeError:  # not a unigram model
            return 0.0
        lowest = min(processor.get_score(indices)) - _UNKNOWN_PENALTY
        # every piece of the two ways rounds a sum by half of its spacing at most
        spacing = float(np.spacing(np.float32(-lowest * _MOST_CHARS)))
        return (_MOST_WORD_CHARS + 1) * spacing
