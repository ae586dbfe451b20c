"""Predictions to numbers: a value, how sure it is, and what chance would give.

Chance is measured, not assumed: the same predictions are scored against other examples' gold, in
20 seeded orders in which no example keeps its own. A model that always says what is frequent scores
as high there as on its own examples. An interval *excludes chance* if it lies wholly on the better
side of the mean of those orders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kosmos.evaluate.metrics.interval import Interval, bootstrap, derangement, wilson
from kosmos.evaluate.task import Example, Metric, Prediction, Scorer, Task, Values
from kosmos.runtime import generator

NUM_ORDERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One metric on some examples, in its own scale (a share is 0 to 1)."""

    value: float
    """Mean over the examples it applies to."""
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end."""
    num_examples: int
    """Examples it applies to."""
    chance: float | None = None
    """Mean over the orders; None where chance means nothing."""
    chance_low: float | None = None
    """Lowest of the orders."""
    chance_high: float | None = None
    """Highest of the orders."""
    excludes_chance: bool | None = None
    """Whether the interval lies on the better side of ``chance``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """All numbers of a task."""

    task: str
    """Its name."""
    version: int
    """Its version."""
    num_examples: int
    """Examples asked."""
    num_failed: int = 0
    """Examples that could not be answered, such as one whose picture is torn; they count as wrong
    answers."""
    shots: int = 0
    """Demonstrations before each."""
    dataset: str = ""
    """The folder of its documents."""
    dataset_digest: str = ""
    """What is in the folder, by its checksums."""
    seconds: float = 0.0
    """Time the replies took."""
    metrics: Mapping[str, Measured]
    """By metric."""
    groups: Mapping[str, Mapping[str, Measured]]
    """By group and metric; empty where the task has no groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """``results.json``: what was evaluated, and all numbers."""

    model: str
    """Its folder."""
    model_digest: str
    """SHA-256 of its weights."""
    seed: int
    """Of intervals, chance and demonstrations."""
    tasks: tuple[TaskResult, ...]
    """In the order they were asked for."""
    facts: Mapping[str, str]
    """What else is known: versions, parameters."""


def score_task(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], *, seed: int
) -> TaskResult:
    """Score predictions, as a whole and by group; how they came about is left to say.

    Args:
        task: What scores them.
        examples: At least one.
        predictions: One per example, in order.
        seed: Of intervals and chance.
    """
    scorer = task.scorer(examples)
    pairs = [*zip(examples, predictions, strict=True)]
    groups: dict[str, list[tuple[Example, Prediction]]] = {}
    for example, prediction in pairs:
        groups.setdefault(task.group(example), []).append((example, prediction))

    def measure(pairs: Sequence[tuple[Example, Prediction]], name: str) -> dict[str, Measured]:
        return _measure(task.metrics, scorer, pairs, seed=seed, name=f"{task.name}/{name}")

    return TaskResult(
        task=task.name,
        version=task.version,
        num_examples=len(examples),
        num_failed=sum(bool(prediction.failure) for prediction in predictions),
        metrics=measure(pairs, ""),
        groups={name: measure(own, name) for name, own in sorted(groups.items()) if name},
    )


class Line(NamedTuple):
    """A number as people read it."""

    task: str
    group: str
    """Empty for the whole set."""
    metric: Metric
    found: Measured
    """Scaled, so that it reads with the metric's unit."""

    @property
    def name(self) -> str:
        """Of what was measured: the task, or a group of it."""
        return f"{self.task}/{self.group}" if self.group else self.task


def to_lines(result: TaskResult, task: Task) -> list[Line]:
    """All numbers of a task, the whole set first."""
    return [
        Line(task.name, group, metric, _scaled(measured[metric.name], metric.scale))
        for group, measured in {"": result.metrics, **result.groups}.items()
        for metric in task.metrics
        if metric.name in measured
    ]


def _scaled(found: Measured, scale: float) -> Measured:
    names = ("value", "low", "high", "chance", "chance_low", "chance_high")
    values: dict[str, Any] = {name: getattr(found, name) for name in names}
    return replace(found, **{name: v and v * scale for name, v in values.items()})


def _measure(
    metrics: Sequence[Metric],
    scorer: Scorer,
    pairs: Sequence[tuple[Example, Prediction]],
    *,
    seed: int,
    name: str,
) -> dict[str, Measured]:
    own = [scorer(*pair) for pair in pairs]
    swapped: list[list[Values]] = []
    if len(pairs) >= 2 and any(metric.has_chance for metric in metrics):
        rng = generator(seed, "chance", name)
        for _ in range(NUM_ORDERS):
            others = zip(derangement(len(pairs), rng), pairs, strict=True)
            swapped.append([scorer(pairs[index][0], said) for index, (_, said) in others])
    measured = {}
    for metric in metrics:
        values = [row[metric.name] for row in own if metric.name in row]
        if values:
            interval = _interval(metric, values, seed=seed, name=f"{name}/{metric.name}")
            measured[metric.name] = _with_chance(metric, interval, len(values), swapped)
    return measured


def _interval(metric: Metric, values: list[float], *, seed: int, name: str) -> Interval:
    # partial credit, as VQA gives, is no share of right and wrong
    if metric.kind == "share" and all(value in (0.0, 1.0) for value in values):
        return wilson(round(sum(values)), len(values))
    return bootstrap(values, seed=seed, name=name)


def _with_chance(
    metric: Metric, interval: Interval, count: int, swapped: Sequence[Sequence[Values]]
) -> Measured:
    found = Measured(value=interval.value, low=interval.low, high=interval.high, num_examples=count)
    if not metric.has_chance or not swapped:
        return found
    means = [
        float(np.mean([row[metric.name] for row in rows if metric.name in row])) for rows in swapped
    ]
    chance = float(np.mean(means))
    better = interval.low > chance if metric.higher_is_better else interval.high < chance
    return replace(
        found, chance=chance, chance_low=min(means), chance_high=max(means), excludes_chance=better
    )
