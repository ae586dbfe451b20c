"""Non-maximum suppression: of boxes that say the same place twice, the surest one.

A model that is asked for several boxes names one thing many times, a cell to the left or right.
"""

import math
from collections.abc import Sequence

from kosmos.boxes import Box
from kosmos.errors import ConfigError


def suppress(boxes: Sequence[Box], confidence: Sequence[float], threshold: float) -> list[int]:
    """Choose boxes greedily, the surest first, none overlapping a chosen one too much.

    Which boxes stay does not depend on the order they come in: of equally sure ones the first by
    its corners goes first, and of equal boxes the first given.

    Args:
        boxes: Corners in fractions of one image; empty boxes overlap nothing.
        confidence: Of each box; any scale, higher is surer.
        threshold: The most intersection over union that two chosen boxes may have, 0 to 1. With 1
            all stay, with 0 those that have nothing in common.

    Returns:
        Indices of the boxes that stay, the surest first.

    Raises:
        ConfigError: If the threshold lies outside [0, 1], or a confidence is not a number.
    """
    check_threshold(threshold)
    for index, (_, value) in enumerate(zip(boxes, confidence, strict=True)):
        if math.isnan(value):
            raise ConfigError(f"confidence {index}: expected a number, found NaN")

    def rank(index: int) -> tuple[float, ...]:
        box = boxes[index]
        return (-confidence[index], box.x0, box.y0, box.x1, box.y1, index)

    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=rank):
        if not overlaps_any(boxes[index], [boxes[other] for other in kept], threshold):
            kept.append(index)
    return kept


def overlaps_any(box: Box, kept: Sequence[Box], threshold: float) -> bool:
    """Whether a box overlaps one of those kept by more than the threshold."""
    return any(box.iou(other) > threshold for other in kept)


def check_threshold(threshold: float) -> None:
    """Raise ConfigError unless it is an intersection over union."""
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"nms: expected a threshold in [0, 1], found {threshold}")
