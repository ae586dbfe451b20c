"""``kosmos data``: bring real data into document shards, and look at shards."""

from pathlib import Path

import click

from kosmos.cli.data_check import check
from kosmos.cli.data_ledger import ledger
from kosmos.cli.options import PATH, echo_json, json_option, set_option
from kosmos.cli.rows import leak_test, show


class _Import(click.Command):
    """A command whose help ends with the formats there are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        from kosmos.corpus.formats.table import FORMATS

        with formatter.section("Formats"):
            formatter.write_dl([(name, found.help) for name, found in FORMATS.items()])


@click.group()
def command() -> None:
    """Bring real data into document shards, and look at what a model gets of them."""


for _inner in (check, show, leak_test, ledger):
    command.add_command(_inner)


@command.command(
    "import",
    cls=_Import,
    short_help="Files of a known format into shards.",
    epilog="The formats are listed in docs/reference/formats.md.",
)
@click.argument("format_name", metavar="FORMAT")
@click.argument("source")
@click.argument("destination", type=PATH)
@click.option(
    "--images",
    default="",
    show_default=False,
    help="Folder of the pictures, if not beside SOURCE: files, or img2dataset's tars.",
)
@click.option(
    "--assign-images",
    is_flag=True,
    help="Trials only: take pictures from --images in order, whatever the records name.",
)
@click.option(
    "--heldout-fraction",
    type=click.FloatRange(0, 1),
    help="Share of the sources held out; of a test set all, if not said otherwise.",
)
@click.option("--limit", type=click.IntRange(1), help="Stop after this many documents.")
@click.option("--max-bad", default=0.1, help="Share of bad records tolerated, 0 to 1.")
@click.option("--seed", default=0, help="Seed of the held-out share and other choices.")
@set_option("Change a setting of FORMAT, such as grit_mode=phrase.")
@click.option("--force", is_flag=True, help="Replace the shards of an earlier import.")
@json_option()
def import_(
    format_name: str,
    source: str,
    destination: Path,
    images: str,
    assign_images: bool,
    heldout_fraction: float | None,
    limit: int | None,
    max_bad: float,
    seed: int,
    assignments: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Read SOURCE, a file or folder of FORMAT, into DESTINATION/train and DESTINATION/heldout.

    SOURCE and --images may lie elsewhere: s3://..., https://...

    What is not as it should be (a caption cut by tabs or line breaks, a picture that does not
    decode, a reversed box) is counted under a reason and listed in DESTINATION/dropped.jsonl. A
    file that ends early stops the import, unless --set damaged_files=count.

    Example: kosmos data import grit rows.jsonl corpora/grit --images photos --heldout-fraction 0.1
    """
    from kosmos.corpus.formats.table import make_config
    from kosmos.corpus.importing import import_corpus
    from kosmos.errors import ConfigError
    from kosmos.files import read_json

    if (destination / "train").exists() and not force:
        raise ConfigError(f"{destination}: expected no import there", hint="--force replaces it")
    given = {"images": images, "assign_images": assign_images, "seed": seed}
    told = {name: value for name, value in given.items() if value}
    config = make_config(format_name, assignments, told)
    report = import_corpus(
        format_name,
        source,
        destination,
        config=config,
        heldout_fraction=heldout_fraction,
        max_documents=limit,
        max_bad=max_bad,
    )
    if as_json:
        echo_json(read_json(destination / "report.json"))
        return
    click.echo(f"{destination}  train {report.num_train}  heldout {report.num_heldout}")
    for fate in ("bad", "left out", "changed"):
        for reason, count in report.tally.counts(fate).items():
            click.echo(f"  {fate:8}  {count:6}  {reason}")
