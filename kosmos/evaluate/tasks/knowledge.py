"""What a model knows of how things look, asked without a picture; the likeliest candidate counts.

- :class:`ColorKnowledge`: "The color of X is?", eleven colors
- :class:`SizeKnowledge`: "Is A larger than B?", Yes or No

Where the microcosm says from where a fact can be known, the groups are measured apart: *seen* only
ever in pictures, *told* only in texts, *both*. Above chance on *seen* is transfer from pictures to
language, which is what KOSMOS-1 measures with these tasks.

Source: KOSMOS-1 (arXiv:2302.14045) section 4.7, Tables 15 and 16.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos.errors import DataError
from kosmos.evaluate.task import (
    CandidateScore,
    Example,
    Metric,
    Prediction,
    Published,
    Scorer,
    Task,
    Values,
)
from kosmos.text.prompts import color_of, size_comparison

_ACCURACY = Metric(
    name="accuracy", title="Accuracy", help="the likeliest candidate is the right one", kind="share"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice(Task):
    """What the two tasks share: candidates scored behind words, one of them right."""

    gold: str
    """Field that has the right answer."""
    metrics: tuple[Metric, ...] = (_ACCURACY,)
    group_field: str = "group"

    def candidates(self, example: Example) -> list[str]:
        """The choices.

        Raises:
            DataError: If the right answer is not among them.
        """
        choices = example.texts("choices")
        if self.truth(example) not in choices:
            raise DataError(
                f"example {example.id!r}: expected {self.truth(example)!r} among {choices}"
            )
        return choices

    def truth(self, example: Example) -> str:
        """The right candidate."""
        return example.text(self.gold)

    def perfect(self, example: Example) -> Prediction:
        """All likelihood on the right candidate."""
        right = self.truth(example)
        scores = (
            CandidateScore(c, 0.0 if c == right else -9.0, 1) for c in self.candidates(example)
        )
        return Prediction(text=right, scores=tuple(scores))

    def scorer(self, examples: Sequence[Example]) -> Scorer:
        """Each example by itself."""
        del examples

        def score(example: Example, prediction: Prediction) -> Values:
            best = max(prediction.scores, key=lambda item: item.logprob, default=None)
            is_right = best is not None and best.candidate == self.truth(example)
            return {"accuracy": float(is_right)}

        return score


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorKnowledge(_Choice):
    """Which color has this? Candidates are compared by the log-probability of all their tokens."""

    name: str = "color-knowledge"
    title: str = "Colors of things, without a picture"
    help: str = "“The color of X is?”, the likeliest of eleven colors."
    dataset: str = "color-knowledge"
    gold: str = "color"
    published: tuple[Published, ...] = (
        Published("KOSMOS-1 1.6B", "MemoryColor", "accuracy", 76.1, "arXiv:2302.14045 Table 16"),
        Published("KOSMOS-1 1.6B", "ColorTerms", "accuracy", 73.1, "arXiv:2302.14045 Table 16"),
    )

    def words(self, example: Example) -> str:
        """KOSMOS-1's prompt."""
        return color_of(example.text("object"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeKnowledge(_Choice):
    """Which of two is larger?"""

    name: str = "size-knowledge"
    title: str = "Sizes of things, without a picture"
    help: str = "“Is A larger than B?”, the likelier of Yes and No."
    dataset: str = "size-knowledge"
    gold: str = "answer"
    published: tuple[Published, ...] = (
        Published("KOSMOS-1 1.6B", "RelativeSize", "accuracy", 94.2, "arXiv:2302.14045 Table 16"),
    )

    def words(self, example: Example) -> str:
        """KOSMOS-1's prompt."""
        return size_comparison(example.text("first"), example.text("second"))
