"""Boxes <-> pairs of location indices on a square grid laid over the image.

A location index counts cells row by row from the top left, so with 32 cells a side index 0 is
the top-left cell and index 1023 the bottom-right one.

- :func:`box_to_locations` and its inverse :func:`locations_to_box`
- :func:`best_iou`, the ceiling that the grid puts on any score, and :func:`quantization_ceiling`,
  that of a test set
- :func:`guaranteed_iou`, the floor under a pair of locations that is right

Two roundings are published and they differ for a corner that lies exactly on a grid line: the
cells of the box ``(0, 0, .5, .5)`` are 0 and 528 in the release's training targets but 0 and 495
in the Hugging Face processor. Released checkpoints were trained with the former.

Source: KOSMOS-2 (arXiv:2306.14824) section 2; the release's training loader and demo; the
Hugging Face processor. Departure: where the two compute an index outside the grid, or wrap into
the next row (a box that lies outside the image), we raise.
"""

import math
from collections.abc import Iterable
from itertools import product
from typing import Literal, NamedTuple, TypeAlias

from kosmos.boxes import Box
from kosmos.errors import DataError

NUM_CELLS = 32
WHOLE = Box(0.0, 0.0, 1.0, 1.0)
"""All of a picture."""

Rounding: TypeAlias = Literal["release", "hf"]

# the release clips the far corner here, so that 1.0 falls into the last cell
_RELEASE_FAR_EDGE = 0.99999


def box_to_locations(
    box: Box, num_cells: int = NUM_CELLS, rounding: Rounding = "release"
) -> tuple[int, int]:
    """Quantize a box to the cells that hold its top-left and bottom-right corners.

    Args:
        box: Corners in image fractions.
        num_cells: Cells along each side of the grid.
        rounding: ``"release"`` clips what reaches outside the image and puts a far corner on a
            grid line into the next cell; ``"hf"`` does not clip and puts it into the previous one.

    Returns:
        Two location indices, each in ``[0, num_cells**2)``.

    Raises:
        DataError: If a corner's cell is not on the grid; with ``"hf"`` also if the box is empty
            or its corners are in the wrong order.
    """
    corners = (box.x0, box.y0, box.x1, box.y1)
    if not all(map(math.isfinite, corners)):
        raise DataError(f"box: expected finite corners, found {corners}")
    if rounding == "hf":
        if not (box.x0 < box.x1 and box.y0 < box.y1):
            raise DataError(f"box: expected x0 < x1 and y0 < y1, found {corners}")
        near = (math.floor(box.x0 * num_cells), math.floor(box.y0 * num_cells))
        # a far corner of 1e-18 would round to cell -1
        far = tuple(
            max(math.ceil(corner * num_cells - 1), 0 if corner > 0 else -1)
            for corner in (box.x1, box.y1)
        )
    else:
        near = (math.floor(max(box.x0, 0.0) * num_cells), math.floor(max(box.y0, 0.0) * num_cells))
        far = (
            math.floor(min(box.x1, _RELEASE_FAR_EDGE) * num_cells),
            math.floor(min(box.y1, _RELEASE_FAR_EDGE) * num_cells),
        )
    if not all(0 <= cell < num_cells for cell in near + far):
        raise DataError(
            f"box: expected corners inside the image, found {corners}",
            hint="boxes in pixels are made with Box.from_pixels; Box.clipped cuts overhang",
        )
    return near[1] * num_cells + near[0], far[1] * num_cells + far[0]


def locations_to_box(top_left: int, bottom_right: int, num_cells: int = NUM_CELLS) -> Box:
    """Undo :func:`box_to_locations` as closely as a grid allows.

    Corners land on cell centers. A box one cell wide or tall would then be empty, so it takes
    whole cells instead, on both axes; such a box does not survive a second quantization with
    the release's rounding. Corners in the wrong order stay so, as in both published decoders.

    Args:
        top_left: Location index of the first corner.
        bottom_right: Location index of the second corner.
        num_cells: Cells along each side of the grid.

    Returns:
        A box; of positive area if the second corner is neither left of nor above the first.

    Raises:
        DataError: If an index lies outside the grid.
    """
    for index in (top_left, bottom_right):
        if not 0 <= index < num_cells**2:
            raise DataError(
                f"location index: expected 0 to {num_cells**2 - 1} on a grid of "
                f"{num_cells} x {num_cells}, found {index}"
            )
    return cells_to_box(top_left, bottom_right, num_cells)


def cells_to_box(top_left: int, bottom_right: int, num_cells: int) -> Box:
    """:func:`locations_to_box` without its check: indices beyond the grid lie below the image."""
    (y0, x0), (y1, x1) = divmod(top_left, num_cells), divmod(bottom_right, num_cells)
    if x0 == x1 or y0 == y1:
        return Box(x0 / num_cells, y0 / num_cells, (x1 + 1) / num_cells, (y1 + 1) / num_cells)
    return Box(
        (x0 + 0.5) / num_cells,
        (y0 + 0.5) / num_cells,
        (x1 + 0.5) / num_cells,
        (y1 + 0.5) / num_cells,
    )


