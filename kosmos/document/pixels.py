"""Pictures of a document as the array the vision tower reads."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from kosmos.document.types import Image
from kosmos.image.codec import decode
from kosmos.image.transform import ImageTransform


def load_pixels(
    images: Sequence[Image], transform: ImageTransform, *, where: str | Sequence[str] = ""
) -> Float32[np.ndarray, "images 3 height width"]:
    """Decode and preprocess pictures, in order.

    Args:
        images: What to read; none gives an array of length zero.
        transform: The preprocessing of the model that will see them.
        where: What the pictures belong to, for messages; or what each of them is called.

    Raises:
        ImageError: If a picture is missing or does not decode, naming which.
    """
    if isinstance(where, str):
        where = [f"{where}, image {index}".lstrip(", ") for index in range(len(images))]
    size = transform.config.size
    pixels = np.empty((len(images), 3, size, size), dtype=np.float32)
    for image, name, out in zip(images, where, pixels, strict=True):
        picture = decode(image.source, max_pixels=transform.config.max_pixels, where=name)
        transform.pixels(picture, out=out)
    return pixels
