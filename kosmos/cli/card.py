"""``kosmos card``: the page of a run, at any time."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--index",
    "index_folder",
    type=click.Path(path_type=Path),
    help="Folder of the indices of its data, if they have been moved.",
)
def command(folder: Path, index_folder: Path | None) -> None:
    """Write card.md into RUN, a run folder: what ran, on what, how it went, how to repeat it.

    Training writes it at its end; this makes it of a run under way or of one that was stopped.

    Example: kosmos card runs/micro
    """
    from kosmos.recipes.table import RECIPES
    from kosmos.train.card import read_name, write_card

    make_recipe = RECIPES.get(read_name(folder))
    recipe = None if make_recipe is None else make_recipe()
    click.echo(write_card(folder, recipe=recipe, index_folder=index_folder))
