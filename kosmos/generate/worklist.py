"""A list of entries on its way through a model: what is left to ask, and where answers go.

::

    work = WorkList(folder_pictures(Path("photos")), sinks=[Coco(Path("boxes.json"))])
    for name, answer in engine.answer(work.requests(make)):
        work.put(name, answer)
    work.finish()

What an answers file has is not asked again, but every sink beside gets it, so that a data set or a
page is whole however often the list was stopped.
"""

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kosmos.errors import ConfigError, DataError, ImageError, KosmosError, MarkupError
from kosmos.files import Json
from kosmos.generate.export import answer_to_json
from kosmos.generate.reply import CandidateScore, Failure, Reply
from kosmos.generate.request import BAD_REQUEST, Answer, Request
from kosmos.generate.request_file import Entry, Problem, readable
from kosmos.generate.sinks.answers_file import AnswersFile
from kosmos.generate.sinks.sink import Row, Sink
from kosmos.logs import Progress, printable

_log = logging.getLogger(__name__)

_NOTHING: Mapping[str, Json] = {}
_REASONS = {
    ImageError: "picture",
    MarkupError: "markup",
    DataError: "document",
    ConfigError: "request",
}
"""What failures are counted under, the narrowest class first."""


@dataclass(slots=True)
class Totals:
    """What became of a list so far."""

    num_done: int = 0
    """Entries answered."""
    num_kept: int = 0
    """Entries that were answered by an earlier run."""
    failed: Counter[str] = field(default_factory=Counter)
    """Entries that could not be answered, by reason."""
    num_failed_before: int = 0
    """Entries that an earlier run found bad."""
    num_tokens: int = 0
    """Tokens of the answers."""
    seconds: float = 0.0
    """Time it took."""


class WorkList:
    """Entries, of which some may be answered already.

    Args:
        entries: In the order in which answers are told.
        sinks: What takes all answers, those of an earlier run too.
        told: What takes those of this run, in order; None for nobody.
        file: What remembers; None for nothing.
        title: What is being done, for the progress line; empty for none.

    Raises:
        ConfigError: If an id is answered in the file, but to something else.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        sinks: Sequence[Sink] = (),
        told: Sink | None = None,
        file: AnswersFile | None = None,
        title: str = "",
    ) -> None:
        self.totals = Totals()
        self.todo: list[Entry] = []
        """What is left to ask, each once."""
        self._entries = entries
        self._sinks = sinks
        self._told = told
        self._file = file
        self._title = title
        self._places: dict[str, list[int]] = defaultdict(list)
        self._requests: dict[str, Request] = {}
        self._waiting: dict[int, Row | Problem] = {}
        self._progress: Progress | None = None
        self._began_s = 0.0
        known = set()
        for place, entry in enumerate(entries):
            self._places[entry.id].append(place)
            if file is not None and entry.problem is None and file.has(entry):
                self.totals.num_kept += 1
                known.add(entry.id)
            elif file is not None and file.has_failed(entry):
                self.totals.num_failed_before += 1
                known.add(entry.id)
            elif entry.problem is None and self._places[entry.id] == [place]:
                self.todo.append(entry)
        self._order = deque(i for i, entry in enumerate(entries) if entry.id not in known)
        if file is not None and sinks:
            for name, found in file.rows():
                if name in known:
                    self._show(name, found)
        for place, entry in enumerate(entries):
            is_first = self._places[entry.id][0] == place
            if entry.problem is not None and is_first and entry.id not in known:
                self.totals.failed[entry.problem.reason] += 1
                self._take(entry.id, entry.problem)

    def requests(self, make: Callable[[Entry], Request]) -> Iterator[Request]:
        """What is left, as requests; an entry of which none can be made has no answer.

        Args:
            make: Makes the request of an entry, with its id.
        """
        self._began_s = time.monotonic()
        if self._title:
            before = self.totals.num_kept + self.totals.num_failed_before
            total = before + len(self.todo)
            self._progress = Progress(self._title, total=total, unit="items", start=before)
            self._progress.__enter__()
        for entry in self.todo:
            try:
                request = make(entry)
            except BAD_REQUEST as error:
                self._fail(entry.id, error)
            else:
                # as the engine calls one without an id, which is alone
                self._requests[request.id or "0"] = request
                yield request

    def put(self, name: str, answer: Answer | Failure, more: Mapping[str, Json] = _NOTHING) -> None:
        """Take an answer.

        Args:
            name: By which :meth:`~kosmos.generate.generator.Generator.answer` gave it.
            answer: What it gave.
            more: What the answer's row says beside.

        Raises:
            KosmosError: If it is the failure of an entry without an id, which is alone.
        """
        request = self._requests.pop(name)
        if isinstance(answer, Failure):
            self._fail(request.id, answer.error)
            return
        self.totals.num_done += 1
        for item in answer:
            if isinstance(item, Reply):
                self.totals.num_tokens += len(item.token_ids)
            elif isinstance(item, CandidateScore):
                self.totals.num_tokens += item.num_tokens
        self._take(request.id, {**answer_to_json(request, answer), **more})

    def finish(self) -> None:
        """Write what takes all answers."""
        for sink in self._sinks:
            sink.finish()

    def close(self) -> None:
        """Take the progress line away."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)

    def _fail(self, name: str, error: KosmosError) -> None:
        if not name:
            raise error
        reason = reason_of(error)
        self.totals.failed[reason] += 1
        self._take(name, Problem(reason, readable(error.message), error.hint))

    def _take(self, name: str, found: Row | Problem) -> None:
        if self._file is not None:
            self._file.put(self._entries[self._places[name][0]], found)
        self._show(name, found)
        if self._told is not None:
            self._waiting.update(dict.fromkeys(self._places[name], found))
            while self._order and self._order[0] in self._waiting:
                place = self._order.popleft()
                self._told.put(place, self._entries[place], self._waiting.pop(place))
        totals = self.totals
        totals.seconds = max(time.monotonic() - self._began_s, 1e-9)
        if self._progress is not None:
            rate = (totals.num_done + totals.failed.total()) / totals.seconds
            self._progress.advance(1, **{"items/s": rate, "failed": totals.failed.total()})

    def _show(self, name: str, found: Row | Problem) -> None:
        """Give an answer to what draws or gathers; a picture that is gone by now is told."""
        for place in self._places[name]:
            for sink in self._sinks:
                try:
                    sink.put(place, self._entries[place], found)
                except ImageError as error:
                    self.totals.failed["picture"] += 1
                    _log.warning("error: %s", printable(error.message))


def reason_of(error: KosmosError) -> str:
    """What a failure is counted under: picture, markup, document or request."""
    return next(name for kind, name in _REASONS.items() if isinstance(error, kind))
