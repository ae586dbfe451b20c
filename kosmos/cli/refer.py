"""``kosmos refer``: say where a described thing is."""

from pathlib import Path

import click

from kosmos.cli.answers import Answers, print_answers, span_lines
from kosmos.cli.options import (
    ModelChoice,
    batch_option,
    decoding_options,
    images_option,
    json_option,
    model_options,
)
from kosmos.generate.config import Decoding
from kosmos.generate.reply import Reply
from kosmos.text import prompts


@click.command()
@model_options
@images_option(required=True, text="A picture, - for stdin; repeat for one reply each.")
@click.option("--expression", required=True, help='What to find: "the dog on the left".')
@click.option(
    "--draw",
    type=click.Path(path_type=Path),
    help="Write the picture with its boxes as PNG; a folder if there are several pictures.",
)
@decoding_options
@batch_option
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    expression: str,
    draw: Path | None,
    decoding: Decoding,
    batch_size: int,
    as_json: bool,
) -> None:
    """Say where a described thing is, in pixels of the picture as it is; best box first.

    Example: kosmos refer --model DIR --image dog.jpg --expression "the dog on the left"
    """
    words = prompts.phrase(expression)
    answers = Answers(model.load(), images, words, decoding=decoding, batch_size=batch_size)
    print_answers(
        answers,
        as_json=as_json,
        several=len(images) > 1,
        text=_boxes,
        draw=draw,
    )


def _boxes(reply: Reply) -> str:
    lines = span_lines(reply)
    if not lines:
        click.echo("not found: the reply has no box", err=True)
    return "\n".join(lines)
