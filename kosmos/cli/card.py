"""``kosmos card``: the page of a run, at any time."""

from pathlib import Path

import click

from kosmos.cli.options import PATH


@click.command()
@click.argument("folder", metavar="RUN", type=PATH)
@click.option(
    "--index", "index_folder", type=PATH, help="Folder of the indices of its data, if it was moved."
)
def command(folder: Path, index_folder: Path | None) -> None:
    """Write card.md into RUN, a run folder: what ran, on what, how it went, how to repeat it.

    Training writes it at its end; this writes it at any time, of a run under way too.

    Example: kosmos card runs/micro
    """
    from kosmos.card.facts import read_run_record
    from kosmos.card.write import write_card
    from kosmos.recipes.table import RECIPES

    run, _ = read_run_record(folder)
    recipe = RECIPES[run.name]() if run.name in RECIPES else None
    click.echo(write_card(folder, recipe=recipe, index_folder=index_folder))
