"""``kosmos microcosm``: make the procedural world that is the default of every command."""

from pathlib import Path

import click

from kosmos.cli.options import FOLDER, echo_json, json_option, set_option


@click.group()
def command() -> None:
    """Make the microcosm, a procedural world to train and to test on."""


@command.command("make", short_help="Write its document shards.")
@click.argument("folder", type=FOLDER)
@click.option("--num-scenes", type=int, help="Training pictures.  [default: 20000]")
@click.option("--seed", type=int, help="Which scenes and words are drawn.  [default: 0]")
@set_option()
@click.option("--workers", type=int, help="Processes.  [default: one for each core]")
@click.option("--force", is_flag=True, help="Replace a microcosm of another config.")
@json_option()
def make(
    folder: Path,
    num_scenes: int | None,
    seed: int | None,
    assignments: tuple[str, ...],
    workers: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write document shards to train on, to hold out and to evaluate with into FOLDER.

    What is already there from the same config is kept, so that a killed run goes on.

    Example: kosmos microcosm make world --num-scenes 5000 --set image_size=96
    """
    from kosmos import config as configs
    from kosmos.microcosm import dataset
    from kosmos.microcosm.config import MicrocosmConfig

    config = MicrocosmConfig()
    for name, value in (("num_scenes", num_scenes), ("seed", seed)):
        if value is not None:
            config = configs.replace(config, {name: value})
    for assignment in assignments:
        config = configs.override(config, assignment)
    made = dataset.make(config, folder, force=force, workers=workers)
    if as_json:
        summary = {
            "folder": str(made.folder),
            "digest": made.digest,
            "documents": made.total("documents"),
            "pictures": made.total("pictures"),
            "dropped": made.total("dropped"),
            "kept": list(made.kept),
            "parts": configs.to_json(made.parts),
        }
        echo_json(summary, indent=2)
        return
    width = max(map(len, made.parts))
    for part, counts in made.parts.items():
        note = "  (already there)" if part in made.kept else ""
        click.echo(
            f"{part:<{width}}  {counts.documents:>6} documents  {counts.pictures:>6} pictures{note}"
        )
