"""Boxes <-> pairs of location indices on a square grid laid over the image.

A location index counts cells row by row from the top left, so with 32 cells a side index 0 is
the top-left cell and index 1023 the bottom-right one.

- :func:`box_to_locations` and its inverse :func:`locations_to_box`
- :func:`best_iou`, the ceiling that the grid puts on any score

Two roundings are published and they differ for a corner that lies exactly on a grid line: the
cells of the box ``(0, 0, .5, .5)`` are 0 and 528 in the release's training targets but 0 and 495
in the Hugging Face processor. Released checkpoints were trained with the former.

Source: KOSMOS-2 (arXiv:2306.14824) section 2; the release's training loader and demo; the
Hugging Face processor. Departure: where the two compute an index outside the grid, or wrap into
the next row (a box that lies outside the image), we raise.
"""

import math
from itertools import product
from typing import Literal, TypeAlias

from kosmos.boxes import Box
from kosmos.errors import DataError

NUM_CELLS = 32

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


def best_iou(box: Box, num_cells: int = NUM_CELLS) -> float:
    """The highest intersection over union that any pair of locations reaches with a box.

    No model that answers in location tokens can do better on this box, so the mean over a test
    set is the ceiling of its scores; a small box has a low one.

    Args:
        box: Corners in image fractions, inside the image.
        num_cells: Cells along each side of the grid.

    Raises:
        DataError: If the box is empty or reaches outside the image.
    """
    box.checked("box")
    # With the other corners fixed the overlap falls off on both sides of the true corner, so the
    # best cell center or edge is one of the true corner's two neighbors on the grid.
    left, top, right, bottom = (
        _neighbors(corner * num_cells, num_cells) for corner in (box.x0, box.y0, box.x1, box.y1)
    )
    whole_x = _single_cells(box.x0, box.x1, num_cells)
    whole_y = _single_cells(box.y0, box.y1, num_cells)
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


def _neighbors(position: float, num_cells: int) -> list[int]:
    """Cells whose center or either edge is next to a position measured in cells."""
    cell = math.floor(position)
    return [other for other in range(cell - 1, cell + 2) if 0 <= other < num_cells]


def _single_cells(low: float, high: float, num_cells: int) -> set[int]:
    """Where a strip one cell wide overlaps most: an end of the interval, or its middle."""
    positions = (low, (low + high) / 2, high)
    return {cell for p in positions for cell in _neighbors(p * num_cells, num_cells)}
