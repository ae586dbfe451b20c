"""A folder of results as a page for people: ``report.html`` and ``report.md`` in it.

The page is one file, pictures inside, and needs no network. What is shown of each task is chosen
by rule, not by hand: the best and the worst replies by the headline metric, then by the others,
among those whose picture was kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kosmos import config as configs
from kosmos.boxes import Box
from kosmos.errors import ConfigError, DataError
from kosmos.evaluate.report_html import render_html
from kosmos.evaluate.report_markdown import render_markdown
from kosmos.evaluate.results import Line, Results, TaskResult, to_lines
from kosmos.evaluate.runner import kept_picture, read_predictions
from kosmos.evaluate.suite import TASKS
from kosmos.evaluate.task import Example, Prediction, Task
from kosmos.files import read_json, write_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A reply on the page."""

    example: Example
    prediction: Prediction
    values: dict[str, float]
    """Metric values, in their own scale."""
    picture: bytes | None
    """PNG or JPEG; None for examples without a picture, or whose picture was not kept."""

    @property
    def asked(self) -> str:
        """The question in the example's words; empty where all are asked the same."""
        match self.example.doc.meta:
            case {"question": asked}:
                return str(asked)
            case {"object": thing}:
                return f"The color of {thing} is?"
            case {"first": first, "second": second}:
                return f"Is {first} larger than {second}?"
        return ""

    @property
    def said_boxes(self) -> list[Box]:
        """Of all phrases of the reply."""
        return [box for found in self.prediction.phrases for box in found.boxes]

    @property
    def true_boxes(self) -> list[Box]:
        """Of the gold, if the task has one."""
        return [self.example.box("box")] if "box" in self.example.doc.meta else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A task on the page."""

    task: Task
    result: TaskResult
    best: Sequence[Shown]
    """Highest by the headline metric."""
    worst: Sequence[Shown]
    """Lowest; none of them among the best."""

    @property
    def lines(self) -> list[Line]:
        """Its numbers."""
        return to_lines(self.result, self.task)


def write_report(folder: Path, *, num_shown: int = 6) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.md`` into a folder of results.

    Args:
        folder: What ``kosmos evaluate --out`` wrote.
        num_shown: Replies shown of each task, best and worst each.

    Returns:
        Where they are.

    Raises:
        DataError: If the folder does not hold results.
    """
    results = read_results(folder)
    sections = [
        _section(folder, TASKS[result.task], result, num_shown)
        for result in results.tasks
        if result.task in TASKS
    ]
    page, words = folder / "report.html", folder / "report.md"
    write_text(page, render_html(results, sections))
    write_text(words, render_markdown(results, sections))
    return page, words


def read_results(folder: Path) -> Results:
    """``results.json`` of a folder.

    Raises:
        DataError: If there is none, or it is another version's.
    """
    path = folder / "results.json"
    try:
        return configs.from_json(Results, read_json(path), "results")
    except ConfigError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint) from error


def _section(folder: Path, task: Task, result: TaskResult, num_shown: int) -> Section:
    pairs = list(read_predictions(folder / "predictions" / f"{task.name}.jsonl"))
    examples = [example for example, _ in pairs]
    scorer = task.scorer(examples)
    shown = []
    for example, prediction in pairs:
        path = kept_picture(folder, task, example.id)
        picture = None if path is None else path.read_bytes()
        values = dict(scorer(example, prediction))
        shown.append(Shown(example=example, prediction=prediction, values=values, picture=picture))
    shown = [item for item in shown if item.picture] or shown
    ranked = sorted(shown, key=lambda item: _rank(task, item))
    best, rest = ranked[:num_shown], ranked[num_shown:]
    return Section(task=task, result=result, best=best, worst=rest[-num_shown:][::-1])


def _rank(task: Task, item: Shown) -> tuple[float, ...]:
    """Sorts the best first, by the metrics in their order."""
    signs = (-1.0 if metric.higher_is_better else 1.0 for metric in task.metrics)
    values = (item.values.get(metric.name, 0.0) for metric in task.metrics)
    return tuple(sign * value for sign, value in zip(signs, values, strict=True))
