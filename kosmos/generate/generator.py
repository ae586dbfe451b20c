"""Generator: a loaded model that answers documents. The one engine behind every command.

Three requests cover captioning, questions, grounding, few-shot prompts, chats and every
evaluation: generate a reply, score given continuations, give the logits.

- :class:`Generator`
- :func:`load`, which is ``kosmos.load``
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, Unpack, overload

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float32
from torch import Tensor

from kosmos import config, runtime
from kosmos.document.encode import Encoded, encode
from kosmos.document.types import Document, Grounded, Image, Part, Text
from kosmos.errors import ConfigError, DataError
from kosmos.generate.config import GREEDY, Decoding, DecodingOptions
from kosmos.generate.constraints import Constraints, StopStrings
from kosmos.generate.grounding import make_reply
from kosmos.generate.pictures import Pictures
from kosmos.generate.reply import Reply, Score
from kosmos.generate.rollout import Prompt, Rollout
from kosmos.generate.scoring import Continuation, score_continuations
from kosmos.generate.search import Draft, Start, choose_replies, search_beams
from kosmos.image.transform import ImageTransform
from kosmos.weights.folder import load_model
from kosmos.weights.loaded import LoadedModel

Ask: TypeAlias = Document | Text | Grounded | Image | str | PIL.Image.Image
"""A prompt: a document, or something that is one part of one."""


class Generator:
    """A model with what it needs to read documents and to answer them.

    Args:
        loaded: What a model folder holds.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.model = loaded.model.eval()
        self.tokenizer = loaded.tokenizer
        self.image = loaded.image
        self.layout = loaded.layout
        self.provenance = loaded.provenance
        self._transform = ImageTransform(loaded.image)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", dtype: str = "float32") -> "Generator":
        """Load a model folder, ours or a Hugging Face Kosmos-2 one.

        Args:
            path: The folder.
            device: A torch device.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

        Raises:
            CheckpointError: If the folder is not a whole model.
        """
        return cls(load_model(path, device=device, dtype=dtype))

    # a string is a sequence of strings too; the first overload takes it, as the code does
    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        docs: Ask,
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        **options: Unpack[DecodingOptions],
    ) -> Reply: ...

    @overload
    def generate(
        self,
        docs: Sequence[Ask],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        **options: Unpack[DecodingOptions],
    ) -> list[Reply]: ...

    @torch.inference_mode()
    def generate(
        self,
        docs: Ask | Sequence[Ask],
        *,
        decoding: Decoding = GREEDY,
        batch_size: int = 16,
        **options: Unpack[DecodingOptions],
    ) -> Reply | list[Reply]:
        """Continue a document, or each of a list of documents.

        A reply depends on its document and the options only, not on the list it came in. A string
        is taken as a document of one text, a picture as one of one image.

        Args:
            docs: Prompts, with images anywhere. A text may carry grounding markup.
            decoding: How tokens are chosen.
            batch_size: Most documents read at once; lower it to save memory.
            options: Fields of :class:`~kosmos.generate.config.Decoding` to change, such as
                ``max_new_tokens=64, num_beams=5``.

        Returns:
            A reply, or a list of them in the order of the documents.

        Raises:
            ConfigError: If an option is unknown or impossible.
            DataError: If a prompt leaves no room for a reply in the model's context.
            ImageError: If a picture cannot be read, naming the document.
            CheckpointError: If the model's logits are not finite, naming the step.
        """
        if options:
            decoding = config.replace(decoding, options)
        _check_batch_size(batch_size)
        if isinstance(docs, Document | Text | Grounded | Image | str | PIL.Image.Image):
            return self._generate([_document(docs)], decoding, batch_size)[0]
        return self._generate([_document(doc) for doc in docs], decoding, batch_size)

    @torch.inference_mode()
    def score(
        self,
        doc: Ask,
        candidates: Sequence[str | Document],
        *,
        end: bool = False,
        batch_size: int = 16,
    ) -> list[Score]:
        """Log-probability of each candidate as the continuation of a document.

        The document is read once. A string is tokenized by itself, as every part of a document
        is, so ``"Yes"`` and ``" Yes"`` are the same candidate.

        Args:
            doc: The prompt.
            candidates: Strings, which may carry markup, or documents. Images of a candidate are
                shown and not scored. Boxes of a candidate that no image precedes lie in the last
                image of the prompt.
            end: Whether ``</s>`` behind the candidate counts as well.
            batch_size: Most candidates read at once.

        Raises:
            ConfigError: If a candidate has no words.
            DataError: If prompt and candidate do not fit the model's context, or if the prompt
                would be another one (begin with ``<grounding>``) before this candidate.
        """
        _check_batch_size(batch_size)
        prompt_doc = _document(doc)
        prompt = self.encode(prompt_doc)
        rows = [
            self._continuation(prompt_doc, prompt, candidate, end=end, name=f"candidate {index}")
            for index, candidate in enumerate(candidates)
        ]
        for index, row in enumerate(rows):
            self._room(len(prompt) + len(row.token_ids) - 1, f"candidate {index} and its prompt")
        images = [row.images for row in rows]
        name = _name(prompt_doc, None)
        everything = [*prompt.images, *(image for row in images for image in row)]
        pictures = Pictures(self.model, self._transform, everything)
        (soft,) = pictures.take([prompt.images], names=[name])
        continuations = [
            Continuation(
                token_ids=row.token_ids,
                image_slots=row.image_slots,
                counted=row.loss_mask,
                soft_tokens=tokens,
                name=f"candidate {index}",
            )
            for index, (row, tokens) in enumerate(
                zip(rows, pictures.take(images, names=[name] * len(images)), strict=True)
            )
        ]
        read = Prompt(encoded=prompt, soft_tokens=soft, name=name)
        return score_continuations(self.model, read, continuations, batch_size=batch_size)

    @torch.inference_mode()
    def logits(self, doc: Ask) -> Float32[Tensor, "tokens vocab"]:
        """Scores of the next token behind each token of a document, on the CPU.

        Raises:
            DataError: If the document does not fit the model's context.
        """
        encoded = self.encode(doc)
        name = _name(_document(doc), None)
        self._room(len(encoded) - 1, name)
        pictures = Pictures(self.model, self._transform, encoded.images)
        (soft,) = pictures.take([encoded.images], names=[name])
        device = self.model.head_weight.device
        hidden = self.model(
            torch.from_numpy(encoded.token_ids)[None].to(device),
            image_slots=torch.from_numpy(encoded.image_slots)[None].to(device),
            image_embeddings=soft,
        )
        return self.model.logits(hidden[0]).float().cpu()

    def encode(self, doc: Ask) -> Encoded:
        """Lay a document out as a prompt, as every method here does."""
        return encode(
            _document(doc), self.tokenizer, layout=self.layout, image=self.image, complete=False
        )

    def _generate(
        self, docs: Sequence[Document], decoding: Decoding, batch_size: int
    ) -> list[Reply]:
        names = [_name(doc, index if len(docs) > 1 else None) for index, doc in enumerate(docs)]
        rows = [self.encode(doc) for doc in docs]
        limits = [self._limit(row, decoding, name) for row, name in zip(rows, names, strict=True)]
        pictures = Pictures(
            self.model, self._transform, [image for row in rows for image in row.images]
        )
        # prompts of like length share a batch, so little of it is padding
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        replies: dict[int, Reply] = {}
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            soft = pictures.take(
                [rows[index].images for index in batch], names=[names[index] for index in batch]
            )
            prompts = [
                Prompt(encoded=rows[index], soft_tokens=tokens, name=names[index])
                for index, tokens in zip(batch, soft, strict=True)
            ]
            keys = [docs[index].id for index in batch]
            drafts = self._search(prompts, [limits[index] for index in batch], keys, decoding)
            for index, draft in zip(batch, drafts, strict=True):
                replies[index] = make_reply(
                    draft,
                    rows[index],
                    tokenizer=self.tokenizer,
                    transform=self._transform,
                    stop=decoding.stop,
                )
        return [replies[index] for index in range(len(docs))]

    def _search(
        self,
        prompts: Sequence[Prompt],
        limits: Sequence[int],
        keys: Sequence[str],
        decoding: Decoding,
    ) -> list[Draft]:
        use_beams = decoding.num_beams > 1
        rollout = Rollout(
            self.model,
            prompts,
            room=max(limits) - 1,
            score_prompts=use_beams and decoding.score_prompt,
        )
        starts = [
            Start(
                prompt=prompt.token_ids,
                limit=limit,
                rng=runtime.generator(decoding.seed, "sample", key),
                is_stopped=StopStrings(decoding.stop, self.tokenizer.stream())
                if decoding.stop
                else None,
                prompt_log_prob=log_prob,
            )
            for prompt, limit, key, log_prob in zip(
                prompts, limits, keys, rollout.prompt_log_probs, strict=True
            )
        ]
        constraints = Constraints.of(decoding, self.tokenizer.vocabulary)
        search = search_beams if use_beams else choose_replies
        return search(rollout, starts, decoding, constraints)

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

    def _continuation(
        self, doc: Document, prompt: Encoded, candidate: str | Document, *, end: bool, name: str
    ) -> Encoded:
        """Tokens of a candidate behind a prompt, without the prompt's."""
        answer = _document(candidate)
        if answer.is_grounded:
            # boxes may lie in an image of the prompt, so the two are laid out together
            whole = self.encode(_joined(doc, answer))
            size = len(prompt)
        else:
            whole, size = self.encode(answer), 1
        if answer.is_grounded and not np.array_equal(whole.token_ids[:size], prompt.token_ids):
            raise DataError(
                f"{name}: expected a prompt whose words begin with <grounding>, "
                "found boxes behind one that does not",
                hint="put <grounding> before the words of the prompt, behind its last image",
            )
        extra = [self.tokenizer.vocabulary.eos_id] if end else []
        num_images = len(answer.images)
        return Encoded(
            token_ids=np.concatenate([whole.token_ids[size:], np.array(extra, dtype=np.int64)]),
            image_slots=np.concatenate([whole.image_slots[size:], np.zeros(len(extra), np.bool_)]),
            loss_mask=np.concatenate([whole.loss_mask[size:], np.ones(len(extra), np.bool_)]),
            images=answer.images,
            image_sizes=whole.image_sizes[len(whole.image_sizes) - num_images :],
        )


