"""What the answering commands share: pictures in, one reply each, printed as text or JSON.

- :class:`PictureFiles`: pictures in batches, bad ones told and passed over
- :class:`Answers`, :func:`print_answers`: a reply to each
- :class:`Printer`: what is found, printed, drawn and exported
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click
import PIL.Image

from kosmos.cli.boxes import STDIN, BoxFiles
from kosmos.cli.constraint import ConstraintChoice
from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError, ImageError, KosmosError
from kosmos.files import Json
from kosmos.generate.config import Decoding
from kosmos.generate.export import reply_to_json
from kosmos.generate.reply import GroundedSpan, Reply
from kosmos.image.codec import decode

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator


class PictureFiles:
    """Files of pictures in batches; a bad one is told on stderr and passed over.

    Args:
        names: Files; ``-`` is stdin.
        max_pixels: Pictures with more are bad.
        batch_size: Most pictures of a batch.
    """

    def __init__(self, names: Sequence[str], *, max_pixels: int, batch_size: int) -> None:
        self._names = names
        self._max_pixels = max_pixels
        self._batch_size = batch_size
        self._num_bad = 0

    def __iter__(self) -> Iterator[list[tuple[str, PIL.Image.Image]]]:
        for first in range(0, len(self._names), self._batch_size):
            yield list(self._good(self._names[first : first + self._batch_size]))

    def finish(self) -> None:
        """Exit with code 1 if a picture was bad; for after the good ones are answered."""
        if self._num_bad:
            raise click.exceptions.Exit(1)

    def _good(self, names: Sequence[str]) -> Iterator[tuple[str, PIL.Image.Image]]:
        for name in names:
            try:
                picture = read_picture(name, max_pixels=self._max_pixels)
            except ImageError as error:
                self._num_bad += 1
                tell(error)
            else:
                yield name, picture


class Answer(NamedTuple):
    """A reply, and the picture it is about."""

    name: str
    picture: PIL.Image.Image
    reply: Reply


class Answers:
    """Replies about pictures one by one; a bad picture is told on stderr and passed over.

    Args:
        generator: Who answers.
        names: Files; ``-`` is stdin.
        prompt: Words behind each picture.
        decoding: How tokens are chosen.
        batch_size: Most pictures answered at once.
        constraint: What replies are held to.
    """

    def __init__(
        self,
        generator: "Generator",
        names: Sequence[str],
        prompt: str,
        *,
        decoding: Decoding,
        batch_size: int,
        constraint: ConstraintChoice,
    ) -> None:
        self.constraint = constraint
        self._generator = generator
        self._prompt = prompt
        self._decoding = decoding
        self._batch_size = batch_size
        self.files = PictureFiles(
            names, max_pixels=generator.image.max_pixels, batch_size=batch_size
        )

    def __iter__(self) -> Iterator[Answer]:
        for good in self.files:
            replies = self._generator.generate(
                # named, so that messages say which file, and so that draws differ between files
                [Document([Image(picture), Text(self._prompt)], id=name) for name, picture in good],
                decoding=self._decoding,
                batch_size=self._batch_size,
                constraint=self.constraint.make(self._generator),
            )
            for (name, picture), reply in zip(good, replies, strict=True):
                yield Answer(name, picture, reply)


def read_picture(name: str, *, max_pixels: int) -> PIL.Image.Image:
    """Decode a file, or stdin.

    Raises:
        ImageError: If it is not a usable picture, naming it.
    """
    if name == STDIN:
        return decode(sys.stdin.buffer.read(), max_pixels=max_pixels, where="stdin")
    return decode(name, max_pixels=max_pixels)


def tell(error: KosmosError) -> None:
    """Say an error on stderr in the form of the command line, and go on."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint is not None:
        click.echo(f"hint: {error.hint}", err=True)


class Printer:
    """Prints what is found in pictures, and writes the files that were chosen.

    Args:
        as_json: A JSON object a line instead of text.
        several: Whether to put the file's name before each line of text.
        files: Drawings and the like; None for none.
    """

    def __init__(self, *, as_json: bool, several: bool, files: BoxFiles | None = None) -> None:
        self._as_json = as_json
        self._several = several
        self._files = files

    def print(
        self,
        name: str,
        picture: PIL.Image.Image,
        *,
        row: Mapping[str, Json],
        text: str,
        spans: Sequence[GroundedSpan],
        title: str,
    ) -> None:
        """Print what was found in a picture.

        Args:
            name: Its file.
            picture: What boxes lie in.
            row: As JSON values.
            text: As people read it.
            spans: Phrases with boxes.
            title: What the picture is, for those who do not see a drawing of it.
        """
        drawn = None if self._files is None else self._files.add(name, picture, spans, title=title)
        if self._as_json:
            extra = {} if drawn is None else {"drawn": str(drawn)}
            click.echo(json.dumps({"image": name, **row, **extra}))
        else:
            head = f"{name}\t" if self._several else ""
            click.echo("\n".join(head + line for line in text.split("\n")))

    def finish(self) -> None:
        """Write what takes all pictures."""
        if self._files is not None:
            self._files.finish()


def print_answers(answers: Answers, printer: Printer, *, text: Callable[[Reply], str]) -> None:
    """Print each reply as it comes; exit with code 1 at the end if a picture was bad.

    Args:
        answers: Whose.
        printer: How, and what else is written.
        text: A reply as people read it.
    """
    for name, picture, reply in answers:
        for reason in reply.dropped:
            click.echo(f"{name}: left out of the reply: {reason}", err=True)
        printer.print(
            name,
            picture,
            row={**reply_to_json(reply), **answers.constraint.row(reply)},
            text=text(reply),
            spans=reply.grounded,
            title=reply.text,
        )
    printer.finish()
    answers.files.finish()


def span_lines(spans: Sequence[GroundedSpan]) -> list[str]:
    """One line for each box: the phrase, corners in pixels of the picture as it is, confidence."""
    return [
        f"{span.text}\t" + " ".join(f"{corner:.1f}" for corner in box) + f"\t{sure:.2f}"
        for span in spans
        for box, sure in zip(span.boxes_px, span.confidence, strict=True)
    ]


def read_all(names: Sequence[str], *, max_pixels: int) -> list[Image]:
    """Pictures of one prompt: all must be good.

    Raises:
        ConfigError: If stdin is named twice.
        ImageError: If one is not a usable picture, naming it.
    """
    if names.count(STDIN) > 1:
        raise ConfigError(f"--image: expected {STDIN} (stdin) at most once, found it twice")
    return [Image(read_picture(name, max_pixels=max_pixels)) for name in names]
