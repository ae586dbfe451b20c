"""``kosmos chat``: talk with a model, pictures included."""

import difflib
import io
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kosmos.cli.options import ModelChoice, decoding_options, echo_json, json_option, model_options
from kosmos.cli.output import STDIN
from kosmos.document.types import ImageSource
from kosmos.errors import ConfigError, KosmosError
from kosmos.generate.config import Decoding
from kosmos.generate.export import reply_to_json
from kosmos.generate.sinks.words import box_lines, reply_lines
from kosmos.image.codec import decode
from kosmos.logs import printable
from kosmos.text.prompts import question

if TYPE_CHECKING:
    from kosmos.generate.chat import Chat


@click.command()
@model_options
@click.option(
    "--image",
    "images",
    metavar="FILE",
    multiple=True,
    help="A picture to talk about; may be repeated.",
)
@click.option("--system", help="Words before the talk.")
@click.option("--plain", is_flag=True, help="Say your words as they are, not as a question.")
@decoding_options
@json_option("reply, one a line")
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
    shown: list[ImageSource] = [decode(name, max_pixels=max_pixels) for name in images]
    talk = Conversation(template=(lambda words: words) if plain else question)
    chat = Chat(generator, talk.system(system) if system else talk, decoding=decoding)
    has_failed = False
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # or a byte that is no UTF-8 would end the talk
    while (line := _next_line()) not in (None, "/quit"):
        try:
            if (file := _picture_of(line or "")) is not None:
                shown.append(decode(file, max_pixels=max_pixels))
            elif words := (line or "").strip():
                _answer(chat, words, shown, as_json=as_json)
                shown = []
        except KosmosError as error:
            click.echo(f"error: {printable(error.message)}", err=True)
            if error.hint is not None:
                click.echo(f"hint: {printable(error.hint)}", err=True)
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
    if as_json or chat.decoding.num_beams > 1:
        row = reply_to_json(chat.say(line, images))
        if as_json:
            echo_json(row)
        else:
            click.echo("\n".join(reply_lines(row) + box_lines(row)))
        return
    for piece in chat.stream(line, images):
        click.echo("\n".join(reply_lines({"text": piece.text})), nl=False)
        boxes = [] if piece.reply is None else box_lines(reply_to_json(piece.reply))
    click.echo("".join(f"\n{box}" for box in boxes))


def _next_line() -> str | None:
    """A turn without the break behind it; None at the end of input."""
    if sys.stdin.isatty():
        click.echo("you> ", err=True, nl=False)
    line = sys.stdin.readline()
    return line.rstrip() if line else None
