"""A folder of results as a page for people: ``report.html`` and ``report.md`` in it.

The page is one file, pictures inside, and needs no network. What is shown of each task is chosen
by rule, not by hand: the best and the worst replies by the headline metric, then by the others,
among those whose picture was kept.
"""

from pathlib import Path

from kosmos import config as configs
from kosmos.errors import ConfigError, DataError
from kosmos.evaluate.report_html import render_html
from kosmos.evaluate.report_markdown import render_markdown
from kosmos.evaluate.report_sections import Section, Shown
from kosmos.evaluate.results import Results, TaskResult
from kosmos.evaluate.runner import kept_picture, read_predictions
from kosmos.evaluate.suite import TASKS
from kosmos.evaluate.task import Task
from kosmos.files import read_json, write_text


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
        picture = path.read_bytes() if path is not None else None
        shown.append(
            Shown(
                example=example,
                prediction=prediction,
                values=dict(scorer(example, prediction)),
                picture=picture,
            )
        )
    if any(item.picture for item in shown):
        shown = [item for item in shown if item.picture]
    ranked = sorted(shown, key=lambda item: _rank(task, item))
    best = ranked[:num_shown]
    return Section(
        task=task,
        result=result,
        best=best,
        worst=ranked[len(best) :][-num_shown:][::-1],
    )


def _rank(task: Task, item: Shown) -> tuple[float, ...]:
    """Sorts the best first, by the metrics in their order."""
    signs = (-1.0 if metric.higher_is_better else 1.0 for metric in task.metrics)
    values = (item.values.get(metric.name, 0.0) for metric in task.metrics)
    return tuple(sign * value for sign, value in zip(signs, values, strict=True))
