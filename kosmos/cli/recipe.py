"""``kosmos recipe``: what can be trained, and what exactly that means."""

import json

import click

from kosmos import config
from kosmos.recipes.table import RECIPES, make_run


@click.group()
def command() -> None:
    """List recipes, or show one as JSON."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def list_recipes(as_json: bool) -> None:
    """Names of the recipes and what each is."""
    titles = {name: (make.__doc__ or "").partition("\n")[0] for name, make in RECIPES.items()}
    if as_json:
        click.echo(json.dumps(titles, indent=2))
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        click.echo(f"{name:<{width}}  {title}")


@command.command("show", short_help="Print a recipe as JSON.")
@click.argument("recipe")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change a field.")
def show(recipe: str, assignments: tuple[str, ...]) -> None:
    """The whole run of RECIPE as JSON; `kosmos train` accepts the same JSON in a file.

    Example: kosmos recipe show kosmos2 --set train.steps=100 > run.json
    """
    run = make_run(recipe, assignments)
    click.echo(json.dumps(config.to_json(run), indent=2))
