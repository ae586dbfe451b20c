"""Images of prompts to soft tokens; each distinct picture is encoded once, across calls.

Pictures are told apart by content, not by name: a path, the bytes behind it and a second path to
the same bytes are one picture, and a path whose file has changed is another one. So demonstrations
of a few-shot prompt, the eight images of a Raven puzzle and a photo that ten questions are about
go through the vision tower once. The price is that a file is read and hashed each time it is
named: 0.12 ms for a photo of 156 kB, where decoding and resizing take 5 ms and the full-size tower
2 to 3 s (64 photos of COCO, one core of a machine shared with others). Against that, decoding ahead
in threads would save less than a hundredth; it is not done.

What was used last is kept, up to a number of bytes: a picture of the full-size model takes 512 KiB.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kosmos.document.types import Image
from kosmos.errors import ConfigError
from kosmos.image.codec import decode, read_encoded
from kosmos.image.transform import ImageTransform
from kosmos.model.kosmos import Kosmos

CACHE_BYTES = 256 * 2**20
"""Soft tokens that are kept: those of 512 pictures at full size in float32."""

_BATCH_IMAGES = 8
"""Pictures in the vision tower at once. What its layers give of more fits no memory at hand, and
the system has to find it anew each time: 16 take 5% longer (measured, two cores)."""


class ImageCache:
    """What a model has seen: soft tokens by the content of the picture.

    Weights are taken to stay as they are; :meth:`clear` after changing them.

    Args:
        model: With a vision tower, if it will be shown any picture.
        transform: Its preprocessing.
        max_bytes: Most bytes of soft tokens kept between calls of :meth:`ImageBatch.encode`; 0
            keeps none, so that a picture is encoded once in each batch.

    Raises:
        ConfigError: If ``max_bytes`` is negative.
    """

    def __init__(
        self, model: Kosmos, transform: ImageTransform, *, max_bytes: int = CACHE_BYTES
    ) -> None:
        if max_bytes < 0:
            raise ConfigError(f"image_cache_bytes: expected at least 0, found {max_bytes}")
        self.model = model
        self.transform = transform
        self.max_bytes = max_bytes
        self.num_encoded = 0
        """Pictures that went through the vision tower so far."""
        self.num_found = 0
        """Images that did not have to, because the same picture had."""
        self.num_bytes = 0
        """Bytes of soft tokens kept."""
        self._known: OrderedDict[str, Tensor] = OrderedDict()  # least recently used first

    def batch(self) -> "ImageBatch":
        """An empty batch of prompts, to add the images of each to."""
        return ImageBatch(self)

    def take(
        self, rows: Sequence[Sequence[Image]], *, names: Sequence[str]
    ) -> list[Float[Tensor, "images queries width"] | None]:
        """Soft tokens of the images of each row, None for a row without any.

        Args:
            rows: Images of a batch of prompts.
            names: What each row is called in messages.

        Raises:
            ConfigError: If there are images and the model cannot see.
            ImageError: If a picture cannot be read, naming its row.
        """
        batch = self.batch()
        for images, name in zip(rows, names, strict=True):
            batch.add(images, name=name)
        return batch.encode()

    def clear(self) -> None:
        """Forget all pictures."""
        self._known.clear()
        self.num_bytes = 0

    def find(self, key: str) -> Float[Tensor, "queries width"] | None:
        """Soft tokens of a picture, if they are kept; they count as used."""
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def keep(self, key: str, soft: Float[Tensor, "queries width"]) -> None:
        """Keep soft tokens, and let go of those not used for longest that are too many."""
        if key in self._known:
            return
        self._known[key] = soft
        self.num_bytes += soft.nbytes
        while self.num_bytes > self.max_bytes:
            _, oldest = self._known.popitem(last=False)
            self.num_bytes -= oldest.nbytes


class ImageBatch:
    """Images of prompts that are read together.

    Its pictures stay until it is encoded, whatever :class:`ImageCache` has room for.

    Args:
        pictures: Where soft tokens are looked up and kept.
    """

    def __init__(self, pictures: ImageCache) -> None:
        self._pictures = pictures
        self._rows: list[list[str]] = []
        self._soft: dict[str, Tensor] = {}
        self._pixels: dict[str, np.ndarray] = {}

    def add(self, images: Sequence[Image], *, name: str) -> None:
        """Read the images of the next prompt; one that fails leaves the batch as it was.

        Args:
            images: In order; any number.
            name: What the prompt is called in messages.

        Raises:
            ConfigError: If there are images and the model cannot see.
            ImageError: If one cannot be read, naming the prompt.
        """
        if images and self._pictures.model.vision is None:
            raise ConfigError(
                f"{name}: expected a vision tower for {len(images)} images, found a language model",
                hint="leave the images out, or load a model that sees",
            )
        keys = [self._read(image, f"{name}, image {index}") for index, image in enumerate(images)]
        self._rows.append(keys)

    def encode(self) -> list[Float[Tensor, "images queries width"] | None]:
        """Soft tokens of each prompt added, None for one without images."""
        model, pictures = self._pictures.model, self._pictures
        wanted = dict.fromkeys(key for row in self._rows for key in row)
        missing = [key for key in wanted if key not in self._soft]
        for first in range(0, len(missing), _BATCH_IMAGES):
            chunk = missing[first : first + _BATCH_IMAGES]
            pixels = torch.from_numpy(np.stack([self._pixels[key] for key in chunk]))
            encoded = model.encode_images(pixels.to(model.device, model.dtype))
            for key, soft in zip(chunk, encoded, strict=True):
                # a view would hold the memory of all of the chunk
                self._soft[key] = soft.clone()
                pictures.keep(key, self._soft[key])
            pictures.num_encoded += len(chunk)
        pictures.num_found += sum(map(len, self._rows)) - len(missing)
        return [
            torch.stack([self._soft[key] for key in row]) if row else None for row in self._rows
        ]

    def _read(self, image: Image, name: str) -> str:
        """The key of a picture, its soft tokens or its pixels at hand."""
        source, max_pixels = image.source, self._pictures.transform.config.max_pixels
        model = self._pictures.model
        # a model that was moved or converted has soft tokens of its own
        digest = hashlib.sha256(f"{model.device} {model.dtype} ".encode())
        if isinstance(source, str | Path):
            name = f"{name}: {source}"
            source = read_encoded(source, where=name)
        picture = None
        if isinstance(source, bytes):
            digest.update(b"file ")
            digest.update(source)
        else:
            # what is hashed is what the model will see, so that a palette, transparency or a
            # rotation still to be applied make no two pictures of what is one, nor one of two
            picture = decode(source, max_pixels=max_pixels, where=name)
            digest.update(f"pixels {picture.size} ".encode())
            digest.update(picture.tobytes())
        key = digest.hexdigest()
        if key not in self._soft and key not in self._pixels:
            soft = self._pictures.find(key)
            if soft is not None:
                self._soft[key] = soft
            else:
                picture = picture or decode(source, max_pixels=max_pixels, where=name)
                self._pixels[key] = self._pictures.transform.pixels(picture)
        return key
