"""Pictures of a document as the array the vision tower reads."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from kosmos.document.types import Image
from kosmos.image.codec import decode
from kosmos.image.transform import ImageTransform


def load_pixels(
    images: Sequence[Image], transform: ImageTransform, *, where: str = ""
) -> Float32[np.ndarray, "images 3 height width"]:
    """Decode and preprocess pictures, in order.

    Args:
        images: What to read; none gives an array of length zero.
        transform: The preprocessing of the model that will see them.
        where: What the pictures belong to, for messages.

    Raises:
        ImageError: If a picture is missing or does not decode, naming which.
    """
    size = transform.config.size
    pixels = np.empty((len(images), 3, size, size), dtype=np.float32)
    for index, image in enumerate(images):
        name = f"{where}, image {index}" if where else f"image {index}"
        picture = decode(image.source, max_pixels=transform.config.max_pixels, where=name)
        pixels[index] = transform.pixels(picture)
    return pixels
