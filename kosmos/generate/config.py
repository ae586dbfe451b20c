"""Decoding: how a reply is chosen among the tokens a model finds likely.

- :class:`Decoding`: every option, with its range
- :class:`DecodingOptions`: the same names as keyword arguments
- :data:`GREEDY`, :data:`CAPTION`, :data:`RELEASED`: what the papers and the release use
"""

from dataclasses import dataclass
from typing import Literal, TypedDict

from kosmos.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How tokens are chosen; the default is greedy until ``</s>``."""

    max_new_tokens: int = 64
    """Most tokens of a reply, ``</s>`` included."""
    min_new_tokens: int = 0
    """``</s>`` is not chosen before a reply has this many tokens, unless a constraint lets it only
    end there."""
    max_total_tokens: int | None = None
    """Most tokens of prompt and reply together; None for the model's own limit. Release: 500."""
    num_beams: int = 1
    """Hypotheses kept at each step; 1 is greedy, or sampling where temperature is positive."""
    temperature: float = 0.0
    """0 takes the likeliest token; above, logits are divided by it and a token is drawn."""
    top_k: int = 0
    """Sampling: draw among this many likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Sampling: draw among the fewest likeliest tokens whose probabilities reach this sum."""
    seed: int = 0
    """Sampling: a reply is a function of the seed, the document's id and the prompt alone."""
    length_penalty: float = 1.0
    """Beams: a hypothesis is worth its log-probability / length ** length_penalty."""
    early_stopping: bool | Literal["never"] = False
    """Beams: True stops at num_beams finished hypotheses. False goes on while the best running
    one, at its present length, beats the worst finished; "never" judges it at full length."""
    no_repeat_ngram_size: int = 0
    """No n-gram of prompt and reply together occurs twice, unless a constraint allows nothing else;
    0 for no such rule. Release: 3."""
    first_token: Literal["normal", "release"] = "normal"
    """release: the first token escapes the n-gram rule, and a ``</s>`` there does not stop."""
    score_prompt: bool = False
    """Beams: log-probabilities and length count from the token after ``<s>`` on, as the release
    does, rather than from the first token of the reply."""
    allow_pad: bool = False
    """Whether ``<pad>`` may be chosen. Release: never. Hugging Face: like any token."""
    stop: tuple[str, ...] = ()
    """Strings, markup included, that end a reply or a beam; the reply is cut before them."""

    def __post_init__(self) -> None:
        _at_least("max_new_tokens", self.max_new_tokens, 1)
        _at_least("min_new_tokens", self.min_new_tokens, 0)
        _at_least("num_beams", self.num_beams, 1)
        _at_least("top_k", self.top_k, 0)
        _at_least("no_repeat_ngram_size", self.no_repeat_ngram_size, 0)
        if self.max_total_tokens is not None:
            _at_least("max_total_tokens", self.max_total_tokens, 1)
        _check(
            self.min_new_tokens <= self.max_new_tokens,
            f"decoding.min_new_tokens: expected at most max_new_tokens={self.max_new_tokens}, "
            f"found {self.min_new_tokens}",
        )
        _check(
            0.0 <= self.temperature < float("inf"),
            f"decoding.temperature: expected a number of at least 0, found {self.temperature}",
        )
        _check(0.0 < self.top_p <= 1.0, f"decoding.top_p: expected (0, 1], found {self.top_p}")
        _check(
            self.early_stopping in (True, False, "never"),
            f"decoding.early_stopping: expected True, False or 'never', "
            f"found {self.early_stopping!r}",
        )
        _check(
            not isinstance(self.stop, str),
            f"decoding.stop: expected strings in a tuple, found the string {self.stop!r}",
        )
        object.__setattr__(self, "stop", tuple(self.stop))
        _check(
            all(self.stop), "decoding.stop: expected strings of at least one character, found ''"
        )
        self._check_effects()

    def _check_effects(self) -> None:
        """An option that would do nothing is a mistake worth telling."""
        if self.num_beams > 1:
            _check(
                self.temperature == 0.0,
                f"decoding.temperature: beams do not sample, expected 0, found {self.temperature}",
            )
        if self.temperature == 0.0:
            _check(
                self.top_k == 0 and self.top_p == 1.0,
                "decoding.top_k, top_p: expected temperature above 0, which makes them matter, "
                "found 0",
            )

    @property
    def is_sampled(self) -> bool:
        """Whether tokens are drawn rather than the likeliest taken."""
        return self.temperature > 0.0


class DecodingOptions(TypedDict, total=False):
    """The fields of :class:`Decoding` as keyword arguments."""

    max_new_tokens: int
    min_new_tokens: int
    max_total_tokens: int | None
    num_beams: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    no_repeat_ngram_size: int
    first_token: Literal["normal", "release"]
    score_prompt: bool
    allow_pad: bool
    stop: tuple[str, ...]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _at_least(name: str, value: int, least: int) -> None:
    _check(value >= least, f"decoding.{name}: expected at least {least}, found {value}")


GREEDY = Decoding()
CAPTION = Decoding(num_beams=5)
RELEASED = Decoding(
    max_new_tokens=500,
    max_total_tokens=500,
    no_repeat_ngram_size=3,
    first_token="release",
    score_prompt=True,
    early_stopping=True,
)
