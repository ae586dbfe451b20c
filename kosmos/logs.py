"""Talk goes to stderr: logging, and a progress line that becomes plain text off a terminal.

stdout is data. Nothing here is colour alone, and ``NO_COLOR`` is respected (by rich).
"""

import logging
import sys
import time
from types import TracebackType

PLAIN_INTERVAL_S = 5.0
_log = logging.getLogger(__name__)
_log.setLevel(logging.INFO)


def configure(level: int = logging.INFO) -> None:
    """Send log records to stderr, progress as those of INFO; called by the command line only."""
    _log.setLevel(level)
    logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s", force=True)


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with all that would move a cursor or change a terminal written out: ``\x1b[2J``.

    Args:
        text: Of a document, say, which anybody may have written.
        keep: Characters that stay as they are.
    """
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode()
        for character in text
    )


class Progress:
    """Progress of a long act: a bar on a terminal, a line every few seconds elsewhere.

    Args:
        title: What is being done.
        total: How many units it takes; None if nobody knows.
        unit: What one unit is, in the plural.
        start: Units already done, when work is resumed.
    """

    def __init__(self, title: str, *, total: int | None, unit: str, start: int = 0) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = start
        self._start = start
        self._began_s = time.monotonic()
        self._printed_s = self._began_s
        self._live = None
        if sys.stderr.isatty() and _log.isEnabledFor(logging.INFO):
            # imported only for a person watching: it takes longer than the rest of this module
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._live = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._live.add_task(title, total=total, completed=start, note="")

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def advance(self, count: int = 1, **fields: str | float) -> None:
        """Count units as done.

        Args:
            count: How many.
            fields: Figures worth showing beside them.
        """
        self.done += count
        note = "  ".join(f"{name} {_short(value)}" for name, value in fields.items())
        if self._live is not None:
            self._live.update(self._task, completed=self.done, note=note)
            return
        now_s = time.monotonic()
        is_due = now_s - self._printed_s >= PLAIN_INTERVAL_S or self.done == self.total
        if is_due and _log.isEnabledFor(logging.INFO):
            self._printed_s = now_s
            line = f"{self.title}  {self.done}{self._of_total(now_s)}"
            sys.stderr.write(f"{line}  {note}".rstrip() + "\n")
            sys.stderr.flush()

    def _of_total(self, now_s: float) -> str:
        """How many there are in all and how long they will take, if that is known."""
        if self.total is None:
            return f" {self.unit}"
        rate = (self.done - self._start) / max(now_s - self._began_s, 1e-9)
        left_s = (self.total - self.done) / max(rate, 1e-9)
        return f"/{self.total} {self.unit}  {_duration(left_s)} left"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
