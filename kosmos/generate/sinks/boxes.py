"""Boxes for others: drawn on their pictures, and all of a list as a COCO data set."""

from pathlib import Path

from kosmos.files import atomic_file, json_text, write_text
from kosmos.generate.export import Pictured, replies_to_coco, reply_marks, reply_to_svg
from kosmos.generate.request_file import Entry, Problem
from kosmos.generate.sinks.sink import Row, spans
from kosmos.image.codec import decode, encode_png, image_size
from kosmos.image.config import ImageConfig
from kosmos.image.draw import draw_boxes
from kosmos.logs import printable

DRAWN = (".png", ".svg")
"""Endings of names of drawings, which say the format."""


class Drawings:
    """Draws the boxes of each answer as it comes.

    Args:
        path: The drawing; of several pictures a folder, or a name that each drawing's begins with.
        several: Whether each has a drawing of its own.
        show_confidence: Whether labels end in the confidence.
    """

    def __init__(self, path: Path, *, several: bool, show_confidence: bool = False) -> None:
        self._path = path
        self._several = several
        self._show_confidence = show_confidence

    def target(self, place: int, entry: Entry) -> Path | None:
        """The drawing of an answer; None if nothing was shown."""
        if not entry.images:
            return None
        if not self._several:
            return self._path
        name = f"{place:04d}-{printable(Path(entry.names[-1]).stem[:100])}"
        if self._path.suffix.lower() in DRAWN:
            return self._path.with_name(f"{self._path.stem}-{name}{self._path.suffix}")
        return self._path / f"{name}.png"

    def put(self, place: int, entry: Entry, found: Row | Problem) -> None:
        """Draw those of an answer."""
        target = self.target(place, entry)
        if target is None or isinstance(found, Problem):
            return
        picture = decode(entry.images[-1], max_pixels=ImageConfig().max_pixels)
        boxes, sure = spans(found), self._show_confidence
        if target.suffix.lower() == ".svg":
            title = found.get("text") or entry.words
            data = reply_to_svg(boxes, picture, title=title, show_confidence=sure).encode()
        else:
            data = encode_png(draw_boxes(picture, [*reply_marks(boxes, show_confidence=sure)]))
        with atomic_file(target) as file:
            file.write(data)

    def finish(self) -> None:
        """Nothing: all is drawn."""


class Coco:
    """Keeps what was found, and writes it at the end in the order of the list.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pictured: dict[int, Pictured] = {}

    def put(self, place: int, entry: Entry, found: Row | Problem) -> None:
        """Take the boxes of an answer."""
        if entry.images and not isinstance(found, Problem):
            width, height = image_size(entry.images[-1])
            self._pictured[place] = Pictured(entry.names[-1], width, height, spans(found))

    def finish(self) -> None:
        """Write the file."""
        in_order = [self._pictured[place] for place in sorted(self._pictured)]
        write_text(self._path, json_text(replies_to_coco(in_order)))