def best_iou(box: Box, num_cells: int = NUM_CELLS, *, shown: Box = WHOLE) -> float:
    """The highest intersection over union that any pair of locations reaches with a box.

    No model that answers in location tokens can do better on this box; a small box has a low one.

    Args:
        box: Corners in image fractions, inside the image.
        num_cells: Cells along each side of the grid.
        shown: The part of the image that the grid is laid over, the rest being cropped away;
            ``ImageTransform.box_out`` of the whole square.

    Returns:
        0 to 1; 0 for a box of which nothing is shown.

    Raises:
        DataError: If the box is empty or reaches outside the image.
    """
    box.checked("box")
    shown.checked("shown")
    across, down = shown.x1 - shown.x0, shown.y1 - shown.y0
    # stretching an axis changes no ratio of areas, so the part shown can be taken as the square
    box = Box(
        (box.x0 - shown.x0) / across,
        (box.y0 - shown.y0) / down,
        (box.x1 - shown.x0) / across,
        (box.y1 - shown.y0) / down,
    )
    part = box.clipped()
    if part.area == 0.0:
        return 0.0
    # With the other corners fixed the overlap falls off on both sides of the true corner, or of
    # the edge that cuts it off, so the best cell center or edge is one of its two neighbors.
    left, top, right, bottom = (
        _neighbors(corner * num_cells, num_cells) for corner in (part.x0, part.y0, part.x1, part.y1)
    )
    whole_x = _single_cells(part.x0, part.x1, num_cells)
    whole_y = _single_cells(part.y0, part.y1, num_cells)
    pairs = [
        *product(left, top, right, bottom),
        *((x, y0, x, y1) for x, y0, y1 in product(whole_x, top, bottom)),
        *((x0, y, x1, y) for y, x0, x1 in product(whole_y, left, right)),
    ]
    return max(
        cells_to_box(y0 * num_cells + x0, y1 * num_cells + x1, num_cells).iou(box)
        for x0, y0, x1, y1 in pairs
        if x0 <= x1 and y0 <= y1
    )


class Ceiling(NamedTuple):
    """What the best answers in location tokens would score on some boxes."""

    mean_iou: float
    """Mean of :func:`best_iou`."""
    reachable: float
    """Share of the boxes for which it reaches the threshold."""


def quantization_ceiling(
    boxes: Iterable[Box],
    num_cells: int = NUM_CELLS,
    *,
    threshold: float = 0.5,
    shown: Box = WHOLE,
) -> Ceiling:
    """The scores on a set of boxes that no model that answers in location tokens can beat.

    Args:
        boxes: Truths, in fractions of their images; at least one.
        num_cells: Cells along each side of the grid.
        threshold: Intersection over union from which a box counts as found.
        shown: As of :func:`best_iou`; for images of several sizes that are cropped, which show a
            different part each, take the means over :func:`best_iou` of each.

    Raises:
        DataError: If there is no box, or one is empty or reaches outside the image.
    """
    best = [best_iou(box, num_cells, shown=shown) for box in boxes]
    if not best:
        raise DataError("boxes: expected at least one, found none")
    return Ceiling(
        mean_iou=math.fsum(best) / len(best),
        reachable=sum(iou >= threshold for iou in best) / len(best),
    )


def guaranteed_iou(top_left: int, bottom_right: int, num_cells: int = NUM_CELLS) -> float:
    """The least intersection over union with a truth whose corners lie in these two cells.

    How much a box says even if the model chose both cells rightly: 0.77 where they are eight rows
    and columns apart, 0.25 where two, and 0 for neighbors, since a truth may then be as thin as
    you like. The same in a picture that was squeezed or cropped, for the part of the truth that
    was shown.

    Args:
        top_left: Location index of the first corner.
        bottom_right: Location index of the second corner, neither left of nor above the first.
        num_cells: Cells along each side of the grid.

    Raises:
        DataError: If an index lies outside the grid.
    """
    decoded = locations_to_box(top_left, bottom_right, num_cells)
    (y0, x0), (y1, x1) = divmod(top_left, num_cells), divmod(bottom_right, num_cells)
    # the overlap falls off on both sides of each decoded corner, so it is least at edges of cells
    corners = product(*((cell, cell + 1) for cell in (x0, y0, x1, y1)))
    truths = [Box(*(corner / num_cells for corner in truth)) for truth in corners]
    return min(decoded.iou(truth) for truth in truths)


def _neighbors(position: float, num_cells: int) -> list[int]:
    """Cells whose center or either edge is next to a position measured in cells."""
    cell = math.floor(position)
    return [other for other in range(cell - 1, cell + 2) if 0 <= other < num_cells]


def _single_cells(low: float, high: float, num_cells: int) -> set[int]:
    """Where a strip one cell wide overlaps most: an end of the interval, or its middle."""
    positions = (low, (low + high) / 2, high)
    return {cell for p in positions for cell in _neighbors(p * num_cells, num_cells)}
