"""``kosmos recipe``: what can be trained, and what exactly that means."""

import click

from kosmos.cli.options import echo_json, json_option, set_option
from kosmos.recipes.table import RECIPES, make_run


@click.group()
def command() -> None:
    """List recipes, or show one as JSON."""


@command.command("list")
@json_option()
def list_recipes(as_json: bool) -> None:
    """Names of the recipes and what each is."""
    titles = {name: (make.__doc__ or "").partition("\n")[0] for name, make in RECIPES.items()}
    if as_json:
        echo_json(titles, indent=2)
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        click.echo(f"{name:<{width}}  {title}")


@command.command("show", short_help="Print a recipe as JSON.")
@click.argument("recipe")
@set_option()
def show(recipe: str, assignments: tuple[str, ...]) -> None:
    """The whole run of RECIPE as JSON; `kosmos train` accepts the same JSON in a file.

    Example: kosmos recipe show kosmos2 --set train.steps=100 > run.json
    """
    run = make_run(recipe, assignments)
    echo_json(run, indent=2)
