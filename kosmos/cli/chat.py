"""``kosmos chat``: talk with a model, pictures included."""

import difflib
import json
import re
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
from kosmos.errors import ConfigError, KosmosError
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
    has_failed = False
    while (line := _next_line()) not in (None, "/quit"):
        try:
            if (file := _picture_of(line or "")) is not None:
                shown += read_all([file], max_pixels=max_pixels)
            elif words := (line or "").strip():
                _answer(chat, words, [image.source for image in shown], as_json=as_json)
                shown = []
        except KosmosError as error:
            tell(error)
            has_failed = True
    # a person has corrected the line; a script learns at the end, when the others are answered
    if has_failed and not sys.stdin.isatty():
        raise click.exceptions.Exit(1)


def _picture_of(line: str) -> str | None:
    """The file of a line that shows a picture; None if the line is said.

    Raises:
        ConfigError: If it looks like a command and is none.
    """
    word, _, file = line.partition(" ")
    if not re.fullmatch("/[a-z]+", word):
        return None
    if word != "/image" or not file.strip():
        near = difflib.get_close_matches(word, ("/image", "/quit"), n=1)
        raise ConfigError(
            f"expected /image FILE or /quit, found {line!r}",
            hint=f"did you mean {near[0]}?" if near else "begin with a space to say it",
        )
    return file.strip()


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
    """A turn without the break behind it; None at the end of input."""
    if sys.stdin.isatty():
        click.echo("you> ", err=True, nl=False)
    line = sys.stdin.buffer.readline()
    return line.decode("utf-8", "replace").rstrip() if line else None
