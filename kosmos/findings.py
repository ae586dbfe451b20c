"""Findings: what rules find in data and runs, merged by kind, each with a count and examples.

A rule is written once, as a function that yields findings. Who checks prints all of them
(:class:`Findings` merges them); who starts something raises the first error among them
(:func:`raise_first_error`).

::

    error    training or the import would refuse, or the data is not what it says it is
    warning  it would train, but probably not on what was meant
    note     a fact worth knowing

A finding is a kind of fault in a place (a corpus, a stream); records that have it are counted and
the first few are kept, so that a fault in every record costs no more memory than one.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from kosmos.errors import ConfigError, KosmosError
from kosmos.files import Json

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

MAX_EXAMPLES = 3
"""Records named under a finding."""
_MAX_EXAMPLE_CHARS = 300
_MAX_KINDS = 200


@dataclass(slots=True, kw_only=True)
class Finding:
    """One kind of fault in one place."""

    severity: Severity
    """How bad it is."""
    where: str
    """Corpus, stream or file."""
    what: str
    """What was expected and what came, without the values of a single record."""
    hint: str = ""
    """What to do about it."""
    count: int = 0
    """Records that have it; 0 for a fault of the whole."""
    total: int = 0
    """Records among which they were counted; 0 where a share says nothing."""
    examples: list[str] = field(default_factory=list)
    """The first few, in full; of a fault of the whole, what shows it."""
    error: type[KosmosError] = ConfigError
    """What whoever starts raises for it, if it is an error."""

    def as_error(self) -> KosmosError:
        """The same as something to raise."""
        place = f"{self.where}: " if self.where else ""
        return self.error(f"{place}{self.what}", hint=self.hint or None)

    def to_json(self) -> Json:
        """As JSON values."""
        return {
            "severity": self.severity,
            "where": self.where,
            "what": self.what,
            "hint": self.hint,
            "count": self.count,
            "total": self.total,
            "examples": list(self.examples),
        }


def finding_of(error: KosmosError) -> Finding:
    """The same as a finding, of an error that came up on the way."""
    where, colon, what = error.message.partition(": ")
    return Finding(
        severity="error",
        where=where if colon else "",
        what=what or where,
        hint=error.hint or "",
        error=type(error),
    )


class Findings:
    """Findings as they come, the same kind in the same place merged."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}

    def add(
        self,
        severity: Severity,
        where: str,
        what: str,
        *,
        hint: str = "",
        evidence: Sequence[str] = (),
    ) -> None:
        """Report a fault of a place as a whole, with all that shows it."""
        self._found[where, what] = Finding(
            severity=severity, where=where, what=what, hint=hint, examples=list(evidence)
        )

    def count(
        self, severity: Severity, where: str, what: str, example: str, *, hint: str = ""
    ) -> None:
        """Count a record that has a fault."""
        key = (where, what)
        if key not in self._found and len(self._found) >= _MAX_KINDS:
            # a message with a record's own values in it must not fill the memory
            key = (where, what := "other faults")
        finding = self._found.setdefault(
            key, Finding(severity=severity, where=where, what=what, hint=hint)
        )
        finding.count += 1
        _keep(finding, example)

    def drop(self, where: str, what: str) -> None:
        """Take a finding back that turned out to be none."""
        self._found.pop((where, what), None)

    def of(self, where: str) -> list[Finding]:
        """Those of a place, as they are kept: severity and total may still be set."""
        return [finding for finding in self._found.values() if finding.where == where]

    def extend(self, found: Iterable[Finding]) -> None:
        """Take what a rule yields."""
        for finding in found:
            self._found[finding.where, finding.what] = finding

    def __iter__(self) -> Iterator[Finding]:
        """Place after place as they came up, the worst of each first."""
        places = list(dict.fromkeys(finding.where for finding in self._found.values()))
        rank = {severity: number for number, severity in enumerate(SEVERITIES)}
        return iter(
            sorted(
                self._found.values(),
                key=lambda finding: (places.index(finding.where), rank[finding.severity]),
            )
        )

    def num(self, severity: Severity) -> int:
        """Kinds of a severity."""
        return sum(finding.severity == severity for finding in self._found.values())


def raise_first_error(found: Iterable[Finding], *, log: logging.Logger | None = None) -> None:
    """Raise the first error among findings; warnings and notes stop nothing.

    Args:
        found: What rules found.
        log: Takes warnings and notes; None: nobody does.

    Raises:
        KosmosError: Of the class that the finding names.
    """
    for finding in found:
        if finding.severity == "error":
            raise finding.as_error()
        if log is not None:
            level = logging.WARNING if finding.severity == "warning" else logging.INFO
            log.log(level, "%s: %s", finding.where, finding.what)


def _keep(finding: Finding, example: str) -> None:
    if example and len(finding.examples) < MAX_EXAMPLES:
        if len(example) > _MAX_EXAMPLE_CHARS:
            example = f"{example[:_MAX_EXAMPLE_CHARS]}..."
        finding.examples.append(example)
