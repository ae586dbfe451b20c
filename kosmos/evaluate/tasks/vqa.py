"""Visual question answering: "Question: ... Answer:", in the words of the model.

Source: KOSMOS-1 (arXiv:2302.14045) section 4.2: the prompt, greedy until ``</s>``, VQAv2's
official accuracy; KOSMOS-2 (arXiv:2306.14824) section 4.3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos.evaluate.metrics.vqa import vqa_accuracy
from kosmos.evaluate.task import Example, Metric, Prediction, Published, Scorer, Task, Values
from kosmos.generate.config import Decoding
from kosmos.text.prompts import question

_DECODING = Decoding(max_new_tokens=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualQuestions(Task):
    """Pictures with a question and what people answered."""

    name: str = "vqa"
    title: str = "Visual question answering"
    help: str = "The picture, then “Question: … Answer:”; greedy, free text."
    dataset: str = "vqa"
    metrics: tuple[Metric, ...] = (
        Metric(
            name="accuracy",
            title="Accuracy",
            help="VQAv2's: full where three of ten people gave the answer; exact where one did",
            kind="share",
        ),
    )
    decoding: Decoding | None = _DECODING
    published: tuple[Published, ...] = (
        Published("KOSMOS-1 1.6B", "VQAv2 test-dev", "accuracy", 51.0, "arXiv:2302.14045 Table 4"),
        Published("KOSMOS-2 1.6B", "VQAv2 test-dev", "accuracy", 45.6, "arXiv:2306.14824 Table 5"),
    )
    group_field: str = "kind"
    has_shots: bool = True

    def words(self, example: Example) -> str:
        """The question, in the papers' form."""
        return question(example.text("question"))

    def truth(self, example: Example) -> str:
        """The first answer."""
        return example.texts("answers")[0]

    def perfect(self, example: Example) -> Prediction:
        """The most frequent answer."""
        answers = example.texts("answers")
        return Prediction(text=max(answers, key=answers.count))

    def scorer(self, examples: Sequence[Example]) -> Scorer:
        """Each example by itself."""
        del examples

        def score(example: Example, prediction: Prediction) -> Values:
            return {"accuracy": vqa_accuracy(prediction.text, example.texts("answers"))}

        return score
