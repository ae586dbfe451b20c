"""Options that several commands share, each written once.

Decorators add them; a command receives ``model`` as :class:`ModelChoice`, ``decoding`` as
:class:`~kosmos.generate.config.Decoding`, and the rest by the names of the options. Nothing here
imports torch before a model is asked for.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from kosmos.generate.config import Decoding

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator

Command = TypeVar("Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkChoice:
    """Where a list of items comes from, and where its answers go."""

    folder: Path | None
    requests: Path | None
    jsonl: Path | None
    limit: int | None
    force: bool
    retry_bad: bool

    @property
    def is_list(self) -> bool:
        """Whether answers are lines of JSON, not replies to be read as they come."""
        return self.requests is not None or self.jsonl is not None


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model to load, and where to."""

    folder: Path
    device: str
    dtype: str
    quantize: Literal["int8"] | None = None

    def settings(self) -> dict[str, str]:
        """What replies depend on beside the folder's content."""
        return {"dtype": self.dtype, **({"quantize": self.quantize} if self.quantize else {})}

    def load(self) -> "Generator":
        """Load it; this is where torch is imported.

        Raises:
            CheckpointError: If the folder is not a whole model.
        """
        from kosmos.generate.generator import Generator

        return Generator.load(
            self.folder, device=self.device, dtype=self.dtype, quantize=self.quantize
        )


def _stack(function: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        function = option(function)
    return function


def model_options(function: Callable[..., object]) -> Callable[..., object]:
    """``--model --device --dtype --quantize``, given to the command as ``model``."""

    @functools.wraps(function)
    def wrapper(
        *,
        folder: Path,
        device: str,
        dtype: str,
        quantize: Literal["int8"] | None,
        **rest: object,
    ) -> object:
        return function(model=ModelChoice(folder, device, dtype, quantize), **rest)

    return _stack(
        wrapper,
        [
            click.option(
                "--model",
                "folder",
                required=True,
                type=click.Path(path_type=Path),
                help="Model folder, ours or a Hugging Face Kosmos-2 one, or an adapter.",
            ),
            click.option("--device", default="cpu", show_default=True, help="A torch device."),
            click.option(
                "--dtype",
                default="float32",
                show_default=True,
                type=click.Choice(["float32", "bfloat16", "float16"]),
                help="Type of the weights.",
            ),
            click.option(
                "--quantize",
                type=click.Choice(["int8"]),
                help="Turn the weights into bytes while they are loaded.",
            ),
        ],
    )


def decoding_options(function: Callable[..., object]) -> Callable[..., object]:
    """How tokens are chosen, given to the command as ``decoding``."""

    @functools.wraps(function)
    def wrapper(
        *,
        max_new_tokens: int,
        min_new_tokens: int,
        stop: tuple[str, ...],
        num_beams: int,
        length_penalty: float,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
        no_repeat_ngram_size: int,
        **rest: object,
    ) -> object:
        decoding = Decoding(
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            stop=stop,
            num_beams=num_beams,
            length_penalty=length_penalty,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            no_repeat_ngram_size=no_repeat_ngram_size,
        )
        return function(decoding=decoding, **rest)

    def number(name: str, default: float, text: str) -> Callable[[Command], Command]:
        return click.option(name, default=default, show_default=True, help=text)

    return _stack(
        wrapper,
        [
            number("--max-new-tokens", 64, "Most tokens of a reply."),
            number("--min-new-tokens", 0, "Tokens of a reply before it may end by itself."),
            click.option(
                "--stop",
                metavar="TEXT",
                multiple=True,
                help="End a reply before this text; may be repeated.",
            ),
            number("--num-beams", 1, "Beams; the papers caption with 5."),
            number("--length-penalty", 1.0, "Beams: above 0 favors long replies."),
            number("--temperature", 0.0, "0 takes the likeliest token; above, tokens are drawn."),
            number("--top-k", 0, "Sampling: among this many tokens; 0 for all."),
            number("--top-p", 1.0, "Sampling: among tokens that make up this probability."),
            number("--seed", 0, "Sampling: the same seed gives the same reply."),
            number("--no-repeat-ngram-size", 0, "No n-gram twice; the release uses 3, 0 is off."),
        ],
    )


def images_option(
    *, required: bool, text: str
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """``--image FILE``, any number of times, given as ``images``."""
    return click.option(
        "--image", "images", metavar="FILE", multiple=True, required=required, help=text
    )


def work_options(*, folder: bool) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """``--requests --jsonl --limit --force --retry-bad``, given to the command as ``work``.

    Args:
        folder: Whether there is ``--images DIR`` too.
    """

    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function)
        def wrapper(
            *,
            requests: Path | None,
            jsonl: Path | None,
            limit: int | None,
            force: bool,
            retry_bad: bool,
            picture_folder: Path | None = None,
            **rest: object,
        ) -> object:
            work = WorkChoice(
                folder=picture_folder,
                requests=requests,
                jsonl=jsonl,
                limit=limit,
                force=force,
                retry_bad=retry_bad,
            )
            return function(work=work, **rest)

        path = click.Path(path_type=Path)
        options = [
            click.option(
                "--requests", type=path, help="JSON Lines, each with what to ask of which pictures."
            ),
            click.option(
                "--jsonl", type=path, help="Write a line for each answer here; goes on if stopped."
            ),
            click.option("--limit", type=click.IntRange(1), help="The first so many only."),
            click.option("--force", is_flag=True, help="Start --jsonl anew."),
            click.option("--retry-bad", is_flag=True, help="Try again what failed before."),
        ]
        if folder:
            text = "Every picture in a folder and those below it."
            options.insert(
                0,
                click.option("--images", "picture_folder", type=path, metavar="DIR", help=text),
            )
        return _stack(wrapper, options)

    return decorate


def batch_option(function: Command) -> Command:
    """``--batch-size``."""
    return click.option(
        "--batch-size",
        default=16,
        show_default=True,
        type=click.IntRange(min=1),
        help="Most pictures answered at once; lower it to save memory.",
    )(function)


def json_option(function: Command) -> Command:
    """``--json``, given as ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print a JSON object for each reply, one a line."
    )(function)
