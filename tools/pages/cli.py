"""cli.md: every command with its options."""

from collections.abc import Iterator, Sequence

import click

from kosmos.cli.main import COMMANDS, cli
from tools.docstrings import cell, inline


def cli_page() -> str:
    """Every command with its options."""
    table = "\n".join(f"| [`kosmos {n}`](#kosmos-{n}) | {cell(t)} |" for n, t in COMMANDS.items())
    parts = [
        "# Command line",
        "What `kosmos COMMAND --help` says. Results go to stdout (JSON with `--json`), progress "
        "and messages to stderr. Exit code 0 is success, 2 a usage or configuration error, "
        "1 any other error, 130 an interrupt; errors are told as `error:` and `hint:` lines.",
        f"| command | |\n|---|---|\n{table}",
        "Options of every command, before it or behind it: " + _sentence_of_options(cli),
        "## Options that several commands share",
        "### Model options",
        _options(_shared(("folder", "device", "dtype"))),
        "### Decoding options",
        "The fields of [Decoding](config.md#decoding) that a command line needs.",
        _options(_shared(_DECODING)),
    ]
    for name in COMMANDS:
        parts += _command(f"kosmos {name}", _click_command(name), level=2)
    return "\n\n".join(parts)


_MODEL = ("folder", "device", "dtype")
_DECODING = (
    "max_new_tokens",
    "num_beams",
    "length_penalty",
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "no_repeat_ngram_size",
)


def _click_command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def _shared(names: tuple[str, ...]) -> list[click.Parameter]:
    by_name = {param.name: param for param in _click_command("caption").params}
    return [by_name[name] for name in names]


def _command(path: str, command: click.Command, *, level: int) -> Iterator[str]:
    yield f"{'#' * level} {path}"
    arguments = [_metavar(p) for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if isinstance(command, click.Group):
        arguments.append("COMMAND")
    yield f"```text\n{' '.join([path, '[OPTIONS]' if options else '', *arguments])}\n```".replace(
        "  ", " "
    )
    for paragraph in (command.help or "").split("\n\n"):
        text = " ".join(paragraph.split())
        words, example, line = text.partition("Example: ")
        if words:
            yield inline(words.strip())
        if example:
            yield f"Example:\n\n```console\n$ {line}\n```"
    if command.epilog:
        yield inline(command.epilog)
    names = {option.name for option in options}
    left = options
    for title, shared in (("model", _MODEL), ("decoding", _DECODING)):
        if names.issuperset(shared):
            left = [option for option in left if option.name not in shared]
            yield f"Takes the [{title} options](#{title}-options)."
    if left:
        yield _options(left)
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _command(f"{path} {name}", child, level=level + 1)


def _options(options: Sequence[click.Parameter]) -> str:
    rows = ["| option | meaning | default |", "|---|---|---|"]
    for option in options:
        assert isinstance(option, click.Option)
        assert option.help, f"{option.name}: an option without help"
        flag = option.opts[-1] if not option.is_flag else option.opts[0]
        word = "" if option.is_flag else f" {_metavar(option)}"
        default = "required" if option.required else ""
        is_told = isinstance(option.default, str | int | float) and option.default != ""
        if is_told and not option.is_flag:
            default = f"`{option.default}`"
        # a default that depends on the command is told in its help
        text, _, told = option.help.partition("  [default: ")
        default = f"`{told.rstrip(']')}`" if told else default
        rows.append(f"| `{flag}{cell(word)}` | {cell(inline(text))} | {default} |")
    return "\n".join(rows)


def _sentence_of_options(command: click.Command) -> str:
    said = [
        f"`{param.opts[0]}` ({param.help[0].lower()}{param.help[1:].rstrip('.')})"
        for param in command.params
        if isinstance(param, click.Option) and param.help
    ]
    return ", ".join(said) + "."


def _metavar(param: click.Parameter) -> str:
    if param.metavar:
        return param.metavar
    if isinstance(param, click.Argument):
        name = (param.name or "").upper()
        return f"{name}..." if param.nargs == -1 else name
    if isinstance(param.type, click.Choice):
        return "|".join(map(str, param.type.choices))
    return param.type.name.split()[0].upper()
