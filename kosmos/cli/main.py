"""The ``kosmos`` command: a table of files, one per verb, imported when used.

Data goes to stdout and talk to stderr. Exit code 2 is a usage error, 1 any other; both are
told as ``error:`` and ``hint:`` lines, with the traceback under ``--debug``.
"""

import codecs
import difflib
import importlib
import io
import json
import os
import sys
import traceback
from typing import TextIO

import click

from kosmos import __version__
from kosmos.errors import ConfigError, KosmosError, os_error

COMMANDS: dict[str, str] = {
    "quickstart": "Make a world, train a small KOSMOS on it, evaluate it, write a report.",
    "microcosm": "Make a procedural world to train and to test on.",
    "data": "Bring real data into document shards, and look at rows of them.",
    "tokenizer": "Train a SentencePiece tokenizer.",
    "recipe": "List recipes, or show one as JSON.",
    "plan": "Compute what a run takes, before it runs.",
    "train": "Train a recipe, or a run.json again.",
    "card": "Write the page of a run: what ran, on what, how it went.",
    "caption": "Say what is in a picture.",
    "ask": "Answer a question about a picture.",
    "ground": "Caption a picture and say where things are.",
    "refer": "Say where a described thing is.",
    "chat": "Talk with a model, pictures included.",
    "score": "Say how likely a model finds given continuations.",
    "evaluate": "Measure a model on tasks.",
    "report": "Make a page of results, with pictures and boxes.",
    "weights": "Import, export, merge, verify and quantize model folders.",
}

_LESS_MEMORY = "a smaller --batch-size, or for training smaller micro-batches, take less"
_CAUSE = "--debug shows where"


class LazyGroup(click.Group):
    """Imports a command's file only when the command is used or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name of the table, in its order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command behind a name."""
        if cmd_name not in COMMANDS:
            return None
        return _add_common(importlib.import_module(f"kosmos.cli.{cmd_name}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name when there is none."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            raise ConfigError(
                f"kosmos: expected a command, found {args[0]!r}",
                hint=f"did you mean {near[0]!r}?" if near else "kosmos --help lists them",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself, so that help imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _add_common(command: click.Command) -> click.Command:
    """Let the options of ``kosmos`` stand behind a command, too."""

    def be_quiet(ctx: click.Context, param: click.Parameter, is_quiet: bool) -> None:
        if is_quiet:
            _configure(quiet=True)

    if not any("--quiet" in param.opts for param in command.params):
        common = {"is_flag": True, "hidden": True, "expose_value": False}
        command.params += [
            click.Option(["--quiet"], callback=be_quiet, help="As kosmos --quiet.", **common),
            click.Option(["--debug"], help="As kosmos --debug.", **common),
        ]
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _add_common(inner)
    return command


def _configure(*, quiet: bool) -> None:
    import logging

    from kosmos import logs

    logs.configure(logging.WARNING if quiet else logging.INFO)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__, prog_name="kosmos")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr.")
def cli(debug: bool, quiet: bool) -> None:
    """The KOSMOS multimodal large language models, whole and working.

    --debug and --quiet may stand behind the command as well.

    Start with: kosmos quickstart
    """
    del debug  # read from the arguments in main(), which outlives this call
    _configure(quiet=quiet)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if args is None else args
    try:
        _open_streams()
        code = cli.main(arguments, prog_name="kosmos", standalone_mode=False)
        # what is wrong with stdout must be told here, not by the interpreter at its end
        sys.stdout.flush()
    except BaseException as error:
        told = _told(error)
        if told is None:
            raise
        if "--debug" in arguments:
            traceback.print_exc()
        _end(*told)
    # outside click's standalone mode ctx.exit(code) comes back as a value
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Make streams that are closed or of a narrow encoding such that nothing stumbles over them."""
    # in the place of a closed stdout stands what refuses to be written, so that who prints is told
    for name, mode in (("stdin", "r"), ("stdout", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("jsonescape", _as_json_has_it)
        sys.stdout.reconfigure(errors="jsonescape")


def _as_json_has_it(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks as JSON has it: JSON stays JSON, and in words it is as good."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _told(error: BaseException) -> tuple[str, str | None, int] | None:
    """Message, hint and exit code of what may happen to anybody; None: a fault of ours."""
    match error:
        case KosmosError():
            return error.message, error.hint, 2 if isinstance(error, ConfigError) else 1
        case click.ClickException():
            context = getattr(error, "ctx", None)
            hint = f"{context.command_path} --help" if context is not None else None
            return error.format_message(), hint, error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return "interrupted", None, 130
        case OSError():
            if not _is_of_stdout(error):
                return os_error(error).message, None, 1
            _discard(sys.stdout)
            if isinstance(error, BrokenPipeError):
                return "", None, 1  # as in `| head`: nobody is there to be told
            return os_error(error, "stdout", act="written").message, None, 1
        case MemoryError() | RuntimeError() if _is_of_memory(error):
            return f"out of memory: {error}".splitlines()[0].rstrip(": "), _LESS_MEMORY, 1
        case RecursionError() | OverflowError() | UnicodeError():
            words = {RecursionError: "values nest too deep", OverflowError: "a number is too large"}
            return f"{words.get(type(error), 'text cannot be converted')}: {error}", _CAUSE, 1
        case ValueError() if "integer string conversion" in str(error):
            return f"a number is too large: {error}", _CAUSE, 1
        case ValueError() if "embedded null" in str(error):
            return "a file's name holds a NUL character", _CAUSE, 1
    return None


def _is_of_stdout(error: OSError) -> bool:
    try:
        sys.stdout.flush()  # what could not be written is still there, and is refused again
    except OSError:
        return True
    frames = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    return click.echo.__code__ in frames


def _is_of_memory(error: BaseException) -> bool:
    """Of Python, of a GPU, or of torch's allocator on a CPU."""
    is_named = type(error).__name__ in ("MemoryError", "OutOfMemoryError")
    return is_named or "can't allocate memory" in str(error)


def _end(message: str, hint: str | None, code: int) -> None:
    try:
        if message:
            sys.stderr.write(f"error: {message}\n")
        if hint is not None:
            sys.stderr.write(f"hint: {hint}\n")
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    sys.exit(code)


def _discard(stream: TextIO) -> None:
    """Send what is left of a stream nowhere, or the interpreter stumbles over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
