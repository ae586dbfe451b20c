"""Options that several commands share, each written once, and how JSON and tables are printed.

Nothing here imports torch before a model is asked for.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from kosmos import config as configs
from kosmos.errors import ConfigError
from kosmos.files import json_text, sha256_file, sha256_json
from kosmos.generate.config import GREEDY, Decoding

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator

Command: TypeAlias = Callable[..., object]
Option: TypeAlias = Callable[[Command], Command]

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


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

    def digest(self, **beside: str) -> str:
        """SHA-256 of all in its folder that makes it answer as it does, and of what is beside."""
        kinds = ("*.safetensors", "*.json", "*.model")
        files = [file for kind in kinds for file in self.folder.glob(kind)]
        return sha256_json({**{file.name: sha256_file(file) for file in files}, **beside})

    def load(self) -> "Generator":
        """Load it; this is where torch is imported.

        Raises:
            CheckpointError: If the folder is not a whole model.
        """
        from kosmos.generate.generator import Generator

        return Generator.load(
            self.folder, device=self.device, dtype=self.dtype, quantize=self.quantize
        )


def grouped(name: str, make: Callable[..., object], options: dict[str, Option]) -> Option:
    """Options that a command receives as one value.

    Args:
        name: Of the value.
        make: Makes it of the options.
        options: Click's, by the names under which they are given to ``make``.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def wrapper(**values: object) -> object:
            own = {option: values.pop(option) for option in options}
            return function(**{name: make(**own)}, **values)

        decorated: Command = wrapper
        for option in reversed(options.values()):
            decorated = option(decorated)
        return decorated

    return decorate


model_options = grouped(
    "model",
    ModelChoice,
    {
        "folder": click.option(
            "--model",
            "folder",
            required=True,
            type=PATH,
            help="Model folder, ours or a Hugging Face Kosmos-2 one, or an adapter.",
        ),
        "device": click.option(
            "--device", default="auto", help="A torch device; auto is the GPU if there is one."
        ),
        "dtype": click.option(
            "--dtype",
            default="float32",
            type=click.Choice(["float32", "bfloat16", "float16"]),
            help="Type of the weights.",
        ),
        "quantize": click.option(
            "--quantize",
            type=click.Choice(["int8"]),
            help="Turn the weights into bytes while they are loaded.",
        ),
    },
)
"""``--model --device --dtype --quantize``, given to the command as ``model``."""

_DECODING = {
    "max_new_tokens": "Most tokens of a reply.",
    "min_new_tokens": "Tokens of a reply before it may end by itself.",
    "stop": "End a reply before this text; may be repeated.",
    "num_beams": "Beams; the papers caption with 5.",
    "length_penalty": "Beams: above 0 favors long replies.",
    "temperature": "0 takes the likeliest token; above, tokens are drawn.",
    "top_k": "Sampling: among this many tokens; 0 for all.",
    "top_p": "Sampling: among tokens that make up this probability.",
    "seed": "Sampling: the same seed gives the same reply.",
    "no_repeat_ngram_size": "No n-gram twice; the release uses 3, 0 is off.",
}


def _decoding_option(name: str, text: str) -> Option:
    default = getattr(GREEDY, name)
    if name == "stop":
        return click.option("--stop", metavar="TEXT", multiple=True, help=text)
    return click.option(_option_of(name), default=default, help=text)


def _option_of(field: str) -> str:
    return "--" + field.replace("_", "-")


def as_options(words: str) -> str:
    """Words about fields of Decoding, as somebody reads them who typed options."""
    names = "|".join(name for name in _DECODING if "_" in name)
    words = re.sub(rf"(?<![\w./-])({names})=", lambda found: f"{_option_of(found[1])} ", words)
    return re.sub(
        rf"(?<![\w./-])(?:decoding\.(\w+)|({names}))(?![\w./-])",
        lambda found: _option_of(found[1] or found[2]),
        words,
    )


@contextmanager
def told_as_options() -> Iterator[None]:
    """Errors about fields of Decoding, as somebody reads them who typed options."""
    try:
        yield
    except ConfigError as error:
        hint = None if error.hint is None else as_options(error.hint)
        raise ConfigError(as_options(error.message), hint=hint) from error


decoding_of: Callable[..., Decoding] = told_as_options()(Decoding)
DECODING_OPTIONS = {name: _decoding_option(name, text) for name, text in _DECODING.items()}
decoding_options = grouped("decoding", decoding_of, DECODING_OPTIONS)
"""How tokens are chosen, given to the command as ``decoding``."""


def json_option(what: str = "") -> Option:
    """``--json``, given as ``as_json``.

    Args:
        what: What there is an object for, if there are several.
    """
    words = f"Print a JSON object{f' for each {what}' if what else ''}."
    return click.option("--json", "as_json", is_flag=True, help=words)


def set_option(words: str = "Change a field.") -> Option:
    """``--set NAME=VALUE``, given as ``assignments``."""
    return click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help=words)


def echo_json(value: object, *, indent: int | None = None) -> None:
    """Print a value, a config or what is made of such."""
    click.echo(json_text(configs.to_json(value), indent=indent))


def table(columns: Mapping[str, str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Lines of a table, the names of its columns first.

    Args:
        columns: How values are formatted, as ``>12,.1f``, by name.
        rows: Their values; text takes the place of a value that is not there.
    """
    forms = [(form, re.sub(r"(?<=\d)[,.].*", "", form)) for form in columns.values()]
    for row in ([*columns], *rows):
        cells = zip(row, forms, strict=False)
        line = (f"{v:{place if isinstance(v, str) else form}}" for v, (form, place) in cells)
        yield "".join(line).rstrip()
