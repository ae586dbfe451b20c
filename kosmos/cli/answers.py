"""What the answering commands share: pictures in, one reply each, printed as text or JSON."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import PIL.Image

from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError, ImageError, KosmosError
from kosmos.files import Json, atomic_file
from kosmos.generate.config import Decoding
from kosmos.generate.reply import GroundedSpan, Reply
from kosmos.image.codec import decode, encode_png
from kosmos.image.draw import draw_boxes
from kosmos.image.labels import Mark

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator

STDIN = "-"


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
    """

    def __init__(
        self,
        generator: "Generator",
        names: Sequence[str],
        prompt: str,
        *,
        decoding: Decoding,
        batch_size: int,
    ) -> None:
        self._generator = generator
        self._names = names
        self._prompt = prompt
        self._decoding = decoding
        self._batch_size = batch_size
        self.num_bad = 0

    def __iter__(self) -> Iterator[Answer]:
        for first in range(0, len(self._names), self._batch_size):
            good = list(self._pictures(self._names[first : first + self._batch_size]))
            replies = self._generator.generate(
                # named, so that messages say which file, and so that draws differ between files
                [Document([Image(picture), Text(self._prompt)], id=name) for name, picture in good],
                decoding=self._decoding,
                batch_size=self._batch_size,
            )
            for (name, picture), reply in zip(good, replies, strict=True):
                yield Answer(name, picture, reply)

    def finish(self) -> None:
        """Exit with code 1 if a picture was bad; for after the good ones are answered."""
        if self.num_bad:
            raise click.exceptions.Exit(1)

    def _pictures(self, names: Sequence[str]) -> Iterator[tuple[str, PIL.Image.Image]]:
        for name in names:
            try:
                picture = read_picture(name, max_pixels=self._generator.image.max_pixels)
            except ImageError as error:
                self.num_bad += 1
                tell(error)
            else:
                yield name, picture


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


def print_answers(
    answers: Answers,
    *,
    as_json: bool,
    several: bool,
    text: Callable[[Reply], str],
    draw: Path | None = None,
) -> None:
    """Print each reply as it comes; exit with code 1 at the end if a picture was bad.

    Args:
        answers: Whose.
        as_json: A JSON object a line instead of text.
        several: Whether to put the file's name before each line of text.
        text: A reply as people read it.
        draw: Where to write the picture with its boxes; a folder if there are several.
    """
    for index, (name, picture, reply) in enumerate(answers):
        target = None if draw is None else _draw_target(draw, index, name, several=several)
        if target is not None:
            _draw(picture, reply, target)
        _report_dropped(name, reply)
        if as_json:
            drawn: dict[str, Json] = {} if target is None else {"drawn": str(target)}
            click.echo(json.dumps({"image": name, **reply_json(reply), **drawn}))
        else:
            head = f"{name}\t" if several else ""
            click.echo("\n".join(head + line for line in text(reply).split("\n")))
    answers.finish()


def reply_json(reply: Reply) -> dict[str, Json]:
    """A reply as JSON values."""
    return {
        "text": reply.text,
        "grounded": [_span_json(span) for span in reply.grounded],
        "markup": reply.markup,
        "token_ids": list(reply.token_ids),
        "logprob": reply.logprob,
        "token_logprobs": list(reply.token_logprobs),
        "finish": reply.finish,
        "dropped": list(reply.dropped),
    }


def span_lines(reply: Reply) -> list[str]:
    """One line for each box: the phrase, then corners in pixels of the original picture."""
    return [
        f"{span.text}\t" + " ".join(f"{corner:.1f}" for corner in box)
        for span in reply.grounded
        for box in span.boxes_px
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


def _span_json(span: GroundedSpan) -> dict[str, Json]:
    return {
        "text": span.text,
        "start": span.start,
        "end": span.end,
        "boxes": [[box.x0, box.y0, box.x1, box.y1] for box in span.boxes],
        "boxes_px": [list(box) for box in span.boxes_px],
        "image_index": span.image_index,
    }


def _report_dropped(name: str, reply: Reply) -> None:
    for reason in reply.dropped:
        click.echo(f"{name}: left out of the reply: {reason}", err=True)


def _draw_target(draw: Path, index: int, name: str, *, several: bool) -> Path:
    if not several:
        return draw
    stem = "stdin" if name == STDIN else Path(name).stem
    return draw / f"{index:04d}-{stem}.png"


def _draw(picture: PIL.Image.Image, reply: Reply, target: Path) -> None:
    marks = [Mark(box, span.text) for span in reply.grounded for box in span.boxes]
    with atomic_file(target) as file:
        file.write(encode_png(draw_boxes(picture, marks)))  # type: ignore[arg-type]
