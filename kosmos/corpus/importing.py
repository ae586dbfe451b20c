"""A source of any known format becomes two folders of shards and an account of every record.

::

    DST/train/          document shards
    DST/heldout/        those that are only ever measured on, if a fraction was asked for
    DST/report.json     what was read and with which settings, what was kept, lost and why
    DST/dropped.jsonl   every loss: {"fate", "reason", "where"}
    DST/refused.jsonl   instead of all that, the losses of an import that failed because of them

What is not as it should be is never skipped without a word:

- a record of no use is *bad* under a reason: a caption cut by its own tabs or line breaks, a
  picture that does not decode, a span that is none. Past a share of them (``max_bad``) the import
  fails;
- a part of no use is *changed*: a box with reversed corners, a phrase that overlaps another, a
  picture of a page that is not there. Offsets that a table stores as floats are read as they are;
- what a rule of the corpus leaves out is *left out*, the picture of a test set among it;
- a file that ends early (a tar, a table, a list) stops the import and is named;
  ``damaged_files=count`` keeps what was whole and counts it as one bad record.

Which side a document falls on follows from the seed and its ``source`` alone (the picture, the
page, the instruction), so that captions of one picture never meet on both sides, not even when
they come from two sources imported one after the other.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kosmos import config as configs
from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.table import FORMATS
from kosmos.corpus.formats.tally import Tally
from kosmos.document.shards import ShardWriter
from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, write_json, write_jsonl
from kosmos.remote import AnyPath, locate
from kosmos.runtime import generator

REFUSED = "refused.jsonl"

_MIN_RECORDS_TO_JUDGE = 20
"""Below this many, a share of bad records says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did."""

    num_train: int
    """Documents in ``train/``."""
    num_heldout: int
    """Documents in ``heldout/``."""
    tally: Tally
    """What became of every record."""


def import_corpus(
    format_name: str,
    source: AnyPath | str,
    destination: Path,
    *,
    config: ImportConfig,
    heldout_fraction: float = 0.0,
    max_documents: int | None = None,
    max_bad: float = 0.1,
) -> ImportReport:
    """Read a source into shards.

    Args:
        format_name: A name of :data:`~kosmos.corpus.formats.table.FORMATS`.
        source: A file, or a folder of files of the format; text may name a remote one, such as
            ``s3://bucket/corpus``.
        destination: Folder for the results; folders of an earlier import are replaced.
        config: Choices of the reader.
        heldout_fraction: Share of the sources held out; of a test set it is all.
        max_documents: Stop behind this many; None reads all.
        max_bad: Share of bad records past which the import fails and leaves nothing.

    Raises:
        ConfigError: If the format is unknown or a number is impossible.
        DataError: If a file is not what the format says, too many records are bad, or a side of
            the split would be empty.
    """
    if format_name not in FORMATS:
        raise ConfigError(f"format: expected one of {', '.join(FORMATS)}, found {format_name!r}")
    if not 0.0 <= heldout_fraction <= 1.0:
        raise ConfigError(f"heldout_fraction: expected [0, 1], found {heldout_fraction}")
    if FORMATS[format_name].is_test_set:
        heldout_fraction = 1.0
    source = locate(source)
    tally, writing = Tally(), _Writing()
    provenance: dict[str, Json] = {
        "format": format_name,
        "source": str(source),
        "config": configs.to_json(config),
        "heldout_fraction": heldout_fraction,
    }
    with ExitStack() as stack:
        train = stack.enter_context(ShardWriter(destination / "train", provenance=provenance))
        heldout = stack.enter_context(ShardWriter(destination / "heldout", provenance=provenance))
        for doc in FORMATS[format_name].read(source, config, tally):
            side = heldout if is_heldout(doc, config.seed, heldout_fraction) else train
            writing.write(side, doc, tally)
            if max_documents is not None and len(train) + len(heldout) >= max_documents:
                break
        with _losses_kept(tally, destination / REFUSED):
            _check(source, tally, max_bad)
            _check_sides(source, len(train), len(heldout), heldout_fraction)
    report = ImportReport(num_train=len(train), num_heldout=len(heldout), tally=tally)
    _write_report(destination, report, provenance)
    return report


def is_heldout(doc: Document, seed: int, fraction: float) -> bool:
    """Whether a document is held out; a function of the seed and where it came from."""
    source = doc.meta.get("source", doc.id)
    return bool(generator(seed, "heldout", str(source)).random() < fraction)


class _Writing:
    """Tells a document that cannot be stored from a disk that takes nothing more."""

    def __init__(self) -> None:
        self._last: DataError | None = None

    def write(self, writer: ShardWriter, doc: Document, tally: Tally) -> None:
        try:
            writer.write(doc)
        except DataError as error:
            # a writer whose disk refused raises the very same error from then on
            if error is self._last:
                raise
            self._last = error
            tally.num_documents -= 1
            tally.bad("document that cannot be stored", error.message)


def _check(source: AnyPath, tally: Tally, max_bad: float) -> None:
    num_records = tally.num_documents + tally.num_bad
    if num_records >= _MIN_RECORDS_TO_JUDGE and tally.num_bad > max_bad * num_records:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in tally.counts("bad").items())
        raise DataError(
            f"{source}: expected at most {max_bad:.0%} bad records, "
            f"found {tally.num_bad} of {num_records}: {reasons}",
            hint="is it the right format? --max-bad raises the limit",
        )


def _check_sides(source: AnyPath, num_train: int, num_heldout: int, fraction: float) -> None:
    empty = "train" if num_train == 0 and fraction < 1.0 else ""
    if num_heldout == 0 and fraction > 0.0:
        empty = "heldout"
    if empty:
        total = num_train + num_heldout
        raise DataError(
            f"{source}: expected documents for {empty}/, found none among {total}",
            hint="change --heldout-fraction"
            if total
            else "every record was left out; --images may name the wrong folder",
        )


@contextmanager
def _losses_kept(tally: Tally, path: Path) -> Iterator[None]:
    """List what was lost if the block finds it too much."""
    path.unlink(missing_ok=True)
    try:
        yield
    except DataError as error:
        if not tally.losses:
            raise
        write_jsonl(path, (loss.to_json() for loss in tally.losses))
        raise DataError(
            error.message, hint=f"{error.hint}; every loss is listed in {path}"
        ) from error


def _write_report(destination: Path, report: ImportReport, provenance: dict[str, Json]) -> None:
    write_json(
        destination / "report.json",
        {
            **provenance,
            "train": report.num_train,
            "heldout": report.num_heldout,
            **report.tally.to_json(),
        },
    )
    write_jsonl(destination / "dropped.jsonl", (loss.to_json() for loss in report.tally.losses))
