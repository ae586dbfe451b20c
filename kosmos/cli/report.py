"""``kosmos report``: results as a page with pictures and boxes; of several runs, side by side."""

from collections.abc import Sequence
from pathlib import Path

import click

from kosmos.cli.options import PATH, echo_json, json_option
from kosmos.evaluate.report import read_results, write_report
from kosmos.evaluate.results import to_lines
from kosmos.evaluate.suite import TASKS


@click.command()
@click.argument("folders", nargs=-1, required=True, type=PATH)
@click.option("--shown", default=6, help="Best and worst replies shown of each task.")
@json_option("folder")
def command(folders: tuple[Path, ...], shown: int, as_json: bool) -> None:
    """Write report.html and report.md into each FOLDER, which kosmos evaluate made.

    The page is one file and needs no network. Of several folders, their numbers are printed side by
    side. Example: kosmos report out/results
    """
    for folder in folders:
        page, words = write_report(folder, num_shown=shown)
        if as_json:
            echo_json({"html": str(page), "markdown": str(words)})
        else:
            click.echo(f"{page}\n{words}")
    if len(folders) > 1 and not as_json:
        _print_side_by_side(folders)


def _print_side_by_side(folders: Sequence[Path]) -> None:
    """A line for each number, a column for each folder; what a folder has not asked is a dash."""
    rows: dict[str, dict[Path, str]] = {}
    for folder in folders:
        for result in (found for found in read_results(folder).tasks if found.task in TASKS):
            for line in to_lines(result, TASKS[result.task]):
                found, unit = line.found, line.metric.unit
                told = f"{found.value:.1f}{unit} [{found.low:.1f}, {found.high:.1f}]"
                row = rows.setdefault(f"{line.name:32} {line.metric.title:16}", {})
                row[folder] = f"{told} n={found.num_examples}"
    click.echo()
    for place, folder in enumerate(folders, start=1):
        click.echo(f"({place}) {folder}")
    click.echo(f"{'':49}" + "".join(f"{f'({place + 1})':<30}" for place in range(len(folders))))
    for name, row in rows.items():
        click.echo((name + "".join(f"{row.get(folder, '–'):<30}" for folder in folders)).rstrip())
