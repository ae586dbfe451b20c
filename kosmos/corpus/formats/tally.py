"""Tally: what became of every record of a source, so that nothing is lost silently."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kosmos.boxes import Box
from kosmos.files import Json

Fate: TypeAlias = Literal["bad", "left out", "changed"]
_MAX_WHERE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Loss:
    """Something of a source that is not in the documents: which record, and why."""

    fate: Fate
    reason: str
    where: str

    def to_json(self) -> Json:
        """The row of ``dropped.jsonl``."""
        return {"fate": self.fate, "reason": self.reason, "where": self.where}


@dataclass(slots=True)
class Tally:
    """Counts, filled by a reader while its documents are drawn.

    Three things can happen to a record besides becoming a document as it is: it is bad (not what
    the format promises), a rule leaves it out, or it is kept with something changed.
    """

    num_documents: int = 0
    """Documents made."""
    losses: list[Loss] = field(default_factory=list)
    """Everything else, in order."""
    _counts: Counter[tuple[Fate, str]] = field(default_factory=Counter)

    def see_box(self, box: Box, *, size: tuple[int, int], phrase: str) -> None:
        """Hear of a box as the source has it, before any rule; what checks boxes overrides this.

        Args:
            box: As fractions, if the source is what the format says.
            size: Width and height of its picture in pixels.
            phrase: The words it belongs to.
        """

    def keep(self) -> None:
        """Count a document."""
        self.num_documents += 1

    def bad(self, reason: str, where: str) -> None:
        """Count a record that is not what it should be, under a reason of few words."""
        self._count("bad", reason, where)

    def unstorable(self, where: str) -> None:
        """Count a document again, as one that cannot be stored."""
        self.num_documents -= 1
        self.bad("document that cannot be stored", where)

    def leave_out(self, reason: str, where: str) -> None:
        """Count a record that a rule of the corpus leaves out."""
        self._count("left out", reason, where)

    def change(self, reason: str, where: str) -> None:
        """Count a part of a record that its document is without."""
        self._count("changed", reason, where)

    def lose(self, loss: Loss) -> None:
        """Remember what was counted; who keeps it elsewhere overrides this."""
        self.losses.append(loss)

    @property
    def num_bad(self) -> int:
        """Records that were not what they should be."""
        return sum(self.counts("bad").values())

    def counts(self, fate: Fate) -> dict[str, int]:
        """How often each reason was given, the most frequent first."""
        found = Counter({why: n for (each, why), n in self._counts.items() if each == fate})
        return dict(found.most_common())

    def _count(self, fate: Fate, reason: str, where: str) -> None:
        self._counts[fate, reason] += 1
        shown = where.encode("utf-8", "backslashreplace").decode("utf-8")[:_MAX_WHERE_CHARS]
        self.lose(Loss(fate, reason, shown))

    def to_json(self) -> dict[str, Json]:
        """Counts by fate and reason."""
        fates: tuple[Fate, ...] = ("bad", "left out", "changed")
        counts: dict[str, Json] = {
            fate.replace(" ", "_"): dict(self.counts(fate)) for fate in fates
        }
        return {"documents": self.num_documents, **counts}
