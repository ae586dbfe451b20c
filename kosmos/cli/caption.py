"""``kosmos caption``: say what is in a picture."""

import click

from kosmos.cli.answers import Answers, print_answers
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
@images_option(required=True, text="A picture, - for stdin; repeat for one caption each.")
@click.option("--prompt", default=prompts.CAPTION, show_default=True, help="Words to continue.")
@decoding_options
@batch_option
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    prompt: str,
    decoding: Decoding,
    batch_size: int,
    as_json: bool,
) -> None:
    """Say what is in a picture.

    A bad picture is named on stderr; the others are captioned all the same, and the exit code is 1.

    Example: kosmos caption --model DIR --image dog.jpg --num-beams 5
    """
    answers = Answers(model.load(), images, prompt, decoding=decoding, batch_size=batch_size)
    several = len(images) > 1
    print_answers(answers, as_json=as_json, several=several, text=lambda reply: reply.text)
