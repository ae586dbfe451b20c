"""Numbers of a record, and the boxes they are: nothing is taken for a number that is none.

- :func:`whole_number`, :func:`numbers`: a field's value, if it is that
- :class:`Frame`: the picture on which the boxes of a record are drawn

A record states the size of the picture that its boxes were drawn on, or none, and then they are of
the picture as it is seen. A photo may be stored lying on its side, with a mark that says how to
turn it (EXIF): a size as stored says that the boxes are of the photo before it was turned, and they
are turned with it. Copies of other sizes are of the same shape. A size that is neither means that
the record is of another picture, and its boxes are of no use.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

from kosmos.boxes import Box
from kosmos.corpus.formats.pictures import Picture
from kosmos.corpus.formats.tally import Tally
from kosmos.files import Json
from kosmos.image.codec import orientation

Convention: TypeAlias = Literal["xyxy-pixels", "xywh-pixels", "xyxy-fractions", "xywh-fractions"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

OTHER_SIZE = "size that is not the picture's"
TURNED = "boxes turned upright with their picture"
OVERHANG = 0.02
"""Reaching so far out of the picture is a slip, and cut; further is another convention."""
_SIDEWAYS = (5, 6, 7, 8)
_HUGE = 1e300
"""Beyond are NaN, infinities, and integers that are no float."""


def whole_number(value: Json) -> int | None:
    """A value that is a whole number, written as ``160``, ``160.0`` or ``"160"``; else None."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def numbers(value: Json, count: int) -> list[float] | None:
    """A list of so many finite numbers; None if it is none."""
    items = value if isinstance(value, list) else []
    found = [
        float(item)
        for item in items
        if isinstance(item, int | float) and not isinstance(item, bool) and abs(item) < _HUGE
    ]
    return found if len(found) == len(items) == count else None


class Frame(NamedTuple):
    """The picture that boxes are of."""

    size: tuple[int, int]
    """Its width and height, in the pixels of the record."""
    orientation: int = 1
    """How EXIF turns it, 1 to 8; 1 where boxes are of the picture as it is seen."""

    @classmethod
    def stated(cls, fields: Mapping[str, Json], picture: Picture) -> "Frame | None":
        """The frame of a record; None if it states the size of another picture."""
        given = fields.get("width"), fields.get("height")
        if given == (None, None):
            return cls(picture.size)
        width, height = map(whole_number, given)
        if width is None or height is None or min(width, height) <= 0:
            return None
        seen, turn = picture.size, orientation(picture.source)
        stored = seen[::-1] if turn in _SIDEWAYS else seen
        for same in (tuple.__eq__, _is_copy):
            if same((width, height), stored):
                return cls((width, height), turn)
            if same((width, height), seen):
                return cls((width, height))
        return None

    def upright(self, box: Box) -> Box:
        """A box of the stored picture, on the picture as it is seen."""
        x0, y0, x1, y1 = box.x0, box.y0, box.x1, box.y1
        if self.orientation in (2, 3, 7, 8):
            x0, x1 = 1 - x1, 1 - x0
        if self.orientation in (3, 4, 6, 7):
            y0, y1 = 1 - y1, 1 - y0
        return Box(y0, x0, y1, x1) if self.orientation in _SIDEWAYS else Box(x0, y0, x1, y1)

    def boxes(
        self,
        given: Iterable[Json],
        convention: str,
        tally: Tally,
        *,
        phrase: str,
        where: str,
        overhang: float = OVERHANG,
    ) -> list[Box]:
        """The boxes that are of use, upright and within the picture.

        One that is not is bad, and costs no other.

        Args:
            given: What should be four numbers each.
            convention: What they mean, one of :data:`CONVENTIONS`.
            tally: Takes what is bad.
            phrase: What is in the boxes.
            where: What the record is called.
            overhang: How far out of the picture a box may reach, as a fraction of it.
        """
        found = []
        for value in given:
            box = self._box(value, convention)
            if box is None:
                tally.bad("box that is not four numbers", where)
                continue
            tally.see_box(box, size=self.size, phrase=phrase)
            cut, corners = box.clipped(), (box.x0, box.y0, box.x1, box.y1)
            if not (box.x0 < box.x1 and box.y0 < box.y1):
                tally.bad(f"box without area, or reversed, read as {convention}", where)
            elif cut.area == 0.0 or not all(-overhang <= v <= 1 + overhang for v in corners):
                tally.bad(f"box outside the picture, read as {convention}", where)
            else:
                found.append(self.upright(cut))
        if found and self.orientation != 1:
            tally.change(TURNED, where)
        return found

    def _box(self, value: Json, convention: str) -> Box | None:
        four = numbers(value, 4)
        if four is None:
            return None
        x0, y0, x1, y1 = four
        if convention.startswith("xywh"):
            x1, y1 = x0 + x1, y0 + y1
        if convention.endswith("fractions"):
            return Box(x0, y0, x1, y1)
        return Box.from_pixels(x0, y0, x1, y1, width=self.size[0], height=self.size[1])


def _is_copy(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether sizes are of one shape, but for the rounding of sides."""
    difference = abs(one[0] * other[1] - one[1] * other[0])
    return difference <= max(sum(one), sum(other))
