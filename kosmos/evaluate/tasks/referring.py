"""Referring expression comprehension: where is this? One box, right from an overlap of one half.

Source: KOSMOS-2 (arXiv:2306.14824) section 4.1.2; the prompt is the phrase alone, the first box of
the reply counts, and a reply without one is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kosmos.evaluate.task import (
    Example,
    FoundPhrase,
    Metric,
    Prediction,
    Published,
    Scorer,
    Task,
    Values,
)
from kosmos.generate.config import FIRST_BOX, Decoding
from kosmos.text.prompts import phrase

MIN_IOU = 0.5

_DECODING = replace(FIRST_BOX, max_new_tokens=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Referring(Task):
    """Pictures with an expression and the box it means."""

    name: str = "referring"
    title: str = "Referring expressions"
    help: str = "The picture, then the expression as a phrase without a box; greedy."
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
    group_field: str = "form"

    def words(self, example: Example) -> str:
        """The expression as a phrase."""
        return phrase(self.truth(example))

    def truth(self, example: Example) -> str:
        """The expression; its box is drawn."""
        return example.text("expression")

    def perfect(self, example: Example) -> Prediction:
        """The right box."""
        return Prediction(phrases=(FoundPhrase(self.truth(example), (example.box("box"),)),))

    def scorer(self, examples: Sequence[Example]) -> Scorer:
        """Each example by itself: the first box of a reply, whatever phrase it belongs to."""
        del examples

        def score(example: Example, prediction: Prediction) -> Values:
            found = next((phrase.boxes[0] for phrase in prediction.phrases if phrase.boxes), None)
            iou = found.iou(example.box("box")) if found else 0.0
            return {"accuracy": float(iou >= MIN_IOU), "iou": iou, "unparsed": float(found is None)}

        return score
