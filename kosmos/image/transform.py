"""A picture to the square that the vision tower reads, and what that does to a box.

Two geometries, the same picture::

    square: the whole picture,          center-crop: shortest side to size,
    its aspect ratio lost               the middle kept
    +--------------+    +-----+         +---+------+---+    +------+
    |              |    |     |         |   |      |   |    |      |
    |              | -> |     |         |   |      |   | -> |      |
    +--------------+    +-----+         +---+------+---+    +------+

Released inference and the Hugging Face processor use the first, released training the second.

Source: KOSMOS-2 release, kosmos-2/unilm/data/vl/obj_utils.py and laion2b_obj_loader.py: the scaled
long side is truncated, boxes move by a fractional offset and in float32, while the picture is
cropped at a whole pixel. Boxes and picture thus disagree by up to half a pixel of the square;
kept, because released checkpoints were trained with it.
"""

import numpy as np
import PIL.Image
from jaxtyping import Float32
from PIL.Image import Resampling

from kosmos.boxes import Box
from kosmos.errors import ImageError
from kosmos.image.config import ImageConfig

_LONGEST_ASPECT = 32
"""Pictures longer than this are cropped while they are resized: the resized whole would take
``4 * size**2 * aspect`` bytes. At most 2 of 255 levels differ (400 random pictures)."""


class ImageTransform:
    """Preprocessing as an :class:`ImageConfig` says."""

    def __init__(self, config: ImageConfig) -> None:
        self.config = config
        self._mean, self._std = (
            np.array(values, np.float32) for values in (config.mean, config.std)
        )

    def pixels(
        self, image: PIL.Image.Image, *, out: Float32[np.ndarray, "3 height width"] | None = None
    ) -> Float32[np.ndarray, "3 height width"]:
        """The normalized square of an RGB picture.

        Args:
            image: The picture.
            out: Where to write it, a picture of a batch say; None makes a new array.

        Returns:
            ``out``, or the new array.

        Raises:
            ImageError: If the picture is not RGB.
        """
        if image.mode != "RGB":
            raise ImageError(
                f"image: expected an RGB picture, found mode {image.mode}",
                hint="kosmos.image.codec.decode gives one",
            )
        square = np.asarray(self._square(image))
        pixels = np.empty((3, *square.shape[:2]), np.float32) if out is None else out
        # Channel by channel, which stays in the cache, and in place: 1.7 times faster than a table
        # of the 256 levels. For each of them the bits are those of the Hugging Face processor,
        # which multiplies by 1/255 in float64.
        for channel, mean, std in zip(range(3), self._mean, self._std, strict=True):
            plane = pixels[channel]
            plane[:] = square[:, :, channel]
            plane /= np.float32(255)
            plane -= mean
            plane /= std
        return pixels

    def box_in(self, box: Box, *, width: int, height: int) -> Box | None:
        """Where a box of the original picture lies in the square.

        Args:
            box: Corners as fractions of the original.
            width: Of the original, in pixels.
            height: Of the original, in pixels.

        Returns:
            Corners as fractions of the square; None if less than ``min_visible`` of the box's
            area is left, or nothing. The square geometry changes no fraction and drops no box.
        """
        if self.config.geometry == "square":
            return box
        size = np.float32(self.config.size)
        scaled = np.array(self._scaled_size(width, height) * 2, np.float64)
        offset = ((scaled - self.config.size) / 2).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # absurd boxes end as None below
            corners = np.array([box.x0, box.y0, box.x1, box.y1], np.float64) * scaled
            area = (corners[2] - corners[0]) * (corners[3] - corners[1])
            x0, y0, x1, y1 = np.clip(corners.astype(np.float32) - offset, np.float32(0), size)
        if not (x0 < x1 and y0 < y1 and area > 0.0):
            return None
        if float(x1 - x0) * float(y1 - y0) / area < self.config.min_visible:
            return None
        return Box(*(float(corner / size) for corner in (x0, y0, x1, y1)))

    def box_out(self, box: Box, *, width: int, height: int) -> Box:
        """Where a box of the square lies in the original picture; undoes :meth:`box_in`."""
        if self.config.geometry == "square":
            return box
        size = self.config.size
        scaled_width, scaled_height = self._scaled_size(width, height)
        left, top = (scaled_width - size) / 2, (scaled_height - size) / 2
        return Box(
            (box.x0 * size + left) / scaled_width,
            (box.y0 * size + top) / scaled_height,
            (box.x1 * size + left) / scaled_width,
            (box.y1 * size + top) / scaled_height,
        )

    def _square(self, image: PIL.Image.Image) -> PIL.Image.Image:
        size = self.config.size
        if self.config.geometry == "square":
            return image.resize((size, size), Resampling.BICUBIC)
        scaled_width, scaled_height = self._scaled_size(image.width, image.height)
        # torchvision's center crop: halves go to the even pixel
        left, top = round((scaled_width - size) / 2), round((scaled_height - size) / 2)
        crop = (left, top, left + size, top + size)
        if max(scaled_width, scaled_height) <= _LONGEST_ASPECT * size:
            return image.resize((scaled_width, scaled_height), Resampling.BICUBIC).crop(crop)
        across, down = image.width / scaled_width, image.height / scaled_height
        x0, y0, x1, y1 = crop
        source = (x0 * across, y0 * down, x1 * across, y1 * down)
        return image.resize((size, size), Resampling.BICUBIC, box=source)

    def _scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height once the shortest side is ``size``."""
        size = self.config.size
        if width < height:
            return size, size * height // width
        return size * width // height, size
