"""What the answering commands share: what there is to answer, and where answers go.

- :func:`work_options`, :class:`WorkChoice`: ``--image``, ``--requests``, ``--jsonl`` and the rest
- :func:`answers`: the list of a command, opened; at its end what became of it is told
"""

import datetime
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kosmos import __version__, runtime
from kosmos.cli.options import (
    PATH,
    ModelChoice,
    Option,
    as_options,
    grouped,
    json_option,
    told_as_options,
)
from kosmos.cli.replies import ReplyChoice
from kosmos.document.types import ImageSource
from kosmos.errors import ConfigError
from kosmos.files import Json
from kosmos.generate.request_file import (
    Entry,
    folder_pictures,
    named_pictures,
    readable,
    request_lines,
)
from kosmos.generate.sinks.answers_file import AnswersFile
from kosmos.generate.sinks.boxes import DRAWN, Coco, Drawings
from kosmos.generate.sinks.page import Page
from kosmos.generate.sinks.sink import Row, Sink
from kosmos.generate.sinks.words import Told
from kosmos.generate.worklist import Totals, WorkList

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator

STDIN = "-"
VERSION = 2
"""Of what a line says; lines of another are not continued."""

_MAX_STDIN_BYTES = 1 << 29


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkChoice:
    """What to answer, and where answers go."""

    images: tuple[str, ...]
    pictures: Path | None = None
    requests: Path | None
    limit: int | None
    jsonl: Path | None
    force: bool
    retry_bad: bool
    draw: Path | None = None
    coco: Path | None = None
    html: Path | None = None
    as_json: bool

    @property
    def is_list(self) -> bool:
        """Whether progress and totals are told."""
        return self.requests is not None or self.jsonl is not None

    def check(self, *, one_prompt: bool = False) -> None:
        """Fail unless the options say once what to answer, and each has an effect.

        Args:
            one_prompt: Whether pictures named one by one are those of one prompt, which need not
                have any.

        Raises:
            UsageError: If they do not.
        """
        ways = {"--image": self.images, "--images": self.pictures, "--requests": self.requests}
        found = [name for name, value in ways.items() if value]
        if len(found) > 1 or not (found or one_prompt):
            known = "--image and --requests" if one_prompt else "--image, --images and --requests"
            told = " and ".join(found) or "none"
            raise click.UsageError(f"expected one of {known}, found {told}")
        if self.limit is not None and not (self.pictures or self.requests):
            raise click.UsageError("--limit: expected a list to take the first of, found none")
        if self.jsonl is None and (self.force or self.retry_bad):
            raise click.UsageError("--force, --retry-bad: expected --jsonl, which they are about")
        if self.jsonl is not None and one_prompt and self.requests is None:
            raise click.UsageError("--jsonl: expected --requests, found none")
        if self.jsonl is not None and STDIN in self.images:
            raise click.UsageError(f"--image {STDIN}: expected files with --jsonl, found stdin")
        is_one = found == ["--image"] and (one_prompt or len(self.images) == 1)
        if self.draw is not None and is_one and self.draw.suffix.lower() not in DRAWN:
            raise click.UsageError(f"--draw: expected a .png or .svg, found {self.draw.name!r}")

    def entries(
        self,
        field: str,
        words: str | None,
        *,
        needs_image: bool = True,
        candidates: Sequence[str] | None = None,
    ) -> list[Entry]:
        """What there is to answer, of a folder, a requests file or pictures named one by one.

        Arguments are those of :func:`~kosmos.generate.request_file.request_lines`.

        Raises:
            DataError: If there is nothing to answer.
        """
        if self.requests is not None:
            lines = partial(request_lines, self.requests, field, words, limit=self.limit)
            return lines(needs_image=needs_image, candidates=candidates)
        if self.pictures is not None:
            return folder_pictures(self.pictures, words or "", limit=self.limit)
        return named_pictures(self._named(), words or "")

    def one(self, field: str, words: str, candidates: Sequence[str] = ()) -> list[Entry]:
        """All pictures in one prompt, which has no name; its words are those of a field.

        Raises:
            ConfigError: If stdin is named twice.
        """
        images, names = [source for _, source in self._named()], [*map(readable, self.images)]
        asked: dict[str, Json] = {"images": [*names], field: words}
        shown = Entry(id="", images=images, names=names, words=words, asked=asked)
        return [replace(shown, candidates=candidates)]

    def _named(self) -> list[tuple[str, ImageSource]]:
        if self.images.count(STDIN) > 1:
            raise ConfigError(f"--image: expected {STDIN} (stdin) at most once, found it twice")
        # the same file may be named twice, but has one line
        names = self.images if self.jsonl is None else dict.fromkeys(self.images)
        return [
            (name, sys.stdin.buffer.read(_MAX_STDIN_BYTES) if name == STDIN else Path(name))
            for name in names
        ]


