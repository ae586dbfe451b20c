"""Pictures of a document become one array, in order."""

import numpy as np
import pytest

from kosmos.document.pixels import load_pixels
from kosmos.document.types import Image
from kosmos.errors import ImageError
from kosmos.image.codec import decode, encode_png
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform

TRANSFORM = ImageTransform(ImageConfig(size=28))


def picture(level: int) -> np.ndarray:
    return np.full((5, 9, 3), level, np.uint8)


def test_pictures_are_transformed_in_order() -> None:
    sources = [picture(10), encode_png(decode(picture(200), max_pixels=100))]
    pixels = load_pixels([Image(source) for source in sources], TRANSFORM)
    assert pixels.shape == (2, 3, 28, 28)
    assert pixels.dtype == np.float32
    for row, level in zip(pixels, (10, 200), strict=True):
        assert np.array_equal(row, TRANSFORM.pixels(decode(picture(level), max_pixels=100)))


def test_no_pictures_are_an_empty_array() -> None:
    assert load_pixels([], TRANSFORM).shape == (0, 3, 28, 28)


def test_broken_picture_is_named() -> None:
    with pytest.raises(ImageError, match="document 'a', image 1"):
        load_pixels([Image(picture(0)), Image(b"\x89PNG")], TRANSFORM, where="document 'a'")


def test_each_picture_may_have_a_name_of_its_own() -> None:
    with pytest.raises(ImageError, match=r"^the second: expected"):
        load_pixels([Image(picture(0)), Image(b"")], TRANSFORM, where=["the first", "the second"])


def test_picture_above_the_limit_is_refused() -> None:
    small = ImageTransform(ImageConfig(size=28, max_pixels=44))
    with pytest.raises(ImageError, match="at most 44 pixels"):
        load_pixels([Image(picture(0))], small)
