"""Generator: a loaded model that answers documents. The one engine behind every command.

Three requests cover captioning, questions, grounding, few-shot prompts, chats and every
evaluation: generate a reply, score given continuations, give the logits.

- :class:`Generator`
- :func:`load`, which is ``kosmos.load``
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Unpack, overload

import PIL.Image
import torch
from jaxtyping import Float32
from torch import Tensor

from kosmos import config, runtime
from kosmos.document.encode import Encoded, encode
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError, MarkupError
from kosmos.generate.asks import Ask, as_document, ask_name, encode_continuation
from kosmos.generate.config import GREEDY, Decoding, DecodingOptions
from kosmos.generate.constraints import (
    Constraint,
    ConstraintOption,
    Constraints,
    Place,
    StopStrings,
    per_document,
)
from kosmos.generate.fixed import FixedSteps
from kosmos.generate.grounding import make_located, make_reply
from kosmos.generate.locating import ask_where, best_pairs, open_object
from kosmos.generate.pictures import CACHE_BYTES, Pictures
from kosmos.generate.reply import Failure, Located, Piece, Reply, Score
from kosmos.generate.rollout import Rollout
from kosmos.generate.schedule import batches, shared_groups
from kosmos.generate.scoring import Candidate, make_candidate, score_candidates
from kosmos.generate.search import Draft, Start, choose_replies, grow_replies, rank_beams
from kosmos.generate.tree import Prompt
from kosmos.generate.unfolding import Unfolding
from kosmos.image.transform import ImageTransform
from kosmos.model.kernels import pack_model
from kosmos.model.kosmos import Kosmos
from kosmos.weights.folder import load_model
from kosmos.weights.loaded import LoadedModel

_log = logging.getLogger(__name__)

_WINDOW_ASKS = 256
"""Prompts with candidates that are laid out and kept at once."""


_BAD_DOCUMENT = (DataError, MarkupError)
"""What can be wrong with a document, and not with the model or the options."""


class Generator:
    """A model with what it needs to read documents and to answer them.

    Args:
        loaded: What a model folder holds.
        image_cache_bytes: Most bytes of encoded pictures kept from call to call; 0 keeps none.

    Raises:
        ConfigError: If the layout has more or fewer slots for an image than the model fills.
    """

    def __init__(self, loaded: LoadedModel, *, image_cache_bytes: int = CACHE_BYTES) -> None:
        self._model = loaded.model.eval()
        self._packing = threading.Lock()
        self._is_packed = True  # a caller's model stays as it is; load() says otherwise
        self.tokenizer = loaded.tokenizer
        self.image = loaded.image
        self.layout = loaded.layout
        connector, num_slots = loaded.model.config.connector, loaded.layout.num_image_tokens
        if connector is not None and connector.num_queries != num_slots:
            raise ConfigError(
                f"layout.num_image_tokens: expected {connector.num_queries}, the model's soft "
                f"tokens of an image, found {num_slots}"
            )
        self.provenance = loaded.provenance
        self._transform = ImageTransform(loaded.image)
        self.pictures = Pictures(self._model, self._transform, max_bytes=image_cache_bytes)
        """Pictures seen so far, with counts of what was encoded and what was found."""
        self._fixed = FixedSteps(self._model) if self._model.device.type == "cuda" else None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        quantize: Literal["int8"] | None = None,
        pack: bool = True,
    ) -> "Generator":
        """Load a model folder, ours or a Hugging Face Kosmos-2 one.

        Args:
            path: The folder.
            device: A torch device.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; of activations too.
            quantize: ``"int8"``: weights of one byte. A folder that holds such needs no telling.
            pack: At the first request, rearrange weights for this processor
                (:mod:`kosmos.model.packed`), where that makes it faster. Such a model answers and
                can be neither trained nor saved.

        Raises:
            CheckpointError: If the folder is not a whole model.
        """
        generator = cls(load_model(path, device=device, dtype=dtype, quantize=quantize))
        generator._is_packed = not pack
        return generator

    @property
    def model(self) -> Kosmos:
        """The model, ready to answer."""
        if not self._is_packed:
            with self._packing:
                if not self._is_packed:
                    start = time.perf_counter()
                    num_packed = pack_model(self._model)
                    if num_packed:
                        _log.info(
                            "packed %d matrices in %.1f s", num_packed, time.perf_counter() - start
                        )
                    self._is_packed = True
        return self._model

    # a string is a sequence of strings too; the first overloads take it, as the code does
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        docs: Ask,
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
        docs: Ask,
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
        docs: Sequence[Ask],
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
        docs: Sequence[Ask],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
        errors: Literal["return"],
        **options: Unpack[DecodingOptions],
    ) -> list[Reply | Failure]: ...

    @torch.inference_mode()
    def generate(
        self,
        docs: Ask | Sequence[Ask],
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
            decoding = config.replace(decoding, options)
        _check_positive("batch_size", batch_size)
        if errors not in ("raise", "return"):
            raise ConfigError(f"errors: expected 'raise' or 'return', found {errors!r}")
        if isinstance(docs, Document | Text | Grounded | Image | str | PIL.Image.Image):
            asked, is_one = [as_document(docs)], True
        else:
            asked, is_one = [as_document(doc) for doc in docs], False
        answers: dict[int, Reply | Failure] = {}
        bounds = per_document(constraint, len(asked))
        for index, answer in self._answers(asked, decoding, batch_size, bounds):
            if isinstance(answer, Failure) and errors == "raise":
                raise answer.error
            answers[index] = answer if isinstance(answer, Failure) else answer[0]
        return answers[0] if is_one else [answers[index] for index in range(len(asked))]

    @torch.inference_mode()
    def replies(
        self,
        docs: Sequence[Ask],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        constraint: ConstraintOption = None,
    ) -> Iterator[tuple[int, Reply | Failure]]:
        """:meth:`generate` with ``errors="return"``, each answer as soon as it is there.

        Args:
            docs: Prompts; all are laid out before the first is answered.
            decoding: How tokens are chosen.
            batch_size: Most documents read at once.
            constraint: As for :meth:`generate`.

        Yields:
            The index of a document with its reply or failure; each index once, in any order.
        """
        _check_positive("batch_size", batch_size)
        bounds = per_document(constraint, len(docs))
        asked = [as_document(doc) for doc in docs]
        for index, answer in self._answers(asked, decoding, batch_size, bounds):
            yield index, answer if isinstance(answer, Failure) else answer[0]

    def stream(
        self,
        doc: Ask,
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
            decoding = config.replace(decoding, options)
        if decoding.num_beams > 1:
            raise ConfigError(
                f"decoding.num_beams: expected 1 to tell a reply while it grows, "
                f"found {decoding.num_beams}",
                hint="generate gives the reply of beams, when it is complete",
            )
        return self._pieces(as_document(doc), decoding, constraint)

    @torch.inference_mode()
    def generate_n(
        self,
        doc: Ask,
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
            decoding = config.replace(decoding, options)
        _check_positive("num_replies", num_replies)
        if not decoding.is_sampled and num_replies > decoding.num_beams:
            raise ConfigError(
                f"num_replies: expected at most num_beams={decoding.num_beams}, "
                f"found {num_replies}",
                hint="more beams have more replies, and so has a temperature above 0",
            )
        ((_, answer),) = self._answers(
            [as_document(doc)], decoding, 1, [constraint], num_replies=num_replies
        )
        if isinstance(answer, Failure):
            raise answer.error
        return answer

    def score(
        self,
        doc: Ask,
        candidates: Sequence[str | Document],
        *,
        end: bool = False,
        neutral: Ask | None = None,
        batch_tokens: int = 2048,
    ) -> list[Score]:
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
                :attr:`~kosmos.generate.reply.Score.pmi_logprob`.
            batch_tokens: Most tokens read at once; lower it to save memory.

        Raises:
            ConfigError: If there is no candidate, or one has no words.
            DataError: If prompt and candidate do not fit the model's context, or if the prompt
                would be another one (begin with ``<grounding>``) before this candidate.
        """
        return self.score_many(
            [(doc, candidates)], end=end, neutral=neutral, batch_tokens=batch_tokens
        )[0]

    @torch.inference_mode()
    def score_many(
        self,
        asks: Sequence[tuple[Ask, Sequence[str | Document]]],
        *,
        end: bool = False,
        neutral: Ask | None = None,
        batch_tokens: int = 2048,
    ) -> list[list[Score]]:
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
        _check_positive("batch_tokens", batch_tokens)
        scores = []
        for first in range(0, len(asks), _WINDOW_ASKS):
            window = asks[first : first + _WINDOW_ASKS]
            groups = [
                self._candidates(
                    as_document(doc), given, end=end, index=first + i if len(asks) > 1 else None
                )
                for i, (doc, given) in enumerate(window)
            ]
            if neutral is not None:
                # the same words behind the same prompt count once, however many ask for them
                groups += [
                    self._candidates(as_document(neutral), given, end=end, index=None)
                    for _, given in window
                ]
            sums = score_candidates(self.model, groups, batch_tokens=batch_tokens)
            priors: Sequence[Sequence[float | None]] = sums[len(window) :]
            if neutral is None:
                priors = [[None] * len(group) for group in groups]
            scores += [
                [
                    Score(logprob=total, num_tokens=len(item.token_ids), neutral_logprob=prior)
                    for item, total, prior in zip(*row, strict=True)
                ]
                for row in zip(groups, sums, priors, strict=False)
            ]
        return scores

    @overload
    def locate(  # type: ignore[overload-overlap]
        self,
        docs: Ask,
        phrase: str | None = None,
        *,
        k: int = 5,
        nms: float | None = None,
        batch_size: int = 16,
    ) -> list[Located]: ...

    @overload
    def locate(
        self,
        docs: Sequence[Ask],
        phrase: str | None = None,
        *,
        k: int = 5,
        nms: float | None = None,
        batch_size: int = 16,
    ) -> list[list[Located]]: ...

    @torch.inference_mode()
    def locate(
        self,
        docs: Ask | Sequence[Ask],
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
        _check_positive("batch_size", batch_size)
        if isinstance(docs, Document | Text | Grounded | Image | str | PIL.Image.Image):
            return self.locate([docs], phrase, k=k, nms=nms, batch_size=batch_size)[0]
        vocabulary = self.tokenizer.vocabulary
        asked = [ask_where(as_document(doc), phrase) for doc in docs]
        names = [
            ask_name(doc, index if len(asked) > 1 else None) for index, doc in enumerate(asked)
        ]
        rows = [
            open_object(self.encode(doc), vocabulary, name=name)
            for doc, name in zip(asked, names, strict=True)
        ]
        for row, name in zip(rows, names, strict=True):
            self._room(len(row), name)
        found: dict[int, list[Located]] = {}
        groups = shared_groups(rows, most=batch_size)
        for batch in batches(groups, [len(row) for row in rows], most=batch_size):
            members = [index for group in batch for index in group]
            soft = self.pictures.take(
                [rows[index].images for index in members], names=[names[index] for index in members]
            )
            prompts = {
                index: Prompt(encoded=rows[index], soft_tokens=tokens, name=names[index])
                for index, tokens in zip(members, soft, strict=True)
            }
            rollout = Rollout(self.model, [[prompts[i] for i in group] for group in batch], room=k)
            pairs = best_pairs(rollout, len(members), vocabulary, k=k, nms=nms)
            for index, row_pairs in zip(members, pairs, strict=True):
                found[index] = make_located(
                    row_pairs,
                    rows[index],
                    transform=self._transform,
                    num_cells=vocabulary.num_cells,
                )
        return [found[index] for index in range(len(rows))]

    @torch.inference_mode()
    def logits(self, doc: Ask) -> Float32[Tensor, "tokens vocab"]:
        """Scores of the next token behind each token of a document, on the CPU.

        Raises:
            DataError: If the document does not fit the model's context.
        """
        encoded = self.encode(doc)
        name = ask_name(as_document(doc), None)
        self._room(len(encoded) - 1, name)
        (soft,) = self.pictures.take([encoded.images], names=[name])
        device = self.model.device
        hidden = self.model(
            torch.from_numpy(encoded.token_ids)[None].to(device),
            image_slots=torch.from_numpy(encoded.image_slots)[None].to(device),
            image_embeddings=soft,
        )
        return self.model.logits(hidden[0]).float().cpu()

    def encode(self, doc: Ask) -> Encoded:
        """Lay a document out as a prompt, as every method here does."""
        return encode(
            as_document(doc), self.tokenizer, layout=self.layout, image=self.image, complete=False
        )

    def _answers(
        self,
        docs: Sequence[Document],
        decoding: Decoding,
        batch_size: int,
        bounds: Sequence[Constraint | None],
        *,
        num_replies: int = 1,
    ) -> Iterator[tuple[int, list[Reply] | Failure]]:
        names = [ask_name(doc, index if len(docs) > 1 else None) for index, doc in enumerate(docs)]
        rules = Constraints.of(decoding, self.tokenizer.vocabulary)
        rows: dict[int, Encoded] = {}
        limits: dict[int, int] = {}
        for index, doc in enumerate(docs):
            is_named = bool(doc.id) or len(docs) == 1
            try:
                # the encoder's messages say the id
                row = self.encode(doc if is_named else replace(doc, id=str(index)))
                limits[index] = self._limit(row, decoding, names[index])
                place = Place(
                    row.token_ids.tolist(), [], limits[index], bounds[index], names[index]
                )
                rules.check(place)
                rows[index] = row
            except ConfigError as error:
                if limits.get(index, decoding.max_new_tokens) == decoding.max_new_tokens:
                    raise
                # the context left too little room for what the constraint wants said
                yield index, Failure(name=names[index], error=error)
            except _BAD_DOCUMENT as error:
                yield index, Failure(name=names[index], error=error)
        places = list(rows)
        groups = shared_groups([rows[index] for index in places], most=batch_size)
        lengths = [len(rows[index]) for index in places]
        for batch in batches(groups, lengths, most=batch_size):
            images = self.pictures.batch()
            readable: list[list[int]] = []
            for group in batch:
                readable.append([])
                for index in (places[place] for place in group):
                    try:
                        images.add(rows[index].images, name=names[index])
                        readable[-1].append(index)
                    except _BAD_DOCUMENT as error:
                        yield index, Failure(name=names[index], error=error)
            members = [index for group in readable for index in group]
            prompts = {
                index: Prompt(encoded=rows[index], soft_tokens=soft, name=names[index])
                for index, soft in zip(members, images.encode(), strict=True)
            }
            if not prompts:
                continue
            drafts = self._search(
                [[prompts[index] for index in group] for group in readable if group],
                [limits[index] for index in prompts],
                [docs[index].id for index in prompts],
                decoding,
                [bounds[index] for index in prompts],
                num_replies=num_replies,
            )
            for index, own in zip(prompts, drafts, strict=True):
                yield index, [self._reply(draft, rows[index], decoding) for draft in own]

    @torch.inference_mode()
    def _pieces(
        self, doc: Document, decoding: Decoding, constraint: Constraint | None
    ) -> Iterator[Piece]:
        name = ask_name(doc, None)
        row = self.encode(doc)
        limit = self._limit(row, decoding, name)
        rules = Constraints.of(decoding, self.tokenizer.vocabulary)
        rules.check(Place(row.token_ids.tolist(), [], limit, constraint, name))
        (soft,) = self.pictures.take([row.images], names=[name])
        prompt = Prompt(encoded=row, soft_tokens=soft, name=name)
        rollout, starts = self._begin([[prompt]], [limit], [doc.id], decoding, [constraint])
        unfolding = Unfolding(
            lambda draft: self._reply(draft, row, decoding), self.tokenizer.stream(), decoding.stop
        )
        for (draft,) in grow_replies(rollout, starts, decoding, rules):
            piece = unfolding.grow(draft)
            if piece.text or piece.grounded:
                yield piece
        yield unfolding.finish(draft)

    def _reply(self, draft: Draft, prompt: Encoded, decoding: Decoding) -> Reply:
        return make_reply(
            draft,
            prompt,
            tokenizer=self.tokenizer,
            transform=self._transform,
            stop=decoding.stop,
        )

    def _search(
        self,
        groups: Sequence[Sequence[Prompt]],
        limits: Sequence[int],
        keys: Sequence[str],
        decoding: Decoding,
        bounds: Sequence[Constraint | None],
        *,
        num_replies: int,
    ) -> list[list[Draft]]:
        """For each prompt its replies, best first."""
        rules = Constraints.of(decoding, self.tokenizer.vocabulary)
        rollout, starts = self._begin(
            groups, limits, keys, decoding, bounds, num_replies=num_replies
        )
        if decoding.num_beams > 1:
            return [best[:num_replies] for best in rank_beams(rollout, starts, decoding, rules)]
        drafts = choose_replies(rollout, starts, decoding, rules)
        return [
            sorted(drafts[first : first + num_replies], key=lambda draft: -draft.logprob)
            for first in range(0, len(drafts), num_replies)
        ]

    def _begin(
        self,
        groups: Sequence[Sequence[Prompt]],
        limits: Sequence[int],
        keys: Sequence[str],
        decoding: Decoding,
        bounds: Sequence[Constraint | None],
        *,
        num_replies: int = 1,
    ) -> tuple[Rollout, list[Start]]:
        """Read prompts; with the starts of their replies, those of each side by side."""
        prompts = [prompt for group in groups for prompt in group]
        use_beams = decoding.num_beams > 1
        rollout = Rollout(
            self.model,
            groups,
            room=max(limits) - 1,
            fan=max(decoding.num_beams, num_replies),
            score_prompts=use_beams and decoding.score_prompt,
            fixed=self._fixed,
        )
        starts = [
            Start(
                prompt=prompt.token_ids,
                limit=limit,
                # of the document, whatever its company; the first reply draws as an only one does
                rng=runtime.generator(decoding.seed, "sample", number, key, *prompt.token_ids),
                stop=StopStrings(decoding.stop, self.tokenizer.stream()) if decoding.stop else None,
                prompt_log_prob=log_prob,
                constraint=constraint,
                name=prompt.name,
            )
            for prompt, limit, key, log_prob, constraint in zip(
                prompts, limits, keys, rollout.prompt_log_probs, bounds, strict=True
            )
            for number in range(1 if use_beams else num_replies)
        ]
        return rollout, starts

    def _limit(self, prompt: Encoded, decoding: Decoding, name: str) -> int:
        """Most tokens of a reply to a prompt."""
        room = self._room(len(prompt), name, most=decoding.max_total_tokens)
        return min(decoding.max_new_tokens, room)

    def _room(self, num_tokens: int, name: str, most: int | None = None) -> int:
        """Tokens that the context has space for behind some; at least one."""
        context = self.model.config.decoder.max_tokens
        context = context if most is None else min(context, most)
        if num_tokens >= context:
            raise DataError(
                f"{name}: expected fewer tokens than the context of {context}, "
                f"found {num_tokens} tokens",
                hint="shorten the text or show fewer images; each takes "
                f"{self.layout.num_image_tokens + 2} tokens",
            )
        return context - num_tokens

    def _candidates(
        self, doc: Document, given: Sequence[str | Document], *, end: bool, index: int | None
    ) -> list[Candidate]:
        """Candidates behind a prompt, their images encoded."""
        name = ask_name(doc, index)
        if isinstance(given, str) or not given:
            raise ConfigError(
                f"{name}: expected a list of at least one candidate, found {given!r}",
                hint="score(doc, ['Yes', 'No'])",
            )
        prompt = self.encode(doc)
        candidates = []
        for number, answer in enumerate(given):
            called = f"candidate {number}" if index is None else f"{name}, candidate {number}"
            continuation = encode_continuation(
                doc,
                prompt,
                as_document(answer),
                encode=self.encode,
                eos_id=self.tokenizer.vocabulary.eos_id if end else None,
                name=called,
            )
            self._room(len(prompt) + len(continuation) - 1, f"{called} and its prompt")
            (soft,) = self.pictures.take([[*prompt.images, *continuation.images]], names=[name])
            candidates.append(make_candidate(prompt, continuation, soft_tokens=soft, name=called))
        return candidates


def load(
    path: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    quantize: Literal["int8"] | None = None,
    pack: bool = True,
) -> Generator:
    """Load a model folder, ours or a Hugging Face Kosmos-2 one; see :meth:`Generator.load`."""
    return Generator.load(path, device=device, dtype=dtype, quantize=quantize, pack=pack)


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name}: expected at least 1, found {value}")
