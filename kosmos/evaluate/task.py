"""What a task is: examples, a prompt for each, and a score for each reply.

A task reads documents that show only what a model may see, their gold in ``meta``; it writes the
prompt, and turns a reply into numbers. It never sees the model, so that saved predictions can be
scored again, and scored against other examples' gold to learn what chance would give.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from kosmos.boxes import Box
from kosmos.document.types import Document, Part, Text
from kosmos.errors import ConfigError, DataError
from kosmos.generate.config import Decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number that a task measures on every example; its value is the mean."""

    name: str
    """Key in results."""
    title: str
    """What people call it."""
    help: str
    """What it means, in a sentence."""
    kind: Literal["share", "mean"] = "mean"
    """share: 0 or 1 on each example, so Wilson's interval holds; a bootstrap where there was
    partial credit. mean: anything; a bootstrap."""
    scale: float = 100.0
    """What it is multiplied with where people read it."""
    unit: str = "%"
    """Behind the scaled number."""
    higher_is_better: bool = True
    """False for what should be low."""
    has_chance: bool = True
    """False where another example's gold changes nothing."""


class Example(NamedTuple):
    """One document of a test set."""

    id: str
    doc: Document

    def text(self, name: str) -> str:
        """A field of the gold that is text.

        Raises:
            DataError: If there is none, naming the example.
        """
        value = self.doc.meta.get(name)
        if not isinstance(value, str):
            raise DataError(f"{self._where(name)} to be text, found {value!r}")
        return value

    def texts(self, name: str) -> list[str]:
        """A field of the gold that is a list of texts, at least one.

        Raises:
            DataError: If it is not, naming the example.
        """
        value = self.doc.meta.get(name)
        texts = [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
        if not texts or texts != value:
            raise DataError(f"{self._where(name)} to be texts, found {value!r}")
        return texts

    def box(self, name: str) -> Box:
        """A field of the gold that is a box.

        Raises:
            DataError: If it is not one inside the image, naming the example.
        """
        value = self.doc.meta.get(name)
        where = f"example {self.id!r}, meta {name!r}"
        numbers = (
            [v for v in value if isinstance(v, int | float)] if isinstance(value, list) else []
        )
        if numbers == value and len(numbers) == 4:
            return Box(*map(float, numbers)).checked(where)
        raise DataError(f"{where}: expected four numbers, found {value!r}")

    def _where(self, name: str) -> str:
        return f"example {self.id!r}: expected meta {name!r}"


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """How likely a model found a candidate."""

    candidate: str
    logprob: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class FoundPhrase:
    """A phrase of a reply with its boxes, fractions of the original picture."""

    text: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model answered: a reply, or the likelihood of each candidate."""

    text: str = ""
    """The words of the reply, or the likeliest candidate."""
    markup: str = ""
    """The reply as generated."""
    phrases: tuple[FoundPhrase, ...] = ()
    """What was found in the picture, in order."""
    dropped: tuple[str, ...] = ()
    """Markup that did not parse, and why."""
    logprob: float = 0.0
    """Of the reply."""
    num_tokens: int = 0
    """Of the reply."""
    finish: str = ""
    """Why the reply ended."""
    scores: tuple[CandidateScore, ...] = ()
    """Of each candidate, where candidates were scored."""
    failure: str = ""
    """Why there is no answer, which counts as a wrong one; empty where there is one."""


Values: TypeAlias = Mapping[str, float]
"""Metric values of one example; a metric that does not apply is left out."""
Scorer: TypeAlias = Callable[[Example, Prediction], Values]


class Published(NamedTuple):
    """A number of a paper."""

    model: str
    data: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(ABC):
    """An entry of the suite: what it is called, and how it asks and scores."""

    name: str
    """Key in the suite, in results and of files."""
    title: str
    """What people call it."""
    help: str
    """What is asked and how it is measured, in a sentence or two."""
    version: int = 1
    """Raised when the same replies would get other numbers."""
    dataset: str
    """Folder of its documents in the data folder."""
    metrics: tuple[Metric, ...]
    """What it measures; the first is the headline."""
    decoding: Decoding | None = None
    """How replies are generated; None where candidates are scored."""
    published: tuple[Published, ...] = ()
    """What the papers report, on their data."""
    group_field: str = ""
    """Field of the gold whose values part the set into groups that are also measured each."""
    has_shots: bool = False
    """Whether the paper has demonstrations for it."""

    @abstractmethod
    def words(self, example: Example) -> str:
        """What is asked, behind the picture if there is one."""

    @abstractmethod
    def truth(self, example: Example) -> str:
        """The gold in words, for people, and behind the words of a demonstration."""

    @abstractmethod
    def perfect(self, example: Example) -> Prediction:
        """A prediction that cannot be beaten, which tests hold the scorer to."""

    @abstractmethod
    def scorer(self, examples: Sequence[Example]) -> Scorer:
        """What turns the gold of an example and a prediction into numbers.

        Args:
            examples: The whole set, which some metrics weigh by.
        """

    def prompt(self, example: Example, shots: Sequence[Example]) -> Document:
        """What the model is shown: demonstrations, then the example, its gold left out.

        Raises:
            ConfigError: If there are demonstrations where the paper has none.
        """
        if shots and not self.has_shots:
            raise ConfigError(f"{self.name}: expected no demonstrations, found {len(shots)}")
        parts: list[Part] = []
        for shot in shots:
            parts += [*shot.doc.images, Text(f"{self.words(shot)} {self.truth(shot)}")]
        parts += [*example.doc.images, Text(self.words(example))]
        return Document(parts, id=example.id)

    def candidates(self, example: Example) -> list[str]:
        """What is scored behind the prompt; empty where replies are generated."""
        del example
        return []

    def group(self, example: Example) -> str:
        """The part of the set that an example is in; empty for none."""
        group = example.doc.meta.get(self.group_field)
        return group if isinstance(group, str) else ""
