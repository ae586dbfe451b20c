"""The ``kosmos`` command: a table of files, one per verb, imported when used.

Data goes to stdout and talk to stderr. Exit code 2 is a usage error, 1 any other; both are
told as ``error:`` and ``hint:`` lines, with the traceback under ``--debug``.
"""

import difflib
import importlib
import os
import sys
import traceback

import click

from kosmos import __version__
from kosmos.errors import ConfigError, KosmosError

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


class LazyGroup(click.Group):
    """Imports a command's file only when the command is used or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name of the table, in its order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command behind a name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"kosmos.cli.{cmd_name}")
        command: click.Command = module.command
        return command

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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kosmos")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr.")
def cli(debug: bool, quiet: bool) -> None:
    """The KOSMOS multimodal large language models, whole and working.

    Start with: kosmos quickstart
    """
    import logging

    from kosmos import logs

    del debug  # read from the arguments in main(), which outlives this call
    logs.configure(logging.WARNING if quiet else logging.INFO)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if args is None else args
    try:
        code = cli.main(arguments, prog_name="kosmos", standalone_mode=False)
        # a pipe that closes early (head) must not end in a traceback at exit
        sys.stdout.flush()
        # outside click's standalone mode ctx.exit(code) comes back as a value
        sys.exit(code if isinstance(code, int) else 0)
    except KosmosError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        _fail(error.message, error.hint, code=2 if isinstance(error, ConfigError) else 1)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context is not None else None
        _fail(error.format_message(), hint, code=error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", None, code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(message: str, hint: str | None, *, code: int) -> None:
    sys.stderr.write(f"error: {message}\n")
    if hint is not None:
        sys.stderr.write(f"hint: {hint}\n")
    sys.exit(code)
