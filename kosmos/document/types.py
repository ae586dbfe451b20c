"""Document: the one type that flows from the corpus to the model and back.

A document is an ordered list of parts. A caption pair, a web page, a few-shot prompt, an
instruction triplet, a chat and an evaluation question are all documents::

    Document([Image("dog.jpg"), Text("a dog")])
    Document([Image("a.jpg"), Text("This is WALL-E. "), Image("b.jpg"), Text("This is EVE.")])
    Document([Text("Name a color.", role="user", loss=False), Text("blue", role="assistant")])
    Document([Image("dog.jpg"), Grounded("a dog", boxes=[Box(.1, .2, .6, .9)]), Text(" runs.")])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import PIL.Image

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.files import Json

Role: TypeAlias = Literal["text", "system", "user", "assistant"]
ImageSource: TypeAlias = str | Path | bytes | PIL.Image.Image | np.ndarray


@dataclass(frozen=True, slots=True)
class Text:
    """Words. May carry grounding markup, which becomes control tokens when encoded.

    Args:
        text: The words, with the spaces that separate them from the parts beside them.
        role: Who says it; ``"text"`` where nobody does.
        loss: Whether a model trained on the document learns to say it.
    """

    text: str
    role: Role = "text"
    loss: bool = True


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: a path, encoded bytes, a PIL image, or a uint8 array (height, width, 3)."""

    source: ImageSource
    role: Role = "text"


@dataclass(frozen=True, slots=True)
class Grounded:
    """Words linked to regions of the last image before them.

    Args:
        text: The phrase, with the spaces that separate it from the parts beside it.
        boxes: Where it is, best first; fractions of the image.
        role: Who says it.
        loss: Whether a model trained on the document learns to say it.
    """

    text: str
    boxes: Sequence[Box] = ()
    role: Role = "text"
    loss: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", tuple(self.boxes))


Part: TypeAlias = Text | Image | Grounded


@dataclass(frozen=True, slots=True)
class Document:
    """An ordered list of parts, with what is known about them.

    Args:
        parts: The parts in reading order.
        id: A name that is unique in its corpus; empty for documents made on the fly.
        meta: Facts beside the text, as JSON: references, answers, provenance.

    Raises:
        DataError: If a part is neither Text, Image nor Grounded.
    """

    parts: Sequence[Part]
    id: str = ""
    meta: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        for index, part in enumerate(self.parts):
            if not isinstance(part, Text | Image | Grounded):
                raise DataError(
                    f"document {self.id!r}, part {index}: expected Text, Image or Grounded, "
                    f"found {type(part).__name__}"
                )

    @property
    def images(self) -> tuple[Image, ...]:
        """The images, in order."""
        return tuple(part for part in self.parts if isinstance(part, Image))

    @property
    def text(self) -> str:
        """All words, concatenated; images and boxes left out."""
        return "".join(part.text for part in self.parts if not isinstance(part, Image))

    @property
    def is_grounded(self) -> bool:
        """Whether any phrase has a box."""
        return any(isinstance(part, Grounded) and part.boxes for part in self.parts)
