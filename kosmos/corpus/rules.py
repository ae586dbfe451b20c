"""What a source must be for its import to succeed: rules that the import and its check share.

- :class:`Limits`: what an import allows
- :func:`judge_source`: whether what became of its records is within them
- :func:`judge_sides`: whether both sides of the split have documents
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kosmos.corpus.formats.tally import Tally
from kosmos.errors import ConfigError, DataError
from kosmos.findings import Finding

MAX_BAD = 0.1
"""Share of bad records past which an import fails, if not told otherwise."""
MIN_RECORDS = 20
"""Below this many, a share of bad records says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an import allows."""

    heldout_fraction: float = 0.0
    """Share of the sources held out."""
    max_documents: int | None = None
    """Documents behind which it stops; None reads all."""
    max_bad: float = MAX_BAD
    """Share of bad records past which it fails."""

    def __post_init__(self) -> None:
        for name in ("heldout_fraction", "max_bad"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name}: expected [0, 1], found {value}")
        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigError(f"max_documents: expected at least 1, found {self.max_documents}")


def is_refused(tally: Tally, max_bad: float = MAX_BAD) -> bool:
    """Whether too many records are bad; those that a rule leaves out are not counted."""
    num_records = tally.num_documents + tally.num_bad
    return num_records >= MIN_RECORDS and tally.num_bad > max_bad * num_records


def judge_source(where: str, tally: Tally, *, max_bad: float = MAX_BAD) -> Iterator[Finding]:
    """Too many bad records, or no documents at all.

    Args:
        where: What the source is called.
        tally: What became of its records.
        max_bad: Share of bad records that is allowed.
    """
    num_records = tally.num_documents + tally.num_bad
    if is_refused(tally, max_bad):
        reasons = ", ".join(f"{reason} ({n})" for reason, n in tally.counts("bad").items())
        yield Finding(
            severity="error",
            where=where,
            what=f"expected at most {max_bad:.0%} bad records, found {tally.num_bad} of "
            f"{num_records}: {reasons}",
            hint="is it the right format? --max-bad raises the limit",
            error=DataError,
        )
    if tally.num_documents == 0:
        num_left_out = sum(tally.counts("left out").values())
        is_left_out = num_left_out == num_records + num_left_out > 0
        yield Finding(
            severity="error",
            where=where,
            what=f"expected documents, found none in {num_records + num_left_out} records",
            hint="--images may name the wrong folder" if is_left_out else "",
            error=DataError,
        )


def judge_sides(where: str, num_train: int, num_heldout: int, fraction: float) -> Iterator[Finding]:
    """A side of the split that is empty though it was asked for.

    Args:
        where: What the source is called.
        num_train: Documents to train on.
        num_heldout: Documents to measure on.
        fraction: Share of the sources held out.
    """
    asked = {"train": fraction < 1.0, "heldout": fraction > 0.0}
    for side, number in (("train", num_train), ("heldout", num_heldout)):
        if asked[side] and not number:
            yield Finding(
                severity="error",
                where=where,
                what=f"expected documents for {side}/, found none among {num_train + num_heldout}",
                hint="change --heldout-fraction",
                error=DataError,
            )
