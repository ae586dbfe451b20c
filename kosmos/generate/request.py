"""What is asked of a model, and by what name: a reply, scores of candidates, or places of a phrase.

Everything the command line, work lists, evaluation and a server want is one of three requests, each
with an id and options of its own; :meth:`~kosmos.generate.generator.Generator.answer` answers any
number of them in any mixture. An answer is a list: of replies, best first; of scores, one for each
candidate in order; of boxes, likeliest first. What cannot be answered gets a
:class:`~kosmos.generate.reply.Failure`, and the others their answers.

Requests are taken a window at a time. Within one, those of a kind with the same options are
answered together, so that those of like length and those that share a picture meet in a batch,
whatever their order; the window bounds what is held and how long the first answer takes, however
many there are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import PIL.Image

from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError, KosmosError, MarkupError
from kosmos.generate.config import GREEDY, Decoding
from kosmos.generate.reply import CandidateScore, Failure, Located, Reply

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

    @property
    def options(self) -> tuple[object, ...]:
        """What it shares with requests that are answered together with it."""
        return self.decoding, self.num_replies


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

    @property
    def options(self) -> tuple[object, ...]:
        """What it shares with requests that are answered together with it."""
        return ()


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

    @property
    def options(self) -> tuple[object, ...]:
        """What it shares with requests that are answered together with it."""
        return self.k, self.nms


Request: TypeAlias = Generate | Score | Locate

Answer: TypeAlias = list[Reply] | list[CandidateScore] | list[Located]

BAD_REQUEST = (DataError, MarkupError, ConfigError)
"""What can be wrong with a request, and not with the model."""

AnyRequest = TypeVar("AnyRequest", bound=Request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Generic[AnyRequest]):
    """A request among others."""

    request: AnyRequest
    """What is asked."""
    id: str
    """By which the answer is told."""
    name: str
    """What to call it in messages."""
    doc: Document
    """The prompt, with an id that messages of the encoder can say."""

    def failure(self, error: KosmosError) -> tuple[str, Failure]:
        """That it cannot be answered, as it is told."""
        return self.id, Failure(name=self.name, error=error)


def windows(
    requests: Iterable[Request], *, most: int
) -> Iterator[tuple[list[tuple[str, Failure]], list[list[Named[Any]]]]]:
    """Requests a window at a time, each asked for when its window is.

    Args:
        requests: Any number; an id that comes twice is refused the second time.
        most: Most requests of a window.

    Yields:
        What cannot be asked at all, and the others in groups of one kind and the same options.
    """
    seen: set[str] = set()
    waiting, first = iter(requests), 0
    while part := list(islice(waiting, most)):
        refused: list[tuple[str, Failure]] = []
        groups: dict[object, list[Named[Any]]] = {}
        for place, request in enumerate(part, first):
            try:
                one = named(request, place if first or len(part) > 1 else None)
                if one.id in seen:
                    raise ConfigError(f"request: expected an id of its own, found {one.id!r} again")
            except ConfigError as error:
                key = getattr(request, "id", "") or str(place)
                refused.append((key, Failure(name=f"request {key!r}", error=error)))
                continue
            seen.add(one.id)
            groups.setdefault((type(request), request.options), []).append(one)
        first += len(part)
        yield refused, list(groups.values())


def named(request: AnyRequest, place: int | None) -> Named[AnyRequest]:
    """A request with what it is called.

    Args:
        request: What is asked.
        place: Where it is among the requests; None: there is no other.

    Raises:
        ConfigError: If it is no request, or about no document.
    """
    if not isinstance(request, Request):
        raise ConfigError(
            f"request: expected Generate, Score or Locate, found {type(request).__name__}"
        )
    doc = as_document(request.doc)
    called = doc.id or request.id
    return Named(
        request=request,
        id=request.id or str(place or 0),
        name=f"document {called!r}" if called else prompt_name(doc, place),
        doc=replace(doc, id=called or ("" if place is None else str(place))),
    )


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


def as_documents(prompts: PromptLike | Sequence[PromptLike]) -> list[Document]:
    """The document, or the documents of a list.

    Raises:
        ConfigError: If something is neither a document nor a part of one, or pictures and words
            stand side by side: they may be meant as one document, and would be several.
    """
    if isinstance(prompts, PromptLike):
        return [as_document(prompts)]
    prompts = list(prompts)
    if any(isinstance(one, _PICTURES) for one in prompts) and any(
        isinstance(one, _WORDS) for one in prompts
    ):
        raise ConfigError(
            "docs: expected a list of documents, of pictures or of texts, found pictures and texts",
            hint="one document of both is Document([Image('dog.jpg'), Text('An image of')])",
        )
    return [as_document(one) for one in prompts]


def prompt_name(doc: Document, index: int | None) -> str:
    """What to call a document in messages: its id, or else its place in a list."""
    if doc.id:
        return f"document {doc.id!r}"
    return "document" if index is None else f"document {index}"


_PICTURES = (Image, PIL.Image.Image)
_WORDS = (Text, Grounded, str)
