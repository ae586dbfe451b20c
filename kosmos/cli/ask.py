"""``kosmos ask``: answer a question about a picture."""

import json

import click

from kosmos.cli.answers import read_all, reply_json, span_lines
from kosmos.cli.options import (
    ModelChoice,
    decoding_options,
    images_option,
    json_option,
    model_options,
)
from kosmos.document.types import Document, Text
from kosmos.generate.config import Decoding
from kosmos.text import prompts
from kosmos.text.vocabulary import GROUNDING


@click.command()
@model_options
@images_option(required=False, text="A picture, - for stdin; repeat to ask about several at once.")
@click.option("--question", required=True, help='What to ask: "what is on the table?".')
@click.option("--ground", is_flag=True, help="Ask for boxes in the answer as well.")
@decoding_options
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    question: str,
    ground: bool,
    decoding: Decoding,
    as_json: bool,
) -> None:
    """Answer a question about a picture, about several at once, or about none.

    Example: kosmos ask --model DIR --image dog.jpg --question "what color is the dog?"
    """
    generator = model.load()
    shown = read_all(images, max_pixels=generator.image.max_pixels)
    words = (GROUNDING if ground else "") + prompts.question(question)
    reply = generator.generate(Document([*shown, Text(words)]), decoding=decoding)
    if as_json:
        asked = {"images": list(images), "question": question}
        click.echo(json.dumps({**asked, **reply_json(reply)}))
    else:
        click.echo("\n".join([reply.text, *span_lines(reply)]))
