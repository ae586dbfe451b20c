"""CIDEr-D: how much a caption shares with what people said of the same picture.

For n = 1 to 4, a caption is a vector of its n-grams weighted by how rare they are among the
pictures of the set; the score is the mean cosine to the references, with clipped counts and a
penalty on length, times 10. A set's score is the mean over its pictures.

Source: CIDEr (arXiv:1411.5726); numbers as pycocoevalcap 1.2 computes them, including that its
length penalty counts bigrams, not words. The papers print them times 100.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

MAX_N = 4
SIGMA = 6.0

Ngram: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Vector:
    """Weighted n-grams of a sentence, by length, and what the cosine needs."""

    weights: tuple[dict[Ngram, float], ...]
    norms: tuple[float, ...]
    num_bigrams: int


class Cider:
    """A scorer whose weights come from the references of a set.

    Args:
        references: For each picture of the set, the words of its references, joined by spaces.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self._log_num_pictures = math.log(len(references))
        self._num_pictures_with: Counter[Ngram] = Counter()
        for sentences in references:
            self._num_pictures_with.update({gram for s in sentences for gram in _ngrams(s)})
        self._vector = lru_cache(maxsize=65_536)(self._make_vector)

    def score(self, candidate: str, references: Iterable[str]) -> float:
        """CIDEr-D of one caption, its words joined by spaces; 0 to 10."""
        hypothesis = self._vector(candidate)
        scores = [self._similarity(hypothesis, self._vector(text)) for text in references]
        return 10.0 * sum(scores) / len(scores)

    def _make_vector(self, sentence: str) -> _Vector:
        weights: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(MAX_N))
        for gram, count in _ngrams(sentence).items():
            log_frequency = math.log(max(1.0, self._num_pictures_with[gram]))
            weights[len(gram) - 1][gram] = count * (self._log_num_pictures - log_frequency)
        norms = tuple(math.sqrt(sum(w * w for w in part.values())) for part in weights)
        return _Vector(weights, norms, max(0, len(sentence.split()) - 1))

    @staticmethod
    def _similarity(hypothesis: _Vector, reference: _Vector) -> float:
        total = 0.0
        for n in range(MAX_N):
            theirs = reference.weights[n]
            dot = sum(
                min(weight, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0)
                for gram, weight in hypothesis.weights[n].items()
            )
            scale = hypothesis.norms[n] * reference.norms[n]
            total += dot / scale if scale else dot
        delta = hypothesis.num_bigrams - reference.num_bigrams
        return total / MAX_N * math.exp(-(delta**2) / (2 * SIGMA**2))


def _ngrams(sentence: str) -> Counter[Ngram]:
    words = sentence.split()
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, MAX_N + 1)
        for start in range(len(words) - n + 1)
    )
