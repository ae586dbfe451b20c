"""Images of prompts to soft tokens, each distinct picture once per call.

Two images are the same picture if their sources are the same path, the same bytes, or the same
object. Soft tokens are kept only while prompts that need them are still to come, so a call over
ten thousand pictures holds a batch of them.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kosmos.document.pixels import load_pixels
from kosmos.document.types import Image
from kosmos.errors import ConfigError
from kosmos.image.transform import ImageTransform
from kosmos.model.kosmos import Kosmos

_BATCH_IMAGES = 16
"""Pictures in the vision tower at once."""


class Pictures:
    """The pictures of one call.

    Args:
        model: With a vision tower, if there is any picture.
        transform: Its preprocessing.
        images: All images that will be asked for, repeats included.

    Raises:
        ConfigError: If there are images and the model cannot see.
    """

    def __init__(self, model: Kosmos, transform: ImageTransform, images: Sequence[Image]) -> None:
        if images and model.vision is None:
            raise ConfigError(
                f"model: expected a vision tower for {len(images)} images, found a language model",
                hint="leave the images out, or load a model that sees",
            )
        self._model = model
        self._transform = transform
        self._uses = Counter(_key(image) for image in images)
        self._known: dict[Hashable, Tensor] = {}
        self.num_encoded = 0
        """Pictures that went through the vision tower so far."""

    def take(
        self, rows: Sequence[Sequence[Image]], *, names: Sequence[str]
    ) -> list[Float[Tensor, "images queries width"] | None]:
        """Soft tokens of the images of each row, None for a row without any.

        Args:
            rows: Images of a batch of prompts; each image counts as one of those announced.
            names: What each row is called in messages.
        """
        self._encode(rows, names)
        taken = [
            torch.stack([self._known[_key(image)] for image in images]) if images else None
            for images in rows
        ]
        for images in rows:
            for image in images:
                self._uses[_key(image)] -= 1
                if self._uses[_key(image)] <= 0:
                    self._known.pop(_key(image), None)
        return taken

    def _encode(self, rows: Sequence[Sequence[Image]], names: Sequence[str]) -> None:
        missing: dict[Hashable, tuple[Image, str]] = {}
        for images, name in zip(rows, names, strict=True):
            for image in images:
                if _key(image) not in self._known:
                    missing.setdefault(_key(image), (image, name))
        weight = self._model.head_weight
        keys = list(missing)
        for first in range(0, len(keys), _BATCH_IMAGES):
            chunk = keys[first : first + _BATCH_IMAGES]
            pixels = torch.cat(
                [
                    torch.from_numpy(load_pixels([image], self._transform, where=name))
                    for image, name in (missing[key] for key in chunk)
                ]
            )
            soft = self._model.encode_images(pixels.to(weight.device, weight.dtype))
            self._known.update(zip(chunk, soft, strict=True))
            self.num_encoded += len(chunk)


def _key(image: Image) -> Hashable:
    """What makes two images the same picture."""
    source = image.source
    if isinstance(source, str | Path):
        return ("path", str(source))
    if isinstance(source, bytes):
        return ("bytes", source)
    return ("object", id(source))
