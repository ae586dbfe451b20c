"""``kosmos report``: results as a page with pictures and boxes."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--shown", default=6, show_default=True, help="Best and worst replies shown of each task."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(folder: Path, shown: int, as_json: bool) -> None:
    """Write report.html and report.md into FOLDER, which kosmos evaluate made.

    The page is one file and needs no network. Example: kosmos report out/results
    """
    from kosmos.evaluate.report import write_report

    page, words = write_report(folder, num_shown=shown)
    if as_json:
        click.echo(json.dumps({"html": str(page), "markdown": str(words)}))
    else:
        click.echo(f"{page}\n{words}")
