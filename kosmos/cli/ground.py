"""``kosmos ground``: caption a picture and say where things are."""

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
from kosmos.text import prompts


@click.command()
@model_options
@images_option(required=True, text="A picture, - for stdin; repeat for one reply each.")
@click.option("--detail", is_flag=True, help="Ask for a long description.")
@click.option("--prompt", help="Words to continue instead; begin them with <grounding>.")
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
    detail: bool,
    prompt: str | None,
    draw: Path | None,
    decoding: Decoding,
    batch_size: int,
    as_json: bool,
) -> None:
    """Caption a picture and say where things are, in pixels of the picture as it is.

    Example: kosmos ground --model DIR --image dog.jpg --draw boxes.png
    """
    if prompt is not None and detail:
        raise click.UsageError("--detail and --prompt: expected one of them, found both")
    words = prompt or (prompts.GROUNDED_DETAIL if detail else prompts.GROUNDED_CAPTION)
    answers = Answers(model.load(), images, words, decoding=decoding, batch_size=batch_size)
    print_answers(
        answers,
        as_json=as_json,
        several=len(images) > 1,
        text=lambda reply: "\n".join([reply.text, *span_lines(reply)]),
        draw=draw,
    )
