"""``kosmos tokenizer``: train a SentencePiece model on text files or document shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from kosmos.cli.options import PATH, echo_json, json_option


@click.group()
def command() -> None:
    """Train a SentencePiece tokenizer."""


@command.command("train", short_help="Train on text files or document shards.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=PATH, help="The .model to write.")
@click.option("--num-pieces", default=64_000, help="Pieces, 3 control included.")
@click.option("--byte-fallback", is_flag=True, help="Spell unknown characters as bytes.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option()
def train(
    sources: tuple[Path, ...],
    out: Path,
    num_pieces: int,
    byte_fallback: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Train on SOURCES: text files (a line is a sentence) or folders of document shards.

    Example: kosmos tokenizer train corpus.txt --out my.model --num-pieces 8000
    """
    from kosmos.errors import ConfigError
    from kosmos.files import atomic_file
    from kosmos.text.tokenizer import Tokenizer
    from kosmos.text.training import train_tokenizer

    if out.exists() and not force:
        raise ConfigError(f"{out}: expected no file there", hint="--force replaces it")
    model = train_tokenizer(sentences(sources), num_pieces=num_pieces, byte_fallback=byte_fallback)
    with atomic_file(out) as file:
        file.write(model)
    tokenizer = Tokenizer.from_bytes(model, num_cells=0)
    if as_json:
        echo_json({"file": out, "num_pieces": num_pieces, "sha256": tokenizer.digest})
    else:
        click.echo(f"{out}  {num_pieces} pieces  {tokenizer.digest}")


def sentences(sources: Sequence[Path]) -> Iterator[str]:
    """Lines of text files and of the documents in shard folders, markup removed."""
    from kosmos.document.shards import ShardReader
    from kosmos.text.markup import parse_markup

    for source in sources:
        if source.is_dir():
            for doc in ShardReader(source):
                # markup is control tokens, not words to learn pieces from
                yield from parse_markup(doc.text, lenient=True).text.splitlines()
        else:
            with open(source, encoding="utf-8") as file:
                yield from (line.rstrip("\n") for line in file)
