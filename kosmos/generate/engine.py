"""Engine: whoever answers requests, and the ways to ask it for less than many of any kind.

``answer`` is the one thing an engine does; the others make requests, ask, and put the answers into
the order they were asked for. :class:`~kosmos.generate.generator.Generator` is the engine over a
loaded model.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

from kosmos.document.types import Document
from kosmos.errors import ConfigError
from kosmos.generate.config import GREEDY, Decoding, DecodingOptions, with_options
from kosmos.generate.constraints import Constraint, ConstraintOption, per_document
from kosmos.generate.reply import CandidateScore, Failure, Located, Reply
from kosmos.generate.request import (
    Answer,
    Generate,
    Locate,
    PromptLike,
    Request,
    Score,
    as_document,
    as_documents,
)


class GenerateOptions(DecodingOptions, total=False):
    """What :meth:`Engine.generate` takes by name, beside ``errors``."""

    decoding: Decoding
    batch_size: int
    constraint: ConstraintOption


class LocateOptions(TypedDict, total=False):
    """What :meth:`Engine.locate` takes by name."""

    k: int
    nms: float | None
    batch_size: int


class Engine(ABC):
    """Answers requests."""

    @abstractmethod
    def answer(
        self, requests: Iterable[Request], *, batch_size: int = 16, batch_tokens: int = 2048
    ) -> Iterator[tuple[str, Answer | Failure]]:
        """Answer any number of requests, each by itself, as they finish.

        An answer depends on its request only, not on its company. Requests are taken as they are
        answered, so there may be more of them than memory holds.

        Args:
            requests: Of any kinds and options.
            batch_size: Most prompts read at once; lower it to save memory.
            batch_tokens: Most tokens read at once where candidates are scored.

        Yields:
            The id of a request, or its place among them if it has none, with its answer or with
            why there is none: a picture that cannot be read, words that do not fit the context,
            options that leave nothing to say, an id that came before. Each request once, in any
            order among those at hand.

        Raises:
            ConfigError: If a batch is to have less than one.
            CheckpointError: If the model's logits are not finite, naming the document.
        """

    # a string is a sequence of strings too; the first overloads take it, as the code does
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        docs: PromptLike,
        *,
        errors: Literal["raise"] = "raise",
        **options: Unpack[GenerateOptions],
    ) -> Reply: ...

    @overload
    def generate(  # type: ignore[overload-overlap]
        self, docs: PromptLike, *, errors: Literal["return"], **options: Unpack[GenerateOptions]
    ) -> Reply | Failure: ...

    @overload
    def generate(
        self,
        docs: Sequence[PromptLike],
        *,
        errors: Literal["raise"] = "raise",
        **options: Unpack[GenerateOptions],
    ) -> list[Reply]: ...

    @overload
    def generate(
        self,
        docs: Sequence[PromptLike],
        *,
        errors: Literal["return"],
        **options: Unpack[GenerateOptions],
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
            for answer in self._answers(requests, batch_size=batch_size, errors=errors)
        ]
        return found[0] if isinstance(docs, PromptLike) else found

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
            num_replies: At most ``num_beams`` with beams.
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
        found: list[Reply] = self._answers([request])[0]
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
        """:meth:`score` for many prompts, each with its candidates; the same scores, sooner."""
        unsaid = None if neutral is None else as_document(neutral)
        return self._answers(
            [
                Score(doc=as_document(doc), candidates=candidates, end=end, neutral=unsaid)
                for doc, candidates in asks
            ],
            batch_tokens=batch_tokens,
        )

    @overload
    def locate(  # type: ignore[overload-overlap]
        self, docs: PromptLike, phrase: str | None = None, **options: Unpack[LocateOptions]
    ) -> list[Located]: ...

    @overload
    def locate(
        self,
        docs: Sequence[PromptLike],
        phrase: str | None = None,
        **options: Unpack[LocateOptions],
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
        found: list[list[Located]] = self._answers(requests, batch_size=batch_size)
        return found[0] if isinstance(docs, PromptLike) else found

    def _answers(
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
