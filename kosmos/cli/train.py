"""``kosmos train``: a recipe, or a recorded run again, to a model folder."""

from pathlib import Path

import click


@click.command()
@click.argument("recipe")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change a field.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the run folder.")
def command(recipe: str, out: Path, assignments: tuple[str, ...], resume: bool) -> None:
    """Train RECIPE (a name, or the path of a run.json) and leave a model in OUT/model.

    Ctrl-C leaves a checkpoint; --resume goes on, after a kill too, as if nothing had happened.

    Example: kosmos train microcosm --out runs/micro --set train.steps=200

    On several processes: torchrun --nproc-per-node 8 -m kosmos train RECIPE --out DIR --resume
    """
    from kosmos.cli.training import is_first_process, told
    from kosmos.recipes.table import RECIPES, make_run
    from kosmos.train.trainer import train

    run = make_run(recipe, assignments)
    base = RECIPES[run.name]() if run.name in RECIPES else None
    with told(run, out=out, recipe=base):
        folder = train(run, out=out, resume=resume)
    if is_first_process():
        click.echo(folder)
