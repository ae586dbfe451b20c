"""Files with boxes that the grounding commands write: ``--draw`` and ``--coco``."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import PIL.Image

from kosmos.files import atomic_file, json_text
from kosmos.generate.export import Pictured, replies_to_coco, reply_marks, reply_to_svg
from kosmos.generate.reply import GroundedSpan
from kosmos.image.codec import encode_png
from kosmos.image.draw import draw_boxes

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFileChoice:
    """What to write."""

    draw: Path | None
    coco: Path | None

    def refuse_list(self) -> None:
        """Fail if anything was chosen, for what answers a list into lines.

        Raises:
            UsageError: If so.
        """
        for name, value in (("--draw", self.draw), ("--coco", self.coco)):
            if value is not None:
                raise click.UsageError(f"{name}: expected neither --jsonl nor --requests with it")

    def check(self, num_pictures: int) -> None:
        """Fail unless drawings can be named.

        Raises:
            UsageError: If one picture is to be drawn in a format that is neither PNG nor SVG.
        """
        if self.draw is None or num_pictures > 1:
            return
        if self.draw.suffix.lower() not in (".png", ".svg"):
            raise click.UsageError(f"--draw: expected a .png or .svg, found {self.draw.name!r}")


class BoxFiles:
    """Writes what was chosen, picture by picture.

    Args:
        choice: What.
        several: Whether there are several pictures, each with a drawing of its own.
        show_confidence: Whether labels end in the confidence.
    """

    def __init__(
        self, choice: BoxFileChoice, *, several: bool, show_confidence: bool = False
    ) -> None:
        self._choice = choice
        self._several = several
        self._show_confidence = show_confidence
        self._pictured: list[Pictured] = []

    def add(
        self, name: str, picture: PIL.Image.Image, spans: Sequence[GroundedSpan], *, title: str
    ) -> Path | None:
        """Draw a picture's boxes, if that was chosen.

        Args:
            name: The picture's file.
            picture: What the boxes lie in.
            spans: What was found.
            title: What the picture is, for those who do not see it.

        Returns:
            The drawing.
        """
        file_name = "stdin" if name == STDIN else name
        self._pictured.append(Pictured(file_name, picture.width, picture.height, spans))
        if self._choice.draw is None:
            return None
        target = self._target(self._choice.draw, len(self._pictured) - 1, Path(file_name).stem)
        if target.suffix.lower() == ".svg":
            text = reply_to_svg(spans, picture, title=title, show_confidence=self._show_confidence)
            data = text.encode("utf-8")
        else:
            marks = list(reply_marks(spans, show_confidence=self._show_confidence))
            data = encode_png(draw_boxes(picture, marks))
        with atomic_file(target) as file:
            file.write(data)
        return target

    def finish(self) -> None:
        """Write the data set, if that was chosen."""
        if self._choice.coco is not None:
            with atomic_file(self._choice.coco) as file:
                file.write(json_text(replies_to_coco(self._pictured)).encode())

    def _target(self, draw: Path, index: int, stem: str) -> Path:
        if not self._several:
            return draw
        if draw.suffix.lower() in (".png", ".svg"):
            return draw.with_name(f"{draw.stem}-{index:04d}-{stem}{draw.suffix}")
        return draw / f"{index:04d}-{stem}.png"


def box_file_options(function: Callable[..., object]) -> Callable[..., object]:
    """``--draw --coco``, given to the command as ``box_files``."""

    @functools.wraps(function)
    def wrapper(*, draw: Path | None, coco: Path | None, **rest: object) -> object:
        return function(box_files=BoxFileChoice(draw=draw, coco=coco), **rest)

    path = click.Path(path_type=Path)
    draw_help = (
        "Write the picture with its boxes as .png or .svg. With several pictures, a folder, or a "
        "name that each drawing's begins with."
    )
    coco_help = "Write all boxes as a COCO data set, in pixels, with confidence as score."
    options = [
        click.option("--draw", type=path, help=draw_help),
        click.option("--coco", type=path, metavar="FILE", help=coco_help),
    ]
    for option in reversed(options):
        wrapper = option(wrapper)
    return wrapper
