"""What is asked of a model, and by what name: a reply, scores of candidates, or places of a phrase.

Everything the command line, work lists, evaluation and a server want is one of three requests, each
with an id and options of its own; :meth:`~kosmos.generate.generator.Generator.answer` answers any
number of them in any mixture. An answer is a list: of replies, best first; of scores, one for each
candidate in order; of boxes, likeliest first. What cannot be answered gets a
:class:`~kosmos.generate.reply.Failure`, and the others their answers.

- :class:`Generate`, :class:`Score`, :class:`Locate`, together :data:`Request`
- :data:`Answer`
- :data:`PromptLike`, :func:`as_document`: whatever is a document or one part of one
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import PIL.Image

from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError
from kosmos.generate.config import GREEDY, Decoding
from kosmos.generate.reply import CandidateScore, Located, Reply

if TYPE_CHECKING:
    # its file imports torch
    from kosmos.generate.constraints import Constraint


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Continue a document."""

    doc: Document
    """The prompt, with images anywhere."""
    id: str = ""
    """By which the answer is told; empty: its place among the requests."""
    decoding: Decoding = GREEDY
    """How tokens are chosen."""
    constraint: "Constraint | None" = None
    """What the reply may say; None for anything."""
    num_replies: int = 1
    """Replies wanted: the best beams, or so many draws."""

    def __post_init__(self) -> None:
        if self.num_replies < 1:
            raise ConfigError(f"num_replies: expected at least 1, found {self.num_replies}")
        if not self.decoding.is_sampled and self.num_replies > self.decoding.num_beams:
            raise ConfigError(
                f"num_replies: expected at most num_beams={self.decoding.num_beams}, "
                f"found {self.num_replies}",
                hint="more beams have more replies, and so has a temperature above 0",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Say how likely each of some candidates is behind a document."""

    doc: Document
    """The prompt."""
    candidates: Sequence[str | Document]
    """Continuations, at least one; strings may carry markup."""
    id: str = ""
    """By which the answer is told; empty: its place among the requests."""
    end: bool = False
    """Whether ``</s>`` behind a candidate counts as well."""
    neutral: Document | None = None
    """A prompt that says nothing of the case, to score the candidates behind as well."""

    def __post_init__(self) -> None:
        if isinstance(self.candidates, str):
            raise ConfigError(
                f"candidates: expected a list of them, found the string {self.candidates!r}",
                hint="score(doc, ['Yes', 'No'])",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Locate:
    """Find the likeliest boxes of a phrase in the last image of a document."""

    doc: Document
    """Images, and words if the phrase has a context."""
    phrase: str | None = None
    """What to look for; None: the document asks already, see :mod:`kosmos.generate.locate`."""
    id: str = ""
    """By which the answer is told; empty: its place among the requests."""
    k: int = 5
    """Boxes wanted; fewer come only if there are no more."""
    nms: float | None = None
    """Most intersection over union with a likelier box; None: any."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k: expected at least 1, found {self.k}")
        if self.nms is not None and not 0.0 <= self.nms <= 1.0:
            raise ConfigError(f"nms: expected a threshold in [0, 1], found {self.nms}")


Request: TypeAlias = Generate | Score | Locate

Answer: TypeAlias = list[Reply] | list[CandidateScore] | list[Located]

PromptLike: TypeAlias = Document | Text | Grounded | Image | str | PIL.Image.Image
"""A document, or something that is one part of one."""


def as_document(prompt: object) -> Document:
    """A document of whatever was asked.

    Raises:
        ConfigError: If it is neither a document nor a part of one.
    """
    if isinstance(prompt, Document):
        return prompt
    if isinstance(prompt, str):
        return Document([Text(prompt)])
    if isinstance(prompt, PIL.Image.Image):
        return Document([Image(prompt)])
    if isinstance(prompt, Text | Grounded | Image):
        return Document([prompt])
    raise ConfigError(
        f"docs: expected a Document, a part of one, a string or a picture, "
        f"found {type(prompt).__name__}",
        hint="Document([Image('dog.jpg'), Text('An image of')])",
    )


def prompt_name(doc: Document, index: int | None) -> str:
    """What to call a document in messages: its id, or else its place in a list."""
    if doc.id:
        return f"document {doc.id!r}"
    return "document" if index is None else f"document {index}"
