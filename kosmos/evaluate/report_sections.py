"""What is on a report, whatever it is written in."""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos.evaluate.results import TaskResult
from kosmos.evaluate.task import Example, Prediction, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A reply on the page."""

    example: Example
    prediction: Prediction
    values: dict[str, float]
    """Metric values, in their own scale."""
    picture: bytes | None
    """PNG or JPEG; None for examples without a picture, or whose picture was not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A task on the page."""

    task: Task
    result: TaskResult
    best: Sequence[Shown]
    """Highest by the headline metric."""
    worst: Sequence[Shown]
    """Lowest; none of them among the best."""
