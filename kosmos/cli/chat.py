"""``kosmos chat``: talk with a model, pictures included."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kosmos.cli.answers import read_all, span_lines, tell
from kosmos.cli.boxes import STDIN
from kosmos.cli.options import (
    ModelChoice,
    decoding_options,
    images_option,
    json_option,
    model_options,
)
from kosmos.document.types import ImageSource
from kosmos.errors import KosmosError
from kosmos.generate.config import Decoding
from kosmos.generate.export import reply_to_json
from kosmos.text.prompts import question

if TYPE_CHECKING:
    from kosmos.generate.chat import Chat


@click.command()
@model_options
@images_option(required=False, text="A picture to talk about; may be repeated.")
@click.option("--system", help="Words before the talk.")
@click.option("--plain", is_flag=True, help="Say your words as they are, not as a question.")
@decoding_options
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    system: str | None,
    plain: bool,
    decoding: Decoding,
    as_json: bool,
) -> None:
    """Talk with a model: a line of stdin is a turn, its answer goes to stdout.

    Words are printed as they come, but with beams or --json when the answer is complete.

    /image FILE shows a picture with the next turn; /quit or the end of input ends the talk.

    Example: kosmos chat --model DIR --image dog.jpg
    """
    from kosmos.generate.chat import Chat, Conversation

    if STDIN in images:
        raise click.UsageError("--image: expected files, found -, but stdin holds the turns")
    generator = model.load()
    max_pixels = generator.image.max_pixels
    shown = read_all(images, max_pixels=max_pixels)
    talk = Conversation(template=(lambda words: words) if plain else question)
    chat = Chat(generator, talk.system(system) if system else talk, decoding=decoding)
    while (line := _next_line()) not in (None, "/quit"):
        assert line is not None
        try:
            if line.startswith("/image "):
                shown += read_all([line.removeprefix("/image ").strip()], max_pixels=max_pixels)
            elif line:
                _answer(chat, line, [image.source for image in shown], as_json=as_json)
                shown = []
        except KosmosError as error:
            # a person corrects the line and goes on; a script learns at once
            if not sys.stdin.isatty():
                raise
            tell(error)


def _answer(chat: "Chat", line: str, images: Sequence[ImageSource], *, as_json: bool) -> None:
    """Take a turn and print its answer, words as they come where that can be."""
    if as_json:
        click.echo(json.dumps(reply_to_json(chat.say(line, images))))
    elif chat.decoding.num_beams > 1:
        reply = chat.say(line, images)
        click.echo("\n".join([reply.text, *span_lines(reply.grounded)]))
    else:
        lines: list[str] = []
        for piece in chat.stream(line, images):
            click.echo(piece.text, nl=False)
            if piece.reply is not None:
                lines = span_lines(piece.reply.grounded)
        click.echo("".join(f"\n{span}" for span in lines))


def _next_line() -> str | None:
    """A turn without the spaces around it; None at the end of input."""
    if sys.stdin.isatty():
        click.echo("you> ", err=True, nl=False)
    line = sys.stdin.readline()
    return line.strip() if line else None
