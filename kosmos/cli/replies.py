"""How replies are made: what they are held to, how tokens are chosen, how many at once."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from kosmos import config as configs
from kosmos.cli.options import DECODING_OPTIONS, PATH, Option, decoding_of, grouped
from kosmos.document.types import Document
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.generate.reply import Failure, Reply
from kosmos.generate.request import Answer, Generate
from kosmos.generate.request_file import Entry

if TYPE_CHECKING:
    from kosmos.generate.choices import Choices
    from kosmos.generate.constraints import Constraint
    from kosmos.generate.generator import Generator


class ReplyChoice:
    """How replies are made.

    Args:
        batch_size: Pictures answered at once.
        choices: A file of answers, one a line, of which each reply is one; None for any reply.
        grammar: Whether replies are well-formed grounding markup.
        decoding: Fields of :class:`~kosmos.generate.config.Decoding`.

    Raises:
        UsageError: If both choices and grammar are asked for.
        DataError: If there is no such file, or it is no text.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        choices: Path | None = None,
        grammar: bool = False,
        **decoding: object,
    ) -> None:
        if choices is not None and grammar:
            raise click.UsageError("--choices and --grammar: expected one of them, found both")
        self.batch_size = batch_size
        self.decoding = decoding_of(**decoding)
        self.grammar = grammar
        self._answers = None if choices is None else _read(choices)
        self._choices: Choices | None = None
        self._held: Constraint | None = None

    def prepare(self, engine: "Generator") -> None:
        """Make the constraint for a model's tokens.

        Raises:
            ConfigError: If the answers are no list of answers, or the model has no grounding
                tokens.
        """
        if self._answers is not None:
            from kosmos.generate.choices import Choices

            self._choices = Choices(engine.tokenizer, self._answers, layout=engine.layout)
            self._held = self._choices
        elif self.grammar:
            from kosmos.generate.grammar import GroundedGrammar

            self._held = GroundedGrammar(engine.tokenizer)

    def generate(self, entry: Entry, doc: Document) -> Generate:
        """The request for the reply to a prompt."""
        return Generate(id=entry.id, doc=doc, decoding=self.decoding, constraint=self._held)

    def row(self, answer: Answer | Failure) -> dict[str, Json]:
        """What JSON says of an answer beside what it says of every one: the choice's index."""
        if self._choices is None or not isinstance(answer, list):
            return {}
        (reply, *_) = [item for item in answer if isinstance(item, Reply)]
        return {"choice": self._choices.index(reply)}

    def settings(self) -> dict[str, Json]:
        """What replies depend on."""
        made_by: dict[str, Json] = {"decoding": configs.to_json(self.decoding)}
        if self._answers is not None:
            made_by["choices"] = hashlib.sha256("\n".join(self._answers).encode()).hexdigest()
        return made_by | ({"grammar": True} if self.grammar else {})


_CONSTRAINTS = {
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
_BATCH_SIZE = click.option(
    "--batch-size",
    default=16,
    type=click.IntRange(min=1),
    help="Most pictures answered at once; lower it to save memory.",
)


def reply_options(*constraints: Literal["choices", "grammar"]) -> Option:
    """``--choices``, ``--grammar`` or both, decoding and ``--batch-size``, given as ``replies``."""
    options: dict[str, Option] = {name: _CONSTRAINTS[name] for name in constraints}
    options |= {**DECODING_OPTIONS, "batch_size": _BATCH_SIZE}
    return grouped("replies", ReplyChoice, options)


def _read(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected answers, one a line, found {error}") from error
