"""Photographs to pixels: a hundred JPEG files to normalized arrays, bit for bit the peer's.

What it costs the peer: copies between Pillow, arrays and channel orders, and rescaling in double
precision.
"""

import sys

import numpy as np
import PIL.Image

from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.measure import DisagreementError, Target
from kosmos.document.pixels import load_pixels
from kosmos.document.types import Image
from kosmos.image.transform import ImageTransform

NUM_PHOTOS = 100
BENCHMARK = Benchmark(
    name="pixels",
    title="photo to pixels",
    workload=f"{NUM_PHOTOS} photos, identical bits",
    peer="HF processor",
    targets=[Target(name=RATIO, bound=1.3)],
    size="medium",
    rounds=7,
    on_cuda=False,
)


def prepare(setting: Setting) -> Case:
    """The files of round 0 in every round: the page cache has them, as it has for the peer."""
    transform = ImageTransform(setting.generator().image)
    process = setting.peer.processor.image_processor
    photos = setting.photos.take(0, setting.count(NUM_PHOTOS, 8))

    def ours(turn: int) -> np.ndarray:
        del turn
        return load_pixels([Image(photo) for photo in photos], transform)

    def theirs(turn: int) -> np.ndarray:
        del turn
        pictures = [PIL.Image.open(photo) for photo in photos]
        pixels: np.ndarray = process(pictures, return_tensors="np")["pixel_values"]
        return pixels

    def check() -> dict[str, object]:
        one, other = ours(0), theirs(0)
        if not np.array_equal(one, other):
            raise DisagreementError(
                f"pixels: expected the peer's bits, found {abs(one - other).max()}"
            )
        return {"identical bits": True}

    return Case(ours=ours, peer=theirs, check=check, unit="photos", count=len(photos))


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