def load(path: str | Path, *, device: str = "cpu", dtype: str = "float32") -> Generator:
    """Load a model folder, ours or a Hugging Face Kosmos-2 one; see :meth:`Generator.load`."""
    return Generator.load(path, device=device, dtype=dtype)


def _joined(doc: Document, answer: Document) -> Document:
    """One document in which prompt and answer are not tokenized as one run of words."""
    parts = list(doc.parts)
    if parts and _run(parts[-1]) == _run(answer.parts[0]):
        # flags end a run; with all of them flipped, the runs of the prompt stay what they are
        parts = [p if isinstance(p, Image) else replace(p, loss=not p.loss) for p in parts]
    return Document([*parts, *answer.parts], id=doc.id)


def _run(part: Part) -> tuple[str, bool] | None:
    """What ends a run of words when it changes; None for an image, which always does."""
    return None if isinstance(part, Image) else (part.role, part.loss)


def _document(ask: object) -> Document:
    if isinstance(ask, Document):
        return ask
    if isinstance(ask, str):
        return Document([Text(ask)])
    if isinstance(ask, PIL.Image.Image):
        return Document([Image(ask)])
    if isinstance(ask, Text | Grounded | Image):
        return Document([ask])
    raise ConfigError(
        f"docs: expected a Document, a part of one, a string or a picture, "
        f"found {type(ask).__name__}",
        hint="Document([Image('dog.jpg'), Text('An image of')])",
    )


def _name(doc: Document, index: int | None) -> str:
    if doc.id:
        return f"document {doc.id!r}"
    return "document" if index is None else f"document {index}"


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, found {batch_size}")
