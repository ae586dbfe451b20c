"""A row as a picture: its tokens on the diagonal of who sees whom.

::

    first document   # > .  <s> a red ring        #  documents, a color each
    ...              # > .  x a green ring        >  positions: a step wider with each
    second           # >      <s> [image 1]       .  loss falls on the answer of this position
                              x x  a dog          x  the token of this line sees that of this column

Words stand where causality leaves room. Where a token is thinner than a line of words, a line holds
as many tokens as it is high, so that a row of 2,048 is still read from top to bottom.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageColor
from jaxtyping import Bool

from kosmos.check.show.words import ShownRow
from kosmos.image.canvas import (
    Bitmap,
    Canvas,
    Polygon,
    Rectangle,
    Shape,
    TextRun,
    Words,
    merged,
    shortened,
    words_width,
)
from kosmos.image.labels import PALETTE

_PAPER, _INK, _SOFT, _GIVEN, _FAINT = "#fbfaf6", "#1c2027", "#5d6470", "#8f959f", "#e4e1d8"
_PADDING = "#d6d2c8"
_MARGIN, _NAMES, _BAND, _RAMP, _GAP = 28.0, 132.0, 12.0, 40.0, 7.0
_LARGEST_CELL, _LONGEST_SIDE = 20.0, 1200.0
_LARGE, _SMALL = 12.0, 8.5
"""Sizes of words: where each token has a line, and where a line has several."""
_LARGEST_PICTURE = 120.0


def draw_row(row: ShownRow, sees: Bool[np.ndarray, "positions length"], *, name: str) -> Canvas:
    """Lay a row out.

    Args:
        row: What stands in it.
        sees: Whether the token of each position attends to that of each, padding included, as the
            model will have it.
        name: Such as ``"captions, row 7"``.
    """
    return _Picture(row, sees, name).canvas()


class _Picture:
    """Places of everything, worked out once."""

    def __init__(self, row: ShownRow, sees: np.ndarray, name: str) -> None:
        self.row, self.sees, self.name = row, sees, name
        self.num_cells = len(sees)
        self.cell = min(_LARGEST_CELL, _LONGEST_SIDE / self.num_cells)
        self.side = self.cell * self.num_cells
        self.x = _MARGIN + _NAMES + _BAND + _RAMP + _BAND + 4 * _GAP
        self.y = _MARGIN + 112.0
        self.font = min(_LARGE, 0.75 * self.cell) if self.cell >= 11 else _SMALL
        self.line_tokens = max(1, math.ceil(self.font * 1.24 / self.cell))
        self.colors = [PALETTE[n % len(PALETTE)] for n in range(len(row.documents))]
        self.right = self.x + self.side

    def canvas(self) -> Canvas:
        shapes: list[Shape] = [*self._matrix(), *self._bands(), *self._names(), *self._words()]
        shapes += self._axis()
        width = max(self.right + _MARGIN, 760.0)
        head = [*self._head(width - 2 * _MARGIN), *self._key()]
        height = self.y + self.side + 46.0 + _MARGIN
        return Canvas(width=width, height=height, background=_PAPER, shapes=(*head, *shapes))

    # --- above

    def _head(self, room: float) -> Iterator[Shape]:
        title = shortened(self.name, 21, room)
        yield _said(title, _MARGIN, _MARGIN + 20, 21, color=_INK)
        yield _said(" \u00b7 ".join(self.row.facts()), _MARGIN, _MARGIN + 42, 12.5)

    def _key(self) -> Iterator[Shape]:
        """What colors mean, in two lines."""
        y = _MARGIN + 66.0
        own, other = _mixed(PALETTE[3], 0.9), _mixed(PALETTE[3], 0.35)
        x = _MARGIN
        entries = [(own, "sees, in its own document")]
        if len(self.row.documents) > 1 and self.row.packing != "isolated":
            entries.append((other, "sees, in another document"))
        if self.row.num_padding:
            entries.append((_PADDING, "padding"))
        entries.append((_INK, "loss falls on what follows here"))
        for color, words in entries:
            yield Rectangle(x=x, y=y - 9, width=10, height=10, fill=color, radius=2)
            yield _said(words, x + 15, y, 11.5)
            x += 15 + words_width(words, 11.5) + 22
        runs = (
            TextRun("learned words", _INK),
            TextRun(" \u00b7 ", _SOFT),
            TextRun("words given", _GIVEN),
        )
        yield Words(x=x, y=y, size=11.5, runs=runs)

    # --- left

    def _bands(self) -> Iterator[Shape]:
        row, cell = self.row, self.cell
        x = _MARGIN + _NAMES + _GAP
        for number, doc in enumerate(row.documents):
            stop = min(doc.stop, row.num_positions)
            if stop > doc.start:
                yield Rectangle(
                    x=x,
                    y=self.y + doc.start * cell,
                    width=_BAND,
                    height=(stop - doc.start) * cell,
                    fill=self.colors[number],
                    title=doc.id,
                )
        x += _BAND + _GAP
        yield self._heading(x, _RAMP, "position")
        yield from self._ramps(x)
        x += _RAMP + _GAP
        yield self._heading(x, _BAND, "loss")
        yield Rectangle(x=x, y=self.y, width=_BAND, height=self.side, fill=_FAINT)
        asked = row.learned[1:] > 0
        bounds = np.flatnonzero(np.diff(asked, prepend=False, append=False)).tolist()
        for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
            y, height = self.y + start * cell, (stop - start) * cell
            yield Rectangle(x=x, y=y, width=_BAND, height=height, fill=_INK)

    def _ramps(self, x: float) -> Iterator[Shape]:
        """A wedge for each stretch over which positions count up by one."""
        positions = self.row.positions
        most = max(int(positions.max()), 1)
        breaks = (np.flatnonzero(np.diff(positions) != 1) + 1).tolist()
        for start, stop in pairwise([0, *breaks, len(positions)]):
            top, bottom = self.y + start * self.cell, self.y + stop * self.cell
            low = _RAMP * (float(positions[start]) / most)
            high = max(_RAMP * (float(positions[stop - 1]) / most), 1.5)
            points = ((x, top), (x + low, top), (x + high, bottom), (x, bottom))
            yield Polygon(points=points, fill="#b9c0cc")

    def _heading(self, x: float, width: float, words: str) -> Words:
        return _said(words, x + width / 2, self.y - 8, 9.5, anchor="middle")

    def _names(self) -> Iterator[Shape]:
        """Ids of documents beside their bands, those that would touch the one before left out."""
        x = _MARGIN + _NAMES + _GAP + _BAND
        yield _said("document", x, self.y - 8, 9.5, anchor="end")
        free = -math.inf
        for doc in self.row.documents:
            top = self.y + doc.start * self.cell
            height = (min(doc.stop, self.row.num_positions) - doc.start) * self.cell
            y = top + min(height / 2, 40.0) + 3.5
            if y - 10 < free or height <= 0:
                continue
            free = y
            words = shortened(doc.id, 10, _NAMES)
            yield _said(words, _MARGIN + _NAMES, y, 10, color=_INK, anchor="end")

    # --- the middle

    def _matrix(self) -> Iterator[Shape]:
        yield Bitmap(
            x=self.x,
            y=self.y,
            width=self.side,
            height=self.side,
            image=PIL.Image.fromarray(self._colored()),
            smooth=self.cell < 1,
            title="who sees whom",
        )
        if self.cell < 9:
            return
        for n in range(1, self.num_cells):  # lines between cells, as far as the diagonal
            before, here, far = ((n + k) * self.cell for k in (-1, 0, 1))
            x, y = self.x + here - 0.5, self.y + here - 0.5
            yield Rectangle(x=self.x, y=y, width=far, height=1, fill=_PAPER)
            left = self.side - before
            yield Rectangle(x=x, y=self.y + before, width=1, height=left, fill=_PAPER)

    def _colored(self) -> np.ndarray:
        """uint8 [positions length 3], who sees whom in the color of the document that is seen."""
        numbers = np.full(self.num_cells, -1)
        used = self.row.num_positions
        numbers[:used] = self.row.token_documents()[:used]
        across, within = (
            # padding is number -1, the last
            np.array([*(_rgb(_mixed(color, share)) for color in self.colors), _rgb(_PADDING)])
            for share in (0.35, 0.9)
        )
        own = numbers[:, None] == numbers[None, :]
        colors = np.where(own[..., None], within[numbers][None], across[numbers][None])
        return np.where(self.sees[..., None], colors, np.array(_rgb(_PAPER))).astype(np.uint8)

    def _axis(self) -> Iterator[Shape]:
        y = self.y + self.side + 16
        step = _tick(self.num_cells)
        for token in range(0, self.num_cells, step):
            x = self.x + (token + 0.5) * self.cell
            yield Rectangle(x=x - 0.5, y=y - 13, width=1, height=4, fill=_SOFT)
            yield _said(str(token), x, y, 9.5, anchor="middle")
        words = "the token of a line sees the tokens of the columns that are colored in it"
        yield _said(words, self.x, y + 20, 10.5)

    # --- on the diagonal

    def _words(self) -> Iterator[Shape]:
        starts = {doc.start: number for number, doc in enumerate(self.row.documents)}
        # the last token takes no position; it stands in the line of the one before
        *bounds, (start, stop) = self.row.lines(self.line_tokens)
        if stop - start == 1 and bounds:
            start = bounds.pop()[0]
        bounds.append((start, stop))
        free = self.y
        for first, last in bounds:
            top = max(self.y + first * self.cell, free)
            height = max(self.cell, self.font * 1.24)
            free = top + height
            seen = min(first + self.line_tokens, self.row.num_positions)
            x = self.x + seen * self.cell + 7
            baseline = top + height / 2 + self.font * 0.36
            runs: list[TextRun] = []
            pictures = []
            for stretch in self.row.stretches(first, last):
                if stretch.start in starts and len(starts) > 1:
                    line, x = self._line(runs, x, baseline)
                    color = self.colors[starts[stretch.start]]
                    y, high = baseline - self.font * 0.84, self.font * 1.05
                    yield from line
                    yield Rectangle(x=x, y=y, width=3, height=high, fill=color, radius=1)
                    runs, x = [], x + 6
                if stretch.image is not None:
                    pictures.append(stretch.image)
                runs.append(TextRun(stretch.text, _INK if stretch.learned else _GIVEN))
            line, x = self._line(runs, x, baseline)
            yield from line
            for number in pictures:
                image = self.row.images[number]
                # down to the line in which words go on
                next_line = max(n for n, _ in bounds if n <= image.stop)
                room = max((next_line - first) * self.cell, height)
                side = min(_LARGEST_PICTURE, room - 2)
                # its lower corner clears the diagonal
                x = max(x + 6, self.x + math.ceil(first + 1 + side / self.cell) * self.cell + 6)
                yield Bitmap(
                    x=x,
                    y=top + 1,
                    width=side,
                    height=side,
                    image=image.picture,
                    smooth=True,
                    title=f"image {number + 1}",
                )
                x += side
            self.right = max(self.right, x)

    def _line(self, runs: list[TextRun], x: float, baseline: float) -> tuple[list[Words], float]:
        """Words of a line, and where they end."""
        joined = merged(runs)
        if not joined:
            return [], x
        joined = (TextRun(joined[0].text.lstrip(), joined[0].color), *joined[1:])
        width = sum(words_width(run.text, self.font) for run in joined)
        return [Words(x=x, y=baseline, size=self.font, runs=joined)], x + width + 2


def _said(
    words: str,
    x: float,
    y: float,
    size: float,
    *,
    color: str = _SOFT,
    anchor: Literal["start", "middle", "end"] = "start",
) -> Words:
    return Words(x=x, y=y, size=size, runs=(TextRun(words, color),), anchor=anchor)


def _mixed(color: str, share: float) -> str:
    """A color on paper, thinned."""
    pairs = zip(_rgb(color), _rgb(_PAPER), strict=True)
    return "#" + "".join(f"{round(c * share + p * (1 - share)):02x}" for c, p in pairs)


def _tick(number: int) -> int:
    """A round step that gives five to twelve ticks."""
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500)
    return next((step for step in steps if number / step <= 12), 1000)


def _rgb(color: str) -> tuple[int, ...]:
    return PIL.ImageColor.getrgb(color)[:3]
