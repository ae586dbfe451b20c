"""What an engine answers: replies with spans and boxes, and scores of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kosmos.boxes import Box
from kosmos.document.types import Grounded
from kosmos.errors import ConfigError, KosmosError


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundedSpan(Grounded):
    """A phrase of a reply and where it is.

    ``boxes`` are fractions of the original image, the crop and resize of preprocessing undone.
    """

    start: int
    """Character offset of the phrase in ``Reply.text``; 0 if it began in the prompt."""
    end: int
    """Offset behind its last character; 0 if it stands in the prompt whole."""
    image_index: int
    """Which image of the prompt the boxes lie in."""
    boxes_px: tuple[tuple[float, float, float, float], ...]
    """The same boxes as (x0, y0, x1, y1) in pixels of the original image."""
    locations: tuple[tuple[int, int], ...]
    """The two location indices of each box, top left and bottom right."""
    logprobs: tuple[float, ...]
    """Of each box, the natural-log probability of its two location tokens together, at
    temperature 1 and among all tokens. One that the prompt gave counts 0: it was no guess."""
    confidence: tuple[float, ...]
    """Of each box, the geometric mean of the probabilities of the location tokens that were
    generated; 1 where the prompt gave both."""
    guaranteed_ious: tuple[float, ...]
    """Of each box, the least overlap with a truth if both cells are right; see
    :func:`~kosmos.text.locations.guaranteed_iou`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What was generated after a prompt."""

    text: str
    """The words, markup removed."""
    grounded: Sequence[GroundedSpan]
    """Phrases with boxes, in order."""
    token_ids: Sequence[int]
    """Generated ids only, the final ``</s>`` included when there was one."""
    logprob: float
    """Sum of natural-log probabilities of ``token_ids``."""
    token_logprobs: Sequence[float]
    """Natural-log probability of each of ``token_ids``, at temperature 1."""
    markup: str
    """The words with their markup, as generated."""
    dropped: Sequence[str]
    """Markup that did not parse and why; empty when all did."""
    finish: Literal["stop", "length"]
    """``stop`` at ``</s>``, ``length`` when the token limit came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a reply that is told while the rest is still to come."""

    text: str = ""
    """Words that follow those of the pieces before; all together are ``Reply.text``."""
    grounded: Sequence[GroundedSpan] = ()
    """Spans that are certain since the piece before; all together are ``Reply.grounded``."""
    reply: Reply | None = None
    """The whole reply, with the last piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """One of the boxes that a model finds likeliest."""

    box: Box
    """Fractions of the original image, the crop and resize of preprocessing undone."""
    box_px: tuple[float, float, float, float]
    """The same as (x0, y0, x1, y1) in pixels of the original image."""
    logprob: float
    """Natural-log probability of its two location tokens together, among all tokens."""
    confidence: float
    """Geometric mean of the probabilities of the two."""
    locations: tuple[int, int]
    """The two location indices, top left and bottom right."""
    guaranteed_iou: float
    """The least overlap with a truth if both cells are right; see
    :func:`~kosmos.text.locations.guaranteed_iou`."""
    image_index: int
    """Which image of the prompt it lies in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a document has no reply: something about it, not about the model or its company."""

    name: str
    """The document, as messages call it."""
    error: KosmosError
    """What was wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateScore:
    """How likely a continuation is."""

    logprob: float
    """Sum of natural-log probabilities of its tokens."""
    num_tokens: int
    """Its tokens."""
    neutral_logprob: float | None = None
    """Sum behind a prompt that says nothing of the case, where one was given."""

    @property
    def mean_logprob(self) -> float:
        """Log-probability per token."""
        return self.logprob / self.num_tokens

    @property
    def pmi_logprob(self) -> float:
        """Pointwise mutual information of prompt and continuation, in nats.

        How much likelier the prompt makes it, so that a continuation that is likely everywhere
        gains nothing by that.

        Source: Holtzman et al. 2021 (arXiv:2104.08315), domain-conditional PMI.

        Raises:
            ConfigError: If no neutral prompt was given.
        """
        if self.neutral_logprob is None:
            raise ConfigError(
                "score: expected a neutral prompt to compare with, found none",
                hint="score(doc, candidates, neutral='Answer:')",
            )
        return self.logprob - self.neutral_logprob
