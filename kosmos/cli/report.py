"""``kosmos report``: results as a page with pictures and boxes; of several runs, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kosmos.evaluate.results import Results


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--shown", default=6, show_default=True, help="Best and worst replies shown of each task."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each folder.")
def command(folders: tuple[Path, ...], shown: int, as_json: bool) -> None:
    """Write report.html and report.md into each FOLDER, which kosmos evaluate made.

    The page is one file and needs no network. Of several folders, their numbers are printed side by
    side. Example: kosmos report out/results
    """
    from kosmos.evaluate.report import read_results, write_report

    for folder in folders:
        page, words = write_report(folder, num_shown=shown)
        if as_json:
            click.echo(json.dumps({"html": str(page), "markdown": str(words)}))
        else:
            click.echo(f"{page}\n{words}")
    if len(folders) > 1 and not as_json:
        _print_side_by_side(folders, [read_results(folder) for folder in folders])


def _print_side_by_side(folders: Sequence[Path], runs: "Sequence[Results]") -> None:
    """A line for each number, a column for each folder; what a folder has not asked is a dash."""
    from kosmos.evaluate.results import to_lines
    from kosmos.evaluate.suite import TASKS

    rows: dict[str, dict[int, str]] = {}
    for place, results in enumerate(runs):
        for result in (result for result in results.tasks if result.task in TASKS):
            for line in to_lines(result, TASKS[result.task]):
                name = "/".join(filter(None, (result.task, line.group)))
                value = f"{line.value:.1f}{line.unit} [{line.low:.1f}, {line.high:.1f}]"
                told = f"{value} n={line.num_examples}"
                rows.setdefault(f"{name:32} {line.metric:16}", {})[place] = told
    click.echo()
    for place, folder in enumerate(folders, start=1):
        click.echo(f"({place}) {folder}")
    click.echo(f"{'':49}" + "".join(f"{f'({place + 1})':<30}" for place in range(len(runs))))
    for name, values in rows.items():
        cells = "".join(f"{values.get(place, '–'):<30}" for place in range(len(runs)))
        click.echo(f"{name}{cells}".rstrip())
