"""Samples of a WebDataset tar: neighboring members that belong together by their names.

A name is split at its first dot, as webdataset does, and ``0001.jpg``, ``0001.seg.png`` and
``0001.txt`` are one sample. Names with dots of their own are then in each other's way: all of
``IMG 2.00.jpg``, ``IMG 2.00.txt``, ``IMG 2.01.jpg`` ... would be one sample, and all but one of its
pictures lost without a word (webdataset#237, #205; datasets#7150). Therefore, among neighbors that
agree up to the first dot:

1. those that agree up to the *last* dot and have a picture and words (``.txt`` or ``.json``) are a
   sample of their own;
2. what is left goes to the member whose name has no other dot, if there is one, as in webdataset;
3. or else is split at the last dot, and is counted as the half that it is;
4. where a name comes again, a second sample begins, and both are kept.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.limits import MAX_RECORD_BYTES
from kosmos.corpus.formats.records import SourceFile, read_object, undamaged
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.tars import read_members
from kosmos.files import Json
from kosmos.image.codec import SUFFIXES

_WORDS = (".txt", ".json")
_MEMBER_BYTES = 1024
"""What an empty member takes in memory, about."""


@dataclass(slots=True, eq=False)
class Sample:
    """The members of a WebDataset tar that belong together."""

    where: str
    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    """Bytes by suffix, as ``".jpg"``."""

    @property
    def picture(self) -> bytes | None:
        """The first member that is named as a picture."""
        found = (data for suffix, data in self.members.items() if suffix in SUFFIXES)
        return next(found, None)

    @property
    def is_pair(self) -> bool:
        """Whether there is a picture and something is said of it."""
        return self.picture is not None and any(words in self.members for words in _WORDS)

    @property
    def num_bytes(self) -> int:
        """What it takes in memory, about."""
        return sum(len(data) + _MEMBER_BYTES for data in self.members.values())


def read_samples(file: SourceFile, config: ImportConfig, tally: Tally) -> Iterator[Sample]:
    """Samples of a tar, in order.

    Raises:
        DataError: If the file is not a tar or ends early, and that is to stop the import.
    """
    return undamaged(_samples(file, tally), config, tally)


def sample_fields(sample: Sample, tally: Tally) -> dict[str, Json] | None:
    """The JSON member of a sample; empty without one, None (counted) if it is not an object."""
    data = sample.members.get(".json")
    if data is None:
        return {}
    row = read_object(data, f"{sample.where}.json", tally)
    return None if row is None else row.fields


def _samples(file: SourceFile, tally: Tally) -> Iterator[Sample]:
    run = _Run("", "")
    for name, data in read_members(file.path, file.name, tally):
        folder, slash, base = name.rpartition("/")
        stem = base.partition(".")[0]
        if not stem:
            tally.leave_out("hidden file", f"{file.name}/{name}")
            continue
        if (key := folder + slash + stem) != run.key:
            yield from run.finish()
            run = _Run(file.name, key)
        yield from run.add(name, data)
    yield from run.finish()


class _Run:
    """Neighbors whose names agree up to the first dot.

    Args:
        file: The tar they are in.
        key: Their names up to there.
    """

    def __init__(self, file: str, key: str) -> None:
        self.key = key
        self._file = file
        self._groups: dict[str, list[Sample]] = {}  # by names up to the last dot
        self._num_begun: Counter[str] = Counter()
        self._num_bytes = 0
        self._last = key

    def add(self, name: str, data: bytes) -> Iterator[Sample]:
        """Take a member; give samples that are known to be whole by now."""
        stem, dot, ending = name.rpartition(".")
        if not dot or "/" in ending:
            stem, dot, ending = name, "", ""
        if stem != self._last != self.key and all(g.is_pair for g in self._groups[self._last]):
            for done in self._groups.pop(self._last):
                self._num_bytes -= done.num_bytes
                yield done
        if self._num_bytes + len(data) > MAX_RECORD_BYTES:
            yield from self.finish()
        self._last = stem
        named = self._groups.setdefault(stem, [])
        suffix = (dot + ending).lower()
        group = next((group for group in named if suffix not in group.members), None)
        if group is None:
            self._num_begun[stem] += 1
            again = f"#{self._num_begun[stem]}" if self._num_begun[stem] > 1 else ""
            named.append(group := Sample(f"{self._file}/{stem}{again}", stem))
        group.members[suffix] = data
        self._num_bytes += len(data) + _MEMBER_BYTES

    def finish(self) -> Iterator[Sample]:
        """Give what is left."""
        groups, self._groups, self._num_bytes, self._last = self._groups, {}, 0, self.key
        main = groups.get(self.key, [])
        left = [sample for named in groups.values() for sample in named]
        for half in (s for s in left if main and not (s in main or s.is_pair)):
            extension = half.key.removeprefix(self.key)
            for end in [e for e in half.members if extension + e not in main[0].members]:
                main[0].members[extension + end] = half.members.pop(end)
        yield from (sample for sample in left if sample.members)
