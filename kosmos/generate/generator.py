"""Generator: a loaded model that answers documents. The one engine behind every command.

Three requests cover captioning, questions, grounding, few-shot prompts, chats and every
evaluation: generate a reply, score given continuations, locate a phrase. :meth:`Generator.answer`
takes any number of them; the other methods ask it for less.

- :class:`Generator`
- :func:`load`, which is ``kosmos.load``
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import torch
from jaxtyping import Float32
from torch import Tensor

from kosmos.document.encode import Encoded
from kosmos.document.types import Document
from kosmos.errors import ConfigError
from kosmos.generate.config import GREEDY, Decoding, DecodingOptions, with_options
from kosmos.generate.constraints import Constraint, ConstraintOption, per_document
from kosmos.generate.image_cache import CACHE_BYTES, ImageCache
from kosmos.generate.locate import locate
from kosmos.generate.reading import Reader
from kosmos.generate.replies import pieces, replies
from kosmos.generate.reply import CandidateScore, Failure, Located, Piece, Reply
from kosmos.generate.request import (
    Answer,
    Generate,
    Locate,
    PromptLike,
    Request,
    Score,
    as_document,
    as_documents,
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


class Generator:
    """A model with what it needs to read documents and to answer them.

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
        """Answer any number of requests, each by itself, as they finish.

        An answer depends on its request only, not on its company. Requests are asked for a window
        of 16 batches at a time, so there may be more of them than memory holds.

        Args:
            requests: Of any kinds and options.
            batch_size: Most prompts read at once; lower it to save memory.
            batch_tokens: Most tokens read at once where candidates are scored.

        Yields:
            The id of a request, or its place among them if it has none, with its answer or with
            why there is none: a picture that cannot be read, words that do not fit the context,
            options that leave nothing to say, an id that came before. Each request once, in any
            order within its window.

        Raises:
            ConfigError: If a batch is to have less than one.
            CheckpointError: If the model's logits are not finite, naming the document.
        """
        _check_positive("batch_size", batch_size)
        _check_positive("batch_tokens", batch_tokens)
        return self._answer(requests, batch_size, batch_tokens)

    def _answer(
        self, requests: Iterable[Request], batch_size: int, batch_tokens: int
    ) -> Iterator[tuple[str, Answer | Failure]]:
        for window in windows(requests, most=WINDOW_BATCHES * batch_size):
            yield from window.refused
            for asked in window.generate.values():
                yield from replies(self._reader, asked, batch_size=batch_size)
            yield from scores(self._reader, window.score, batch_tokens=batch_tokens)
            for sought in window.locate.values():
                yield from locate(self._reader, sought, batch_size=batch_size)

    def _all(
        self,
        requests: Sequence[Request],
        *,
        batch_size: int = 16,
        batch_tokens: int = 2048,
        errors: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """The answers to requests without ids, in their order."""
        found: dict[str, Answer | Failure] = {}
        for key, answer in self.answer(requests, batch_size=batch_size, batch_tokens=batch_tokens):
            if isinstance(answer, Failure) and errors == "raise":
                raise answer.error
            found[key] = answer
        return [found[str(place)] for place in range(len(requests))]

    # a string is a sequence of strings too; the first overloads take it, as the code does
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        docs: PromptLike,
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[DecodingOptions],
    ) -> Reply: ...

    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        docs: PromptLike,
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
        errors: Literal["return"],
        **options: Unpack[DecodingOptions],
    ) -> Reply | Failure: ...

    @overload
    def generate(
        self,
        docs: Sequence[PromptLike],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[DecodingOptions],
    ) -> list[Reply]: ...

    @overload
    def generate(
        self,
        docs: Sequence[PromptLike],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
        errors: Literal["return"],
        **options: Unpack[DecodingOptions],
    ) -> list[Reply | Failure]: ...

    def generate(
        self,
        docs: PromptLike | Sequence[PromptLike],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
        errors: Literal["raise", "return"] = "raise",
        **options: Unpack[DecodingOptions],
    ) -> Reply | Failure | Sequence[Reply | Failure]:
        """Continue a document, or each of a list of documents.

        A reply depends on its document and the options only, not on the list it came in. A string
        is taken as a document of one text, a picture as one of one image. An empty document is
        the prompt ``<s>``.

        Args:
            docs: Prompts, with images anywhere. A text may carry grounding markup.
            decoding: How tokens are chosen.
            batch_size: Most documents read at once; lower it to save memory.
            constraint: What replies may say, such as
                :class:`~kosmos.generate.choices.Choices` or
                :class:`~kosmos.generate.grammar.GroundedGrammar`; one for all documents, or a
                list with one, or None, for each.
            errors: What becomes of a document that cannot be answered, because a picture of it
                cannot be read or because it (or its constraint) does not fit the context:
                ``"raise"`` ends the call, ``"return"`` puts a
                :class:`~kosmos.generate.reply.Failure` in its place, and the others get their
                replies.
            options: Fields of :class:`~kosmos.generate.config.Decoding` to change, such as
                ``max_new_tokens=64, num_beams=5``.

        Returns:
            A reply, or a list of them in the order of the documents.

        Raises:
            ConfigError: If an option is unknown or impossible, or a constraint lets a document
                say nothing, naming it.
            DataError: If a prompt leaves no room for a reply in the model's context.
            ImageError: If a picture cannot be read, naming the document.
            CheckpointError: If the model's logits are not finite, naming the step.
        """
        if options:
            decoding = with_options(decoding, options)
        if errors not in ("raise", "return"):
            raise ConfigError(f"errors: expected 'raise' or 'return', found {errors!r}")
        asked = as_documents(docs)
        requests = [
            Generate(doc=doc, decoding=decoding, constraint=bound)
            for doc, bound in zip(asked, per_document(constraint, len(asked)), strict=True)
        ]
        found: list[Reply | Failure] = [
            answer if isinstance(answer, Failure) else answer[0]
            for answer in self._all(requests, batch_size=batch_size, errors=errors)
        ]
        return found[0] if isinstance(docs, PromptLike) else found

    def replies(
        self,
        docs: Sequence[PromptLike],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
    ) -> Iterator[tuple[int, Reply | Failure]]:
        """:meth:`generate` with ``errors="return"``, each answer as soon as it is there."""
        bounds = per_document(constraint, len(docs))
        asked = [
            Generate(doc=as_document(doc), decoding=decoding, constraint=bound)
            for doc, bound in zip(docs, bounds, strict=True)
        ]
        for key, answer in self.answer(asked, batch_size=batch_size):
            yield int(key), answer if isinstance(answer, Failure) else answer[0]  # type: ignore

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

    def generate_n(
        self,
        doc: PromptLike,
        num_replies: int,
        *,
        decoding: Decoding = GREEDY,
        constraint: Constraint | None = None,
        **options: Unpack[DecodingOptions],
    ) -> list[Reply]:
        """Several replies to one document, which is read once.

        With beams the best of them; with a temperature so many draws, of which one is the reply
        that :meth:`generate` gives, and the same draw may come twice.

        Args:
            doc: The prompt.
            num_replies: How many; at most ``num_beams`` with beams.
            decoding: How tokens are chosen.
            constraint: What the replies may say.
            options: As for :meth:`generate`.

        Returns:
            Replies, best first: beams by what they are worth, draws by their log-probability.
            Fewer than asked for only where a constraint lets fewer beams finish.

        Raises:
            ConfigError: If there are not so many replies; and otherwise as :meth:`generate`.
        """
        if options:
            decoding = with_options(decoding, options)
        request = Generate(
            doc=as_document(doc),
            decoding=decoding,
            constraint=constraint,
            num_replies=num_replies,
        )
        found: list[Reply] = self._all([request])[0]
        return found

    def score(
        self,
        doc: PromptLike,
        candidates: Sequence[str | Document],
        *,
        end: bool = False,
        neutral: PromptLike | None = None,
        batch_tokens: int = 2048,
    ) -> list[CandidateScore]:
        """Log-probability of each candidate as the continuation of a document.

        What the candidates share, the document first of all, is read once. A string is tokenized
        by itself, as every part of a document is, so ``"Yes"`` and ``" Yes"`` are the same
        candidate.

        Args:
            doc: The prompt.
            candidates: Strings, which may carry markup, or documents; at least one. Images of a
                candidate are shown and not scored. Boxes of a candidate that no image precedes lie
                in the last image of the prompt.
            end: Whether ``</s>`` behind the candidate counts as well.
            neutral: A prompt that says nothing of the case, such as ``"Answer:"``. Each score then
                also has the candidate's log-probability behind it, and so
                :attr:`~kosmos.generate.reply.CandidateScore.pmi_logprob`.
            batch_tokens: Most tokens read at once; lower it to save memory.

        Raises:
            ConfigError: If there is no candidate, or one has no words.
            DataError: If prompt and candidate do not fit the model's context, or if the prompt
                would be another one (begin with ``<grounding>``) before this candidate.
        """
        return self.score_many(
            [(doc, candidates)], end=end, neutral=neutral, batch_tokens=batch_tokens
        )[0]

    def score_many(
        self,
        asks: Sequence[tuple[PromptLike, Sequence[str | Document]]],
        *,
        end: bool = False,
        neutral: PromptLike | None = None,
        batch_tokens: int = 2048,
    ) -> list[list[CandidateScore]]:
        """:meth:`score` for many prompts, each with its candidates; the same scores, sooner.

        Args:
            asks: Prompts and their candidates.
            end: As for :meth:`score`.
            neutral: As for :meth:`score`.
            batch_tokens: As for :meth:`score`.

        Raises:
            ConfigError: As for :meth:`score`.
            DataError: As for :meth:`score`.
        """
        unsaid = None if neutral is None else as_document(neutral)
        return self._all(
            [
                Score(doc=as_document(doc), candidates=candidates, end=end, neutral=unsaid)
                for doc, candidates in asks
            ],
            batch_tokens=batch_tokens,
        )

    @overload
    def locate(  # type: ignore[overload-overlap]
        self,
        docs: PromptLike,
        phrase: str | None = None,
        *,
        k: int = 5,
        nms: float | None = None,
        batch_size: int = 16,
    ) -> list[Located]: ...

    @overload
    def locate(
        self,
        docs: Sequence[PromptLike],
        phrase: str | None = None,
        *,
        k: int = 5,
        nms: float | None = None,
        batch_size: int = 16,
    ) -> list[list[Located]]: ...

    def locate(
        self,
        docs: PromptLike | Sequence[PromptLike],
        phrase: str | None = None,
        *,
        k: int = 5,
        nms: float | None = None,
        batch_size: int = 16,
    ) -> list[Located] | list[list[Located]]:
        """The k most probable boxes of a phrase in the last image of a document, exactly.

        ``locate(picture, "the dog on the left")``. All pairs of location tokens whose corners are
        in order take part, and each has the log-probability that the model gives it among all
        tokens, behind ``<object>``. Where a model is sure of the first cell this takes a few tokens
        of reading; where all cells are alike to it, one for each cell of the grid.

        Args:
            docs: A document or a list of them: images, and words if the phrase has a context.
            phrase: What to look for, in each. None where a document asks itself, with words that
                end in ``<phrase>...</phrase>``, in ``<object>``, or in the delimiter behind a box.
            k: Boxes of each document; fewer come only if there are no more.
            nms: Leave out each box that overlaps a likelier one that is kept by more than this
                intersection over union, and go on to the next; None leaves out none.
            batch_size: Most documents read at once.

        Returns:
            The boxes, the likeliest first; for a list of documents a list of those.

        Raises:
            ConfigError: If an option is impossible, or the vocabulary has no location tokens.
            DataError: If a document has no image, asks for no box, or does not fit the context.
        """
        requests = [Locate(doc=doc, phrase=phrase, k=k, nms=nms) for doc in as_documents(docs)]
        found: list[list[Located]] = self._all(requests, batch_size=batch_size)
        return found[0] if isinstance(docs, PromptLike) else found

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


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name}: expected at least 1, found {value}")
