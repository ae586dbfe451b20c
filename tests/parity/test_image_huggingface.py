"""Our pixels against the Hugging Face CLIP processor's Pillow back end: the same bits.

Measured with transformers 5.23.0, Pillow 12.3.0, numpy float32: difference 0.0 in every value, so
the tolerance is none.
"""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from kosmos.image.codec import decode, encode_jpeg
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform


@pytest.fixture(scope="module")
def processor():
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    # what the processor of the released Kosmos-2 is configured to
    return module.CLIPImageProcessorPil(use_square_size=True)


def assert_same_bits(processor, image: PIL.Image.Image) -> None:
    theirs = processor(image, return_tensors="np")["pixel_values"][0]
    ours = ImageTransform(ImageConfig()).pixels(image)
    assert ours.dtype == theirs.dtype == np.float32
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (224, 224), (500, 375), (375, 500), (64, 64), (223, 225), (1200, 602), (3, 900)],
)
def test_square_pixels_are_the_processors(processor, width: int, height: int) -> None:
    rng = np.random.default_rng(width * height)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert_same_bits(processor, PIL.Image.fromarray(noise))


def test_square_pixels_of_a_jpeg_are_the_processors(processor) -> None:
    ramp = np.linspace(0, 255, 300 * 200 * 3).reshape(200, 300, 3).astype(np.uint8)
    data = encode_jpeg(PIL.Image.fromarray(ramp), quality=75)
    assert_same_bits(processor, decode(data, max_pixels=10**6))


def test_square_pixels_of_photos_are_the_processors(processor, shared_data: Path) -> None:
    photos = sorted((shared_data / "coco/images/dev").glob("*.jpg"))[:6]
    assert photos
    for path in photos:
        theirs = processor(PIL.Image.open(path), return_tensors="np")["pixel_values"][0]
        image = decode(path, max_pixels=10**8)
        assert np.array_equal(ImageTransform(ImageConfig()).pixels(image), theirs)


def test_pixels_of_an_even_center_crop_are_the_processors(processor) -> None:
    # where the margin is odd theirs rounds down and the release rounds halves to even
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    cropping = module.CLIPImageProcessorPil()
    rng = np.random.default_rng(0)
    image = PIL.Image.fromarray(rng.integers(0, 256, (224, 300, 3), dtype=np.uint8))
    theirs = cropping(image, return_tensors="np")["pixel_values"][0]
    ours = ImageTransform(ImageConfig(geometry="center-crop")).pixels(image)
    assert np.array_equal(ours, theirs)
