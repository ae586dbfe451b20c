"""Box linter: in which convention boxes are written, told from many of them.

A :class:`~kosmos.boxes.Box` holds fractions of its picture, x0 < x1 and y0 < y1, the origin top
left. What others write in its place comes from two choices::

    scale   fractions | percent | pixels | a grid of 0-999 or 0-1000, whatever the picture's size
    order   x0 y0 x1 y1 | x y width height | center-x center-y width height | y0 x0 y1 x1
            | x0 x1 y0 y1 | x1 y1 x0 y0 | y counted from below

A convention *explains* a box if, read by it, the box has an area and lies in its picture. One that
explains nearly all boxes is a candidate, and among candidates the one that reaches least far is
meant: fractions read as pixels would all be specks in a corner, which is no evidence of pixels.
Boxes that are right are set aside first, so that a wrong tenth of a corpus is named as well.

Two things do not show in single boxes, and are told from all of them:

- *counted from 1*: corners on whole pixels, of which many are 1 and none is 0
- *x for y*, *y from below* in boxes that are ordered and inside: by what the phrases mean (the sky
  is above the floor, a man is taller than wide), or by which side of the picture makes whole pixels

Nothing is said of fewer than :data:`MIN_BOXES` boxes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64

from kosmos.boxes import Box
from kosmos.check.boxwords import BoxWords
from kosmos.runtime import generator

MIN_BOXES = 20
"""Fewer are no evidence of a convention."""
CAPACITY = 20_000
"""Boxes remembered, a uniform sample of all."""

Scale: TypeAlias = Literal["fractions", "percent", "pixels", "grid"]
Order: TypeAlias = Literal[
    "x0 y0 x1 y1",
    "x y width height",
    "center-x center-y width height",
    "y0 x0 y1 x1",
    "x0 x1 y0 y1",
    "x1 y1 x0 y0",
    "y from below",
]
Corners: TypeAlias = Float64[np.ndarray, "boxes 4"]
Sizes: TypeAlias = Float64[np.ndarray, "boxes 2"]
"""Width and height of each box's picture."""
Which: TypeAlias = Bool[np.ndarray, " boxes"]

_CORNERS: Order = "x0 y0 x1 y1"
_EXPLAINS = 0.97
"""Share of the boxes that a convention must explain; detectors overshoot and annotators err."""
_OVERHANG = 0.02
"""Reaching so far out of the picture is a slip, not a convention."""
_FILLS: dict[Scale, float] = {"fractions": 0.0, "percent": 0.75, "pixels": 0.5, "grid": 0.75}
"""How far into their pictures the farthest of many boxes reach at least."""
_MIN_WRONG_SHARE = 0.002
"""Fewer wrong boxes are single faults, which are counted one by one elsewhere."""
_MAX_STRAY_SHARE = 0.01
"""Boxes in no convention above which the corpus is at fault, and not its detector."""
_MANY_SAME = 0.2
"""Share of the boxes at one place from which on it is said."""


class _Reading(NamedTuple):
    """How four numbers are read: which side of the picture scales each, and what they mean."""

    sides: str
    to_corners: Callable[[Corners], Corners]


def _centered(v: Corners) -> Corners:
    half = v[:, 2:] / 2
    return np.hstack([v[:, :2] - half, v[:, :2] + half])


