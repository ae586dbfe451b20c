"""Referring expression comprehension: where is this? One box, right from an overlap of one half.

Source: KOSMOS-2 (arXiv:2306.14824) section 4.1.2; the prompt is the phrase alone, the first box of
the reply counts, and a reply without one is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kosmos.boxes import Box
from kosmos.document.types import Document, Text
from kosmos.errors import ConfigError
from kosmos.evaluate.task import Example, FoundPhrase, Metric, Prediction, Published, Scorer, Values
from kosmos.generate.config import FIRST_BOX, Decoding
from kosmos.text.prompts import phrase

MIN_IOU = 0.5

_DECODING = replace(FIRST_BOX, max_new_tokens=12)


@dataclass(frozen=True, slots=True)
class Referring:
    """Pictures with an expression and the box it means."""

    name: str = "referring"
    title: str = "Referring expressions"
    help: str = "The picture, then the expression as a phrase without a box; greedy."
    version: int = 1
    dataset: str = "referring"
    metrics: tuple[Metric, ...] = (
        Metric(
            name="accuracy",
            title="Accuracy",
            help="first box overlaps the right one by half or more (IoU ≥ 0.5)",
            kind="share",
        ),
        Metric(name="iou", title="Mean IoU", help="overlap of the first box; none counts as 0"),
        Metric(
            name="unparsed",
            title="No box",
            help="replies in which no box could be read",
            kind="share",
            higher_is_better=False,
            has_chance=False,
        ),
    )
    decoding: Decoding | None = _DECODING
    published: tuple[Published, ...] = (
        Published("KOSMOS-2 1.6B", "RefCOCO val", "accuracy", 52.32, "arXiv:2306.14824 Table 3"),
        Published("KOSMOS-2 1.6B", "RefCOCO+ val", "accuracy", 45.48, "arXiv:2306.14824 Table 3"),
        Published("KOSMOS-2 1.6B", "RefCOCOg val", "accuracy", 60.57, "arXiv:2306.14824 Table 3"),
    )

    def prompt(self, example: Example, shots: Sequence[Example]) -> Document:
        """The expression as a phrase.

        Raises:
            ConfigError: If there are demonstrations; the paper has none for this task.
        """
        if shots:
            raise ConfigError(f"{self.name}: expected no demonstrations, found {len(shots)}")
        asked = Text(phrase(example.text("expression")))
        return Document([*example.doc.images, asked], id=example.id)

    def candidates(self, example: Example) -> list[str]:
        """None: boxes are generated."""
        del example
        return []

    def group(self, example: Example) -> str:
        """The form of the expression, where it is known."""
        form = example.doc.meta.get("form")
        return form if isinstance(form, str) else ""

    def scorer(self, examples: Sequence[Example]) -> Scorer:
        """Each example by itself."""
        del examples

        def score(example: Example, prediction: Prediction) -> Values:
            found = first_box(prediction)
            iou = found.iou(example.box("box")) if found else 0.0
            return {
                "accuracy": float(iou >= MIN_IOU),
                "iou": iou,
                "unparsed": float(found is None),
            }

        return score

    def truth(self, example: Example) -> str:
        """The expression; its box is drawn."""
        return example.text("expression")

    def perfect(self, example: Example) -> Prediction:
        """The right box."""
        return Prediction(phrases=(FoundPhrase(example.text("expression"), (example.box("box"),)),))


def first_box(prediction: Prediction) -> Box | None:
    """The first box of a reply, whatever phrase it belongs to."""
    return next((found.boxes[0] for found in prediction.phrases if found.boxes), None)
