"""Decoding: how a reply is chosen among the tokens a model finds likely."""

import difflib
import math
from dataclasses import dataclass, fields, replace
from typing import Literal, TypedDict

from kosmos.errors import ConfigError
from kosmos.text.vocabulary import OBJECT_END


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
    stop_after: tuple[str, ...] = ()
    """The same, but the reply keeps them: ``("</object>",)`` ends it with its first box."""

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
            math.isfinite(self.length_penalty),
            f"decoding.length_penalty: expected a finite number, found {self.length_penalty}",
        )
        _check(
            self.early_stopping in (True, False, "never"),
            f"decoding.early_stopping: expected True, False or 'never', "
            f"found {self.early_stopping!r}",
        )
        for name in ("stop", "stop_after"):
            value = getattr(self, name)
            _check(
                not isinstance(value, str),
                f"decoding.{name}: expected strings in a tuple, found the string {value!r}",
            )
            object.__setattr__(self, name, tuple(value))
            _check(
                all(value), f"decoding.{name}: expected strings of at least one character, found ''"
            )
        self._check_effects()

    def _check_effects(self) -> None:
        """An option that would do nothing is a mistake worth telling."""
        if self.num_beams > 1:
            _check(
                self.temperature == 0.0,
                f"decoding.temperature: beams do not sample, expected 0, found {self.temperature}",
            )
        needs = {
            "num_beams above 1": (self.num_beams > 1, _OF_BEAMS),
            "temperature above 0": (self.temperature > 0.0, _OF_SAMPLING),
        }
        for what, (is_there, defaults) in needs.items():
            for name, default in defaults.items():
                found = getattr(self, name)
                _check(
                    is_there or found == default,
                    f"decoding.{name}: expected {what}, without which it does nothing, "
                    f"found {name}={found!r}",
                )

    @property
    def is_sampled(self) -> bool:
        """Whether tokens are drawn rather than the likeliest taken."""
        return self.temperature > 0.0

    @property
    def endings(self) -> tuple[str, ...]:
        """All strings that end a reply."""
        return (*self.stop, *self.stop_after)


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
    stop_after: tuple[str, ...]


_OF_BEAMS: dict[str, object] = {
    "length_penalty": 1.0,
    "early_stopping": False,
    "score_prompt": False,
}
_OF_SAMPLING: dict[str, object] = {"top_k": 0, "top_p": 1.0, "seed": 0}
"""Options that are about one way of choosing tokens, and what they are where nobody says."""

_ELSEWHERE = {
    "repetition_penalty": "no_repeat_ngram_size=3 lets no three tokens in a row come twice",
    "do_sample": "a temperature above 0 samples",
    "max_length": "max_total_tokens counts the prompt too",
    "num_return_sequences": "generate_n gives several replies",
    "stop_strings": "stop, or stop_after to keep them",
}
"""Options of transformers that are called otherwise here, or are not there."""


def with_options(decoding: Decoding, options: DecodingOptions) -> Decoding:
    """Options with some of them changed, all at once.

    Raises:
        ConfigError: If one is unknown or impossible, or would do nothing.
    """
    known = [field.name for field in fields(Decoding)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(
                f"decoding: expected options of Decoding, found {name!r}",
                hint=_ELSEWHERE.get(name, hint),
            )
    return replace(decoding, **options)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _at_least(name: str, value: int, least: int) -> None:
    _check(value >= least, f"decoding.{name}: expected at least {least}, found {value}")


GREEDY = Decoding()
CAPTION = Decoding(num_beams=5)
RELEASED = Decoding(
    max_new_tokens=500, max_total_tokens=500, no_repeat_ngram_size=3, first_token="release"
)
RELEASED_BEAMS = replace(RELEASED, num_beams=5, score_prompt=True, early_stopping=True)
"""This and those above are what the papers and the release use."""
FIRST_BOX = Decoding(stop_after=(OBJECT_END,))
"""Where a described thing is: the boxes that follow its phrase, and nothing about other things."""
