"""Reader: a loaded model as something that reads documents.

What every request needs before its own work begins: the model, ready for its processor; documents
as tokens that fit the context; pictures as soft tokens.
"""

import logging
import threading
import time

from kosmos.document.encode import Encoded, encode
from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError
from kosmos.generate.fixed import FixedSteps
from kosmos.generate.pictures import Pictures
from kosmos.image.transform import ImageTransform
from kosmos.model.kernels import pack_model
from kosmos.model.kosmos import Kosmos
from kosmos.weights.loaded import LoadedModel

_log = logging.getLogger(__name__)


class Reader:
    """A model with what it needs to read documents.

    Args:
        loaded: What a model folder holds.
        image_cache_bytes: Most bytes of encoded pictures kept from call to call.
        pack: Rearrange the weights for this processor at the first request, in place.

    Raises:
        ConfigError: If the layout has other slots for an image than the model has soft tokens.
    """

    def __init__(self, loaded: LoadedModel, *, image_cache_bytes: int, pack: bool) -> None:
        self._model = loaded.model.eval()
        self._packing = threading.Lock()
        self._is_ready = not pack
        connector, num_slots = loaded.model.config.connector, loaded.layout.num_image_tokens
        if connector is not None and connector.num_queries != num_slots:
            raise ConfigError(
                f"layout.num_image_tokens: expected {connector.num_queries}, the model's soft "
                f"tokens of an image, found {num_slots}"
            )
        self.tokenizer = loaded.tokenizer
        self.image = loaded.image
        self.layout = loaded.layout
        self.transform = ImageTransform(loaded.image)
        self._pictures = Pictures(self._model, self.transform, max_bytes=image_cache_bytes)
        self.fixed = FixedSteps(self._model) if self._model.device.type == "cuda" else None
        """Where steps of fixed shape come from; None where shapes follow the work."""

    @property
    def model(self) -> Kosmos:
        """The model, ready to answer."""
        self._make_ready()
        return self._model

    @property
    def pictures(self) -> Pictures:
        """Pictures seen so far, with counts of what was encoded and what was found."""
        self._make_ready()
        return self._pictures

    def _make_ready(self) -> None:
        if not self._is_ready:
            with self._packing:
                if not self._is_ready:
                    start_s = time.perf_counter()
                    num_packed = pack_model(self._model)
                    if num_packed:
                        seconds = time.perf_counter() - start_s
                        _log.info("packed %d matrices in %.1f s", num_packed, seconds)
                    self._is_ready = True

    def encode(self, doc: Document) -> Encoded:
        """Lay a document out as a prompt."""
        return encode(doc, self.tokenizer, layout=self.layout, image=self.image, complete=False)

    def room(self, num_tokens: int, name: str, *, most: int | None = None) -> int:
        """Tokens that the context has space for behind some; at least one.

        Args:
            num_tokens: How many are there.
            name: What they are called in messages.
            most: A shorter context to take instead.

        Raises:
            DataError: If there is no space.
        """
        context = self._model.config.decoder.max_tokens
        context = context if most is None else min(context, most)
        if num_tokens >= context:
            raise DataError(
                f"{name}: expected fewer tokens than the context of {context}, "
                f"found {num_tokens} tokens",
                hint="shorten the text or show fewer images; each takes "
                f"{self.layout.num_image_tokens + 2} tokens",
            )
        return context - num_tokens
