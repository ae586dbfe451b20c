"""Reader: a loaded model as something that reads documents.

What every request needs before its own work begins: the model, ready for its processor; documents
as tokens that fit the context; pictures as soft tokens.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kosmos.document.encode import Encoded, encode
from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError
from kosmos.generate.cuda_graph import GraphedSteps
from kosmos.generate.image_cache import ImageCache
from kosmos.generate.reply import Failure
from kosmos.generate.request import BAD_REQUEST
from kosmos.generate.tree import Prompt
from kosmos.image.transform import ImageTransform
from kosmos.model.forms.convert import pack_model
from kosmos.weights.loaded import LoadedModel

_log = logging.getLogger(__name__)

ONE_ROW, SEVERAL_ROWS = 1, 3
"""What packed weights save in reading one token, and in reading several or a picture: 0.13 s and
about 0.4 s at full size (measured, two cores)."""

_PACKING = 30
"""What packing costs in the same unit: 3 to 7 s at full size. Once as much could have been saved it
is done, so that no caller waits twice as long as one who knew what was to come."""


EXTRAPOLATED_TOKENS = 65_536
"""Most tokens of prompt and reply where positions are relative (xPos), which is made for reading
more than was trained on. It is a bound on memory: keys and values of so many take 24 GiB at full
size in float32."""


class Reader:
    """A model with what it needs to read documents.

    How much it reads at once depends on its positions. Sinusoidal ones end where training ended, at
    ``max_tokens``; xPos goes on to :data:`EXTRAPOLATED_TOKENS`, and the first document that does so
    is told in the log.

    Args:
        loaded: What a model folder holds.
        image_cache_bytes: Most bytes of encoded pictures kept from call to call.
        pack: Rearrange the weights for this processor, in place: at once, never, or, if None, when
            it pays, which a single short answer does not.

    Raises:
        ConfigError: If the layout has other slots for an image than the model has soft tokens.
    """

    def __init__(self, loaded: LoadedModel, *, image_cache_bytes: int, pack: bool | None) -> None:
        self.model = loaded.model.eval()
        self._packing = threading.Lock()
        self._is_ready = pack is False
        self._saved = 0
        connector, num_slots = loaded.model.config.connector, loaded.layout.num_image_tokens
        if connector is not None and connector.num_queries != num_slots:
            raise ConfigError(
                f"layout.num_image_tokens: expected {connector.num_queries}, the model's soft "
                f"tokens of an image, found {num_slots}"
            )
        self.tokenizer = loaded.tokenizer
        self.image = loaded.image
        self.layout = loaded.layout
        decoder = loaded.model.config.decoder
        self.context = decoder.max_tokens
        """Most tokens of a prompt and its reply."""
        if decoder.positions == "xpos":
            self.context = max(self.context, EXTRAPOLATED_TOKENS)
        self._has_told_length = False
        self.transform = ImageTransform(loaded.image)
        self.image_cache = ImageCache(self.model, self.transform, max_bytes=image_cache_bytes)
        """Pictures seen so far, with counts of what was encoded and what was found."""
        self.graphed = GraphedSteps(self.model) if self.model.device.type == "cuda" else None
        """Where steps of static shape come from; None where shapes follow the work."""
        if pack:
            self.pack()

    def expect(self, work: int) -> None:
        """Say what is about to be read, or has been, in units of :data:`ONE_ROW`."""
        self._saved += work
        if self._saved >= _PACKING:
            self.pack()

    def pack(self) -> None:
        """Rearrange the weights now, unless that was done or declined."""
        if not self._is_ready:
            with self._packing:
                if not self._is_ready:
                    start_s = time.perf_counter()
                    num_packed = pack_model(self.model)
                    if num_packed:
                        seconds = time.perf_counter() - start_s
                        _log.info("packed %d matrices in %.1f s", num_packed, seconds)
                    self._is_ready = True

    def encode(self, doc: Document) -> Encoded:
        """Lay a document out as a prompt."""
        return encode(doc, self.tokenizer, layout=self.layout, image=self.image, complete=False)

    def show(
        self, groups: Sequence[Mapping[str, Prompt]]
    ) -> tuple[list[dict[str, Prompt]], dict[str, Failure]]:
        """Encode the pictures of prompts, those of all groups together.

        Returns:
            The groups with their pictures encoded, none of them empty; and why prompts that are
            missing there cannot be read.
        """
        images = self.image_cache.batch()
        failed: dict[str, Failure] = {}
        for key, prompt in (item for group in groups for item in group.items()):
            try:
                images.add(prompt.encoded.images, name=prompt.name)
            except BAD_REQUEST as error:
                failed[key] = Failure(name=prompt.name, error=error)
        soft = iter(images.encode())
        shown = [
            {
                key: replace(prompt, soft_tokens=next(soft))
                for key, prompt in group.items()
                if key not in failed
            }
            for group in groups
        ]
        return [group for group in shown if group], failed

    def room(self, num_tokens: int, name: str, *, most: int | None = None) -> int:
        """Tokens that the context has space for behind some; at least one.

        Args:
            num_tokens: How many are there.
            name: What they are called in messages.
            most: A shorter context to take instead.

        Raises:
            DataError: If there is no space.
        """
        context = self.context if most is None else min(self.context, most)
        if num_tokens >= context:
            raise DataError(
                f"{name}: expected fewer tokens than the context of {context}, "
                f"found {num_tokens} tokens",
                hint="shorten the text or show fewer images; each takes "
                f"{self.layout.num_image_tokens + 2} tokens",
            )
        trained = self.model.config.decoder.max_tokens
        if num_tokens > trained and not self._has_told_length:
            self._has_told_length = True
            _log.warning(
                "%s has %d tokens, more than the %d the model was trained on; xPos extrapolates",
                *(name, num_tokens, trained),
            )
        return context - num_tokens
