"""What an engine answers: replies with spans and boxes, and scores of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kosmos.document.types import Grounded


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
class Score:
    """How likely a continuation is."""

    logprob: float
    """Sum of natural-log probabilities of its tokens."""
    num_tokens: int
    """Its tokens."""

    @property
    def mean_logprob(self) -> float:
        """Log-probability per token."""
        return self.logprob / self.num_tokens
