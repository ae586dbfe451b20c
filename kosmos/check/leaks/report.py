"""What a leak test found: who moved whom, and what else was tried."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from kosmos.errors import DataError
from kosmos.files import Json


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried."""

    name: str
    """What should be so."""
    found: str
    """What was measured, or why it could not be."""
    passed: bool | None
    """None: the batch has nothing to try it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """What moved when something was changed."""

    stream: str
    isolated: bool
    """Whether documents of a row must not see each other."""
    document_ids: tuple[str, ...]
    """The documents, row by row."""
    rows: tuple[int, ...]
    """Row of the batch that each document is in."""
    moved: Float[np.ndarray, "changed documents"]
    """Largest |difference| of any layer's output or logit in each document; a line for each
    document that was changed, the last for padding."""
    checks: tuple[Check, ...]
    """All that was tried, the matrix first."""

    @property
    def passed(self) -> bool:
        """Whether nothing that was tried failed."""
        return all(check.passed is not False for check in self.checks)

    def leaks(self) -> Iterator[tuple[int, int]]:
        """Documents that moved and must not have, as (changed, moved).

        Padding counts as one more document that may be changed.
        """
        for changed, moved in np.argwhere((self.moved > 0) & ~self.allowed()).tolist():
            yield int(changed), int(moved)

    def allowed(self) -> Bool[np.ndarray, "changed documents"]:
        """Which documents may move, in the shape of ``moved``."""
        none = np.zeros((1, len(self.document_ids)), dtype=np.bool_)
        return np.concatenate([may_move(self.rows, isolated=self.isolated), none])

    def to_json(self) -> dict[str, Json]:
        """Everything as JSON."""
        return {
            "stream": self.stream,
            "passed": self.passed,
            "isolated": self.isolated,
            "documents": list(self.document_ids),
            "rows": list(self.rows),
            "moved": self.moved.tolist(),
            "checks": [asdict(check) for check in self.checks],
        }

    def raise_if_leaking(self) -> None:
        """Fail unless every check passed.

        Raises:
            DataError: Naming the first pair, or the first check that failed.
        """
        for changed, moved in self.leaks():
            names = [*map(repr, self.document_ids), "padding"]
            raise DataError(
                f"stream {self.stream!r}: expected document {names[moved]} not to move with "
                f"{names[changed]}, found a difference of {self.moved[changed, moved]:.3g}",
                hint="the attention mask, the positions or the order of pictures is broken",
            )
        for check in self.checks:
            if check.passed is False:
                raise DataError(
                    f"stream {self.stream!r}: expected that {check.name}, found {check.found}"
                )


def may_move(rows: Sequence[int], *, isolated: bool) -> Bool[np.ndarray, "changed documents"]:
    """Which documents may move with which: itself, and later ones of the row if they see it.

    ``rows`` has the row of each document, in order.
    """
    of_row, count = np.array(rows), len(rows)
    seen = np.eye(count, dtype=np.bool_) if isolated else np.tri(count, dtype=np.bool_).T
    allowed: Bool[np.ndarray, "changed documents"] = (of_row[:, None] == of_row[None, :]) & seen
    return allowed


def matrix_checks(report: LeakReport, *, has_padding: bool, is_read: np.ndarray) -> Iterator[Check]:
    """What the matrix of a report says, which has no checks yet.

    ``is_read`` is which documents have a position; a last token alone has none.
    """
    count = len(report.document_ids)
    documents = report.moved[:count]
    forbidden = ~report.allowed()[:count]
    name = "no document moves an earlier one, or one in another row"
    if report.isolated:
        name = "no document moves another"
    if forbidden.any():
        largest = documents[forbidden].max()
        found = f"{int(forbidden.sum())} pairs, largest |difference| {largest:.3g}"
        yield Check(name, found, bool(largest == 0.0))
    else:
        yield Check(name, "one document only", None)
    if not report.isolated and len(set(report.rows)) < count:
        later = (documents > 0) & ~np.eye(count, dtype=np.bool_)
        found = f"{int(later.sum())} pairs, by design of the paper"
        yield Check("later documents of a row see earlier ones", found, None)
    blind = [report.document_ids[n] for n in range(count) if is_read[n] and not documents[n, n] > 0]
    found = f"{count - len(blind)} of {count} moved" + (f", not {blind[0]!r}" if blind else "")
    yield Check("a document that is changed moves itself", found, not blind)
    name = "padding moves nothing"
    if has_padding:
        largest = report.moved[count].max()
        yield Check(name, f"largest |difference| {largest:.3g}", bool(largest == 0.0))
    else:
        yield Check(name, "no padding: all rows of this batch are equally long", None)