_READINGS: dict[Order, _Reading] = {
    "x0 y0 x1 y1": _Reading("xyxy", lambda v: v),
    "x y width height": _Reading("xyxy", lambda v: np.hstack([v[:, :2], v[:, :2] + v[:, 2:]])),
    "center-x center-y width height": _Reading("xyxy", _centered),
    "y0 x0 y1 x1": _Reading("yxyx", lambda v: v[:, [1, 0, 3, 2]]),
    "x0 x1 y0 y1": _Reading("xxyy", lambda v: v[:, [0, 2, 1, 3]]),
    "x1 y1 x0 y0": _Reading("xyxy", lambda v: v[:, [2, 3, 0, 1]]),
    "y from below": _Reading("xyxy", lambda v: v * [1, -1, 1, -1] + [0, 1, 0, 1]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxVerdict:
    """What convention boxes are in, where it is not ours."""

    severity: Literal["error", "warning"]
    """error: the numbers cannot be ours. warning: they can, and probably are not."""
    scale: Scale | None
    """Unit of the numbers; None where no convention explains them."""
    order: Order | None
    """What the four numbers are; None where no convention explains them."""
    from_one: bool = False
    """Whether pixels are counted from 1."""
    share: float
    """Share of the boxes that are so."""
    what: str
    """The verdict in a sentence."""
    evidence: tuple[str, ...]
    """What it was concluded from."""
    hint: str
    """How such boxes are brought in ours."""


class BoxLint:
    """Looks at boxes one by one and says in the end what they are, from a sample by the seed."""

    def __init__(self, *, seed: int = 0, capacity: int = CAPACITY) -> None:
        self.num_boxes = 0
        self._rng = generator(seed, "boxlint")
        self._boxes = np.empty((capacity, 4))
        self._sizes = np.empty((capacity, 2))
        self._words = BoxWords()

    def add(self, box: Box, *, width: int, height: int, phrase: str = "") -> None:
        """Look at four numbers that should be fractions, of a picture of so many pixels.

        A box that is not finite is no evidence. ``phrase`` is the words it belongs to.
        """
        corners = (box.x0, box.y0, box.x1, box.y1)
        if not all(map(math.isfinite, corners)):
            return
        capacity = len(self._boxes)
        place = self.num_boxes
        if place >= capacity:  # reservoir sampling: every box is kept with the same probability
            place = int(self._rng.integers(0, self.num_boxes + 1))
        self.num_boxes += 1
        if place < capacity:
            self._boxes[place] = corners
            self._sizes[place] = (width, height)
        self._words.add(phrase, box, width=width, height=height)

    def verdict(self) -> BoxVerdict | None:
        """The convention, if the boxes are not in ours; None too where there are too few."""
        boxes, sizes = self._sample()
        if len(boxes) < MIN_BOXES:
            return None
        # without an area a box is a fault of its own, but not one of convention
        is_flat = (boxes[:, :2] == boxes[:, 2:]).any(axis=1)
        is_right = _explained(boxes, 1.0, _CORNERS)
        wrong = ~is_right & ~is_flat
        if wrong.sum() >= max(MIN_BOXES, _MIN_WRONG_SHARE * len(boxes)):
            return _name(boxes, sizes, wrong)
        boxes, sizes = boxes[is_right], sizes[is_right]
        return _off_by_one(boxes, sizes) or _swapped_pixels(boxes, sizes) or self._by_words()

    def repeated(self) -> str | None:
        """Whether many boxes are one and the same, in a sentence."""
        boxes, _ = self._sample()
        if len(boxes) < MIN_BOXES:
            return None
        same, counts = np.unique(boxes.round(4), axis=0, return_counts=True)
        share, box = counts.max() / len(boxes), same[counts.argmax()]
        if share < _MANY_SAME:
            return None
        is_whole = np.allclose(box, [0, 0, 1, 1], atol=0.01)
        name = "the whole picture" if is_whole else _numbers(box)
        return f"expected boxes that differ, found {share:.0%} of them to be {name}"

    def _sample(self) -> tuple[Corners, Sizes]:
        kept = min(self.num_boxes, len(self._boxes))
        return self._boxes[:kept], self._sizes[:kept]

    def _by_words(self) -> BoxVerdict | None:
        found = self._words.verdict()
        if found is None:
            return None
        order: Order = "y0 x0 y1 x1" if found.is_swapped else "y from below"
        return _verdict("warning", "fractions", order, found.evidence)


def _name(boxes: Corners, sizes: Sizes, wrong: Which) -> BoxVerdict:
    """The convention of boxes of which some are not ours."""
    outside = wrong & ((boxes < -_OVERHANG) | (boxes > 1 + _OVERHANG)).any(axis=1)
    evidence = [
        f"{outside.mean():.1%} of {len(boxes):,} boxes leave the picture, "
        f"{(wrong & ~outside).mean():.1%} have x0 >= x1 or y0 >= y1",
        f"the numbers go from {_numbers(boxes.min(axis=0))} to {_numbers(boxes.max(axis=0))}; "
        f"pictures are up to {sizes[:, 0].max():.0f} x {sizes[:, 1].max():.0f} pixels",
    ]
    found = _best(boxes[wrong], sizes[wrong])
    if found is None:
        return BoxVerdict(
            severity="error" if wrong.mean() > _MAX_STRAY_SHARE else "warning",
            scale=None,
            order=None,
            share=float(wrong.mean()),
            what=f"expected boxes as fractions x0 y0 x1 y1 of the picture, found {wrong.mean():.1%}"
            " of them in no convention that is known here",
            evidence=tuple(evidence),
            hint="look at some in the source; Box.from_pixels makes boxes of pixels",
        )
    scale, order, unit, rivals = found
    mine = _explained(boxes, _units(scale, unit, sizes), order)
    if scale != "fractions":
        mine &= wrong  # fractions are pixels too, though nobody means them
    is_all = mine.mean() >= _EXPLAINS
    share = 1.0 if is_all else float((mine & wrong).mean())
    evidence.append(
        f"read as {_title(scale, order, unit)}, {mine[wrong].mean():.1%} of them are in"
    )
    if rivals:
        evidence.append(f"{' or '.join(rivals)} would do as well")
    pixels = boxes[mine] if scale == "pixels" and order == _CORNERS else None
    from_one = pixels is not None and _counts_from_one(pixels, sizes[mine])
    if from_one:
        evidence.append("corners are whole pixels; many of the first are 1 and none is 0")
    return _verdict("error", scale, order, evidence, unit=unit, share=share, from_one=from_one)


class _Best(NamedTuple):
    scale: Scale
    order: Order
    unit: float
    rivals: tuple[str, ...]
    """Orders that explain the boxes as well."""


def _best(boxes: Corners, sizes: Sizes) -> _Best | None:
    """The convention that explains the boxes and reaches least far; never ours."""
    scales: list[tuple[Scale, float, float]] = [
        ("fractions", 1.0, 1.0),
        ("percent", 100.0, 100.0),
        ("pixels", 0.0, float(np.exp(np.log(np.maximum(sizes, 1.0)).mean()))),
        ("grid", _grid(boxes), _grid(boxes)),
    ]
    scales.sort(key=lambda scale: scale[2])
    # last, a grid that is not known by name, up to the largest number anywhere
    reach = float(np.quantile(boxes, 0.999))
    if reach > 2.0:
        scales.append(("grid", reach, reach))
    for scale, unit, _ in scales:
        units = _units(scale, unit, sizes)
        if (boxes / units[:, [0, 1, 0, 1]]).max() < _FILLS[scale]:
            continue  # all in one corner: this explains the boxes, but is not what they mean
        orders = [order for order in _READINGS if (scale, order) != ("fractions", _CORNERS)]
        shares = {order: _explained(boxes, units, order).mean() for order in orders}
        order = max(shares, key=lambda order: shares[order])
        least = shares[order] - max(0.01, 3 / len(boxes))
        if shares[order] < _EXPLAINS:
            continue
        if shares.get(_CORNERS, 0.0) >= least:
            order = _CORNERS  # the order everybody means unless they say so
        near = [other for other in orders if shares[other] >= least and other != order]
        return _Best(scale, order, unit, () if order == _CORNERS else tuple(near))
    return None


def _grid(boxes: Corners) -> float:
    """999 or 1000, by the largest number on it."""
    is_whole = bool((boxes == boxes.round()).all())
    return 999.0 if is_whole and boxes.max() == 999.0 else 1000.0


def _units(scale: Scale, unit: float, sizes: Sizes) -> Sizes:
    """What the whole width and height of each box's picture are in a scale."""
    return sizes if scale == "pixels" else np.full_like(sizes, unit)


def _explained(boxes: Corners, units: Sizes | float, order: Order) -> Which:
    """Whether each box, read in a convention, has an area and lies in its picture."""
    reading = _READINGS[order]
    units = np.broadcast_to(units, (len(boxes), 2))
    columns = np.stack([units[:, "xy".index(side)] for side in reading.sides], axis=1)
    corners = reading.to_corners(boxes / columns)
    is_inside = ((corners >= -_OVERHANG) & (corners <= 1 + _OVERHANG)).all(axis=1)
    explained: Which = is_inside & (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])
    return explained


def _counts_from_one(pixels: Corners, sizes: Sizes) -> bool:
    """Whether corners are whole pixels, many of the first on 1, none on 0, and the last reach w."""
    whole = np.abs(pixels - pixels.round()) < 0.05
    if len(pixels) < MIN_BOXES or whole.mean() < 0.99:
        return False
    first, last = pixels[:, :2].round(), pixels[:, 2:].round()
    num_ones = (first == 1).sum()
    beside = max((first == 2).sum(), (first == 3).sum())
    reaches = (last >= sizes).sum()
    return bool((first < 1).sum() == 0 and num_ones >= 5 and num_ones > 3 * beside and reaches)


def _off_by_one(boxes: Corners, sizes: Sizes) -> BoxVerdict | None:
    """Fractions of pixels that were counted from 1."""
    if not _counts_from_one(boxes * sizes[:, [0, 1, 0, 1]], sizes):
        return None
    return BoxVerdict(
        severity="warning",
        scale="fractions",
        order=_CORNERS,
        from_one=True,
        share=1.0,
        what="expected boxes whose first pixel is 0, found fractions of pixels counted from 1",
        evidence=("corners are whole pixels; many of the first are 1 and none is 0",),
        hint=_hint("pixels", _CORNERS, from_one=True),
    )


def _swapped_pixels(boxes: Corners, sizes: Sizes) -> BoxVerdict | None:
    """Fractions that are whole pixels only if x is divided by the height and y by the width."""
    is_oblong = sizes[:, 0] != sizes[:, 1]
    if is_oblong.sum() < MIN_BOXES:
        return None
    boxes, sizes = boxes[is_oblong], sizes[is_oblong]
    on_pixels = [
        np.abs(numbers - numbers.round()) < 0.02
        for numbers in (boxes * sizes[:, [0, 1, 0, 1]], boxes * sizes[:, [1, 0, 1, 0]])
    ]
    straight, swapped = (float(whole.mean()) for whole in on_pixels)
    if swapped < 0.99 or straight > 0.5:
        return None
    told = (
        f"{swapped:.0%} of the corners are whole pixels if x goes with the height and y with "
        f"the width, {straight:.0%} as they stand"
    )
    return _verdict("warning", "fractions", "y0 x0 y1 x1", [told])


def _title(scale: Scale, order: Order, unit: float = 0.0) -> str:
    units = f"a grid of 0 to {unit:.0f}" if scale == "grid" else scale
    return f"{units}, {order}"


def _verdict(
    severity: Literal["error", "warning"],
    scale: Scale,
    order: Order,
    evidence: Sequence[str],
    *,
    unit: float = 0.0,
    share: float = 1.0,
    from_one: bool = False,
) -> BoxVerdict:
    """That boxes are in a known convention which is not ours."""
    found = "" if share >= 1.0 else f"{share:.1%} of them in "
    ones = " counted from 1" if from_one else ""
    return BoxVerdict(
        severity=severity,
        scale=scale,
        order=order,
        from_one=from_one,
        share=share,
        what="expected boxes as fractions x0 y0 x1 y1 of the picture, origin top left, "
        f"found {found}{_title(scale, order, unit)}{ones}",
        evidence=tuple(evidence),
        hint=_hint(scale, order, unit, from_one=from_one),
    )


def _hint(scale: Scale, order: Order, unit: float = 0.0, *, from_one: bool = False) -> str:
    steps = []
    if from_one:
        steps.append("subtract 1 from x0 and y0 (the last pixel is part of the box)")
    if scale == "pixels":
        steps.append("divide x by the picture's width and y by its height (Box.from_pixels)")
    elif scale != "fractions":
        steps.append(f"divide by {100 if scale == 'percent' else unit:.0f}")
    if order != _CORNERS:
        steps.append(_ORDER_STEPS[order])
    return "; ".join(steps)


_ORDER_STEPS: dict[Order, str] = {
    "x y width height": "x1 = x + width, y1 = y + height",
    "center-x center-y width height": "x0 = x - width / 2, x1 = x + width / 2, likewise y",
    "y0 x0 y1 x1": "exchange x and y",
    "x0 x1 y0 y1": "take the numbers in the order 1, 3, 2, 4",
    "x1 y1 x0 y0": "exchange the corners",
    "y from below": "y0 = 1 - top, y1 = 1 - bottom, y counted from below",
}


def _numbers(values: Float64[np.ndarray, " numbers"]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
