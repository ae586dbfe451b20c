"""Generator: a loaded model that answers documents. The one engine behind every command.

Three requests cover captioning, questions, grounding, few-shot prompts, chats and every
evaluation: generate a reply, score given continuations, locate a phrase. A model can also tell a
reply while it grows, and give its logits.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Unpack

import torch
from jaxtyping import Float32
from torch import Tensor

from kosmos.document.encode import Encoded
from kosmos.errors import ConfigError
from kosmos.generate.config import GREEDY, Decoding, DecodingOptions, with_options
from kosmos.generate.constraints import Constraint
from kosmos.generate.engine import Engine
from kosmos.generate.image_cache import CACHE_BYTES, ImageCache
from kosmos.generate.locate import locate
from kosmos.generate.reading import Reader
from kosmos.generate.replies import pieces, replies
from kosmos.generate.reply import Failure, Piece
from kosmos.generate.request import (
    Answer,
    Generate,
    Locate,
    PromptLike,
    Request,
    Score,
    as_document,
    named,
    prompt_name,
    windows,
)
from kosmos.generate.scoring import scores
from kosmos.model.kosmos import Kosmos
from kosmos.weights.folder import load_model
from kosmos.weights.loaded import LoadedModel

WINDOW_BATCHES = 16
"""Batches whose prompts are sorted by length together."""


class Generator(Engine):
    """An engine over a model: what answers, with what it needs to read documents.

    Args:
        loaded: What a model folder holds.
        image_cache_bytes: Most bytes of encoded pictures kept from call to call; 0 keeps none.

    Raises:
        ConfigError: If the layout has more or fewer slots for an image than the model fills.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        image_cache_bytes: int = CACHE_BYTES,
        pack: bool | None = False,
    ) -> None:
        self._reader = Reader(loaded, image_cache_bytes=image_cache_bytes, pack=pack)
        self.tokenizer = loaded.tokenizer
        self.image = loaded.image
        self.layout = loaded.layout
        self.provenance = loaded.provenance

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "float32",
        quantize: Literal["int8"] | None = None,
        pack: bool | None = None,
    ) -> "Generator":
        """Load a model folder, ours or a Hugging Face Kosmos-2 one, or an adapter of such.

        Args:
            path: The folder. An adapter is added to the weights of its base, which must lie where
                it did in training.
            device: A torch device; ``auto`` is the GPU if there is one.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; of activations too.
            quantize: ``"int8"``: weights of one byte. A folder that holds such needs no telling.
            pack: Rearrange weights for this processor (:mod:`kosmos.model.forms.packed`), where
                that makes it faster: True now, which takes seconds at full size; None as soon as it
                pays, which a single short answer does not. Such a model answers and can be neither
                trained nor saved. False: never.

        Raises:
            CheckpointError: If the folder is not a whole model.
        """
        loaded = load_model(path, device=device, dtype=dtype, quantize=quantize)
        return cls(loaded, pack=pack)

    @property
    def model(self) -> Kosmos:
        """The model, its weights in the form they have by now."""
        return self._reader.model

    @property
    def image_cache(self) -> ImageCache:
        """Pictures seen so far, with counts of what was encoded and what was found."""
        return self._reader.image_cache

    def answer(
        self, requests: Iterable[Request], *, batch_size: int = 16, batch_tokens: int = 2048
    ) -> Iterator[tuple[str, Answer | Failure]]:
        """Answer any number of requests, 16 batches of them at a time; see :class:`Engine`."""
        for name, value in (("batch_size", batch_size), ("batch_tokens", batch_tokens)):
            if value < 1:
                raise ConfigError(f"{name}: expected at least 1, found {value}")
        for refused, groups in windows(requests, most=WINDOW_BATCHES * batch_size):
            yield from refused
            for asked in groups:
                match asked[0].request:
                    case Generate():
                        yield from replies(self._reader, asked, batch_size=batch_size)
                    case Score():
                        yield from scores(self._reader, asked, batch_tokens=batch_tokens)
                    case Locate():
                        yield from locate(self._reader, asked, batch_size=batch_size)

    def stream(
        self,
        doc: PromptLike,
        *,
        decoding: Decoding = GREEDY,
        constraint: Constraint | None = None,
        **options: Unpack[DecodingOptions],
    ) -> Iterator[Piece]:
        """Continue a document and tell the reply while it grows; not with beams.

        Args:
            doc: The prompt.
            decoding: How tokens are chosen.
            constraint: What the reply may say.
            options: As for :meth:`generate`.

        Returns:
            Pieces whose words and whose spans add up to those of the reply. The last one has the
            reply, the same as :meth:`generate` gives. Words that may turn out to begin a stop
            string are held back.

        Raises:
            ConfigError: If there are beams, of which none is certain before the end; and
                otherwise as :meth:`generate`, when the first piece is asked for.
        """
        if options:
            decoding = with_options(decoding, options)
        if decoding.num_beams > 1:
            raise ConfigError(
                f"decoding.num_beams: expected 1 to tell a reply while it grows, "
                f"found {decoding.num_beams}",
                hint="generate gives the reply of beams, when it is complete",
            )
        request = Generate(doc=as_document(doc), decoding=decoding, constraint=constraint)
        return pieces(self._reader, named(request, None))

    @torch.inference_mode()
    def logits(self, doc: PromptLike) -> Float32[Tensor, "tokens vocab"]:
        """Scores of the next token behind each token of a document, on the CPU.

        Raises:
            DataError: If the document does not fit the model's context.
        """
        doc = as_document(doc)
        encoded = self.encode(doc)
        name = prompt_name(doc, None)
        self._reader.room(len(encoded) - 1, name)
        (soft,) = self.image_cache.take([encoded.images], names=[name])
        device = self.model.device
        hidden = self.model(
            torch.from_numpy(encoded.token_ids)[None].to(device),
            image_slots=torch.from_numpy(encoded.image_slots)[None].to(device),
            image_embeddings=soft,
        )
        return self.model.logits(hidden[0]).float().cpu()

    def encode(self, doc: PromptLike) -> Encoded:
        """Lay a document out as a prompt, as every method here does."""
        return self._reader.encode(as_document(doc))


def load(
    path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    quantize: Literal["int8"] | None = None,
    pack: bool | None = None,
) -> Generator:
    """Load a model folder, a Hugging Face one or an adapter; see :meth:`Generator.load`."""
    return Generator.load(path, device=device, dtype=dtype, quantize=quantize, pack=pack)
