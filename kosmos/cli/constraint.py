"""``--choices`` and ``--grammar``: what replies are held to."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from kosmos.cli.options import PATH, Command, grouped
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.generate.reply import Failure, Reply
from kosmos.generate.request import Answer

if TYPE_CHECKING:
    from kosmos.generate.choices import Choices
    from kosmos.generate.constraints import Constraint
    from kosmos.generate.generator import Generator


class ConstraintChoice:
    """What replies are held to, made for the model that gives them.

    Args:
        choices: A file of answers, one a line, of which each reply is one; None for any reply.
        grammar: Whether replies are well-formed grounding markup.

    Raises:
        UsageError: If both are asked for.
        DataError: If there is no such file, or it is no text.
    """

    def __init__(self, choices: Path | None = None, *, grammar: bool = False) -> None:
        if choices is not None and grammar:
            raise click.UsageError("--choices and --grammar: expected one of them, found both")
        self.answers = None if choices is None else _read(choices)
        self.grammar = grammar
        self._choices: Choices | None = None

    @property
    def is_set(self) -> bool:
        """Whether replies are held to something."""
        return self.answers is not None or self.grammar

    def make(self, engine: "Generator") -> "Constraint | None":
        """The constraint for a model's tokens.

        Raises:
            ConfigError: If the answers are no list of answers, or the model has no grounding
                tokens.
        """
        if self.answers is not None:
            from kosmos.generate.choices import Choices

            self._choices = Choices(engine.tokenizer, self.answers, layout=engine.layout)
            return self._choices
        if self.grammar:
            from kosmos.generate.grammar import GroundedGrammar

            return GroundedGrammar(engine.tokenizer)
        return None

    def row(self, answer: Answer | Failure) -> dict[str, Json]:
        """What JSON says of an answer beside what it says of every one: the choice's index."""
        if self._choices is None or not isinstance(answer, list):
            return {}
        (reply, *_) = [item for item in answer if isinstance(item, Reply)]
        return {"choice": self._choices.index(reply)}

    def settings(self) -> dict[str, Json]:
        """What replies depend on; nothing if they are held to nothing."""
        if self.answers is not None:
            return {"choices": hashlib.sha256("\n".join(self.answers).encode()).hexdigest()}
        return {"grammar": True} if self.grammar else {}


_OPTIONS = {
    "choices": click.option(
        "--choices",
        type=PATH,
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


def constraint_options(*names: Literal["choices", "grammar"]) -> Callable[[Command], Command]:
    """``--choices FILE``, ``--grammar`` or both, given to the command as ``constraint``."""
    return grouped("constraint", ConstraintChoice, {name: _OPTIONS[name] for name in names})


def _read(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected answers, one a line, found {error}") from error