_OPTIONS: dict[str, Option] = {
    "pictures": click.option(
        "--images",
        "pictures",
        type=PATH,
        metavar="DIR",
        help="Every picture in a folder and those below it.",
    ),
    "requests": click.option(
        "--requests", type=PATH, help="JSON Lines, each with what to ask of which pictures."
    ),
    "limit": click.option("--limit", type=click.IntRange(1), help="The first so many only."),
    "jsonl": click.option(
        "--jsonl", type=PATH, help="Write a line for each answer here; goes on if stopped."
    ),
    "force": click.option("--force", is_flag=True, help="Start --jsonl anew."),
    "retry_bad": click.option("--retry-bad", is_flag=True, help="Try again what failed before."),
    "draw": click.option(
        "--draw",
        type=PATH,
        help="Write the picture with its boxes as .png or .svg. With several pictures, a folder, "
        "or a name that each drawing's begins with.",
    ),
    "coco": click.option(
        "--coco",
        type=PATH,
        metavar="FILE",
        help="Write all boxes as a COCO data set, in pixels, with confidence as score.",
    ),
    "html": click.option(
        "--html", type=PATH, metavar="FILE", help="Write a page of all pictures and answers."
    ),
    "as_json": json_option("reply, one a line"),
}


def work_options(*, image: str, without: Sequence[str] = ()) -> Option:
    """What to answer and where answers go, given to the command as ``work``.

    Args:
        image: What ``--image`` is.
        without: Fields of :class:`WorkChoice` that the command has no option for.
    """
    first = click.option("--image", "images", metavar="FILE", multiple=True, help=image)
    options: dict[str, Option] = {
        name: option for name, option in _OPTIONS.items() if name not in without
    }
    return grouped("work", WorkChoice, {"images": first, **options})


@contextmanager
def answers(
    work: WorkChoice,
    entries: Sequence[Entry],
    model: ModelChoice,
    lines: Callable[[Row], list[str]],
    made_by: Mapping[str, Json],
    *,
    replies: ReplyChoice | None = None,
    show_confidence: bool = False,
) -> Iterator[tuple["Generator | None", WorkList]]:
    """The list of a command, opened, and who answers what is left of it, if anything is.

    At the end the list is finished, and what became of it is told.

    Args:
        work: Where answers go.
        entries: What is asked.
        model: Who answers.
        lines: An answer as people read it.
        made_by: What answers depend on beside the model.
        replies: How replies are made, where replies are asked for.
        show_confidence: Whether boxes are labelled with it.

    Raises:
        ConfigError: If lines that are there were made by other settings.
        Exit: With code 1, if something has no answer.
    """
    command = click.get_current_context().info_name or ""
    several = work.pictures is not None or work.requests is not None or len(entries) > 1
    drawn = work.draw and Drawings(work.draw, several=several, show_confidence=show_confidence)
    sinks: list[Sink] = [drawn] if drawn else []
    if work.coco is not None:
        sinks.append(Coco(work.coco))
    if work.html is not None:
        facts = {"Model": str(model.folder), "Prompt": str(made_by.get("prompt") or "")}
        facts["Made"] = f"{datetime.datetime.now():%Y-%m-%d %H:%M}, openkosmos {__version__}"
        title = f"kosmos {command}"
        sinks.append(Page(work.html, title=title, facts=facts, show_confidence=show_confidence))
    with ExitStack() as stack:
        file = None
        if work.jsonl is not None:
            settings: dict[str, Json] = {"version": VERSION, "command": command}
            settings |= {"model": model.digest(), **model.settings(), **made_by}
            file = AnswersFile(work.jsonl, settings, force=work.force, retry_bad=work.retry_bad)
            stack.callback(file.close)
        told = None
        if file is None or work.as_json:
            told = Told(
                click.echo,
                lambda words: click.echo(as_options(words), err=True),
                lines=None if work.as_json or work.requests is not None else lines,
                several=several,
                ids=work.requests is not None,
                drawn=drawn.target if drawn else None,
            )
        title = command if work.is_list else ""
        listed = WorkList(entries, sinks=sinks, told=told, file=file, title=title)
        try:
            with closing(listed), told_as_options():
                engine = model.load() if listed.todo else None
                if engine and replies:
                    replies.prepare(engine)
                yield engine, listed
            listed.finish()
        except KeyboardInterrupt:
            _tell_totals(work, listed.totals)
            if work.jsonl is not None:
                kept = f"{work.jsonl} has what is finished; the same command goes on with it"
                click.echo(kept, err=True)
            raise
    _tell_totals(work, listed.totals)
    if listed.totals.failed or listed.totals.num_failed_before:
        raise click.exceptions.Exit(1)


def _tell_totals(work: WorkChoice, totals: Totals) -> None:
    if not work.is_list:
        return
    parts = [f"{totals.num_done} done"]
    if totals.num_kept:
        parts.append(f"{totals.num_kept} were done before")
    if totals.failed:
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(totals.failed.items()))
        parts.append(f"{totals.failed.total()} failed ({reasons})")
    if totals.num_failed_before:
        parts.append(f"{totals.num_failed_before} failed before (--retry-bad tries them again)")
    if totals.num_done:
        parts.append(f"{totals.num_done / totals.seconds:.3g} items/s")
        parts.append(f"{totals.num_tokens / totals.seconds:.3g} tokens/s")
    parts.append(f"peak memory {runtime.peak_memory_bytes() / 2**30:.2f} GiB")
    click.echo("  ".join(parts), err=True)
    if work.jsonl is not None and (totals.failed or totals.num_failed_before):
        click.echo(f"{work.jsonl}.bad.jsonl says what failed and why", err=True)
