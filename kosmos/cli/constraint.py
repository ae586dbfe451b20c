"""``--choices`` and ``--grammar``: what replies are held to."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.generate.reply import Reply

if TYPE_CHECKING:
    from kosmos.generate.choices import Choices
    from kosmos.generate.constraints import Constraint
    from kosmos.generate.generator import Generator


class ConstraintChoice:
    """What replies are held to, made for the model that gives them.

    Args:
        answers: Each reply is one of these; None for any reply.
        grammar: Whether replies are well-formed grounding markup.
    """

    def __init__(self, answers: tuple[str, ...] | None = None, *, grammar: bool = False) -> None:
        self.answers = answers
        self.grammar = grammar
        self._choices: Choices | None = None
        self._made: Constraint | None = None

    @property
    def is_set(self) -> bool:
        """Whether replies are held to something."""
        return self.answers is not None or self.grammar

    def make(self, engine: "Generator") -> "Constraint | None":
        """The constraint for a model's tokens; made once, so one choice goes with one model.

        Raises:
            ConfigError: If the answers are no list of answers, or the model has no grounding
                tokens.
        """
        if self.answers is not None and self._made is None:
            from kosmos.generate.choices import Choices

            self._choices = Choices(engine.tokenizer, self.answers, layout=engine.layout)
            self._made = self._choices
        elif self.grammar and self._made is None:
            from kosmos.generate.grammar import GroundedGrammar

            self._made = GroundedGrammar(engine.tokenizer)
        return self._made

    def row(self, reply: Reply) -> dict[str, Json]:
        """What JSON says of a reply beside what it says of every reply: the answer's index."""
        return {} if self._choices is None else {"choice": self._choices.index(reply)}

    def settings(self) -> dict[str, Json]:
        """What replies depend on; nothing if they are held to nothing."""
        if self.answers is not None:
            return {"choices": hashlib.sha256("\n".join(self.answers).encode()).hexdigest()}
        return {"grammar": True} if self.grammar else {}


def constraint_options(
    *names: Literal["choices", "grammar"],
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """``--choices FILE``, ``--grammar`` or both, given to the command as ``constraint``."""

    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function)
        def wrapper(
            *, choices: Path | None = None, grammar: bool = False, **rest: object
        ) -> object:
            if choices is not None and grammar:
                raise click.UsageError("--choices and --grammar: expected one of them, found both")
            answers = None if choices is None else _read(choices)
            return function(constraint=ConstraintChoice(answers, grammar=grammar), **rest)

        decorated: Callable[..., object] = wrapper
        for name in reversed(names):
            decorated = _OPTIONS[name](decorated)
        return decorated

    return decorate


_OPTIONS = {
    "choices": click.option(
        "--choices",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Each reply is one of these answers, one a line; --json says which, from 0.",
    ),
    "grammar": click.option(
        "--grammar",
        is_flag=True,
        help="Let only well-formed markup be said: each phrase gets boxes, none is dropped. "
        "Off unless asked for, as the published results are without it.",
    ),
}


def _read(path: Path) -> tuple[str, ...]:
    """The lines of a file.

    Raises:
        DataError: If there is no such file, or it is no text.
    """
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected answers, one a line, found {error}") from error
