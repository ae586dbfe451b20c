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

All of it appears at once, by one rename, or what was there before stays. One import at a time works
at a destination, and replaces nothing but an earlier one.

Which side a document falls on follows from the seed and its ``source`` alone (the picture, the
page, the instruction), so that captions of one picture never meet on both sides, not even when
they come from two sources imported one after the other. Of a test set, the side that is held out is
kept and the other left out; without a fraction it is held out as a whole.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kosmos import config as configs
from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.table import FORMATS
from kosmos.corpus.formats.tally import Loss, Tally
from kosmos.corpus.rules import MAX_BAD, Limits, judge_sides, judge_source
from kosmos.document.shards import ShardWriter
from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, atomic_folder, check_replaceable, json_text, read_json, write_json
from kosmos.findings import raise_first_error
from kosmos.remote import AnyPath, locate
from kosmos.runtime import generator

REFUSED = "refused.jsonl"
_DROPPED = "dropped.jsonl"
_REPORT = "report.json"
_SHARDS = ("manifest.json", "index.npy", "[0-9]*.tar")
_FILES = (_REPORT, _DROPPED, REFUSED, *(f"{s}/{n}" for s in ("train", "heldout") for n in _SHARDS))
"""All that an import leaves."""


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
    heldout_fraction: float | None = None,
    max_documents: int | None = None,
    max_bad: float = MAX_BAD,
) -> ImportReport:
    """Read a source into shards.

    Args:
        format_name: A name of :data:`~kosmos.corpus.formats.table.FORMATS`.
        source: A file, or a folder of files of the format; text may name a remote one, such as
            ``s3://bucket/corpus``.
        destination: Folder for the results; an earlier import there is replaced.
        config: Choices of the reader.
        heldout_fraction: Share of the sources held out; None: none, of a test set all.
        max_documents: Stop behind this many; None reads all.
        max_bad: Share of bad records past which the import fails and leaves nothing.

    Raises:
        ConfigError: If the format is unknown, a number is impossible, or what is at the destination
            is no earlier import.
        DataError: If a file is not what the format says, too many records are bad, a side of the
            split would be empty, or another import is at work there.
    """
    if format_name not in FORMATS:
        raise ConfigError(f"format: expected one of {', '.join(FORMATS)}, found {format_name!r}")
    is_test_set = FORMATS[format_name].is_test_set
    if heldout_fraction is None:
        heldout_fraction = 1.0 if is_test_set else 0.0
    limits = Limits(heldout_fraction=heldout_fraction, max_documents=max_documents, max_bad=max_bad)
    source = locate(source)
    provenance: dict[str, Json] = {
        "format": format_name,
        "source": str(source),
        "config": configs.to_json(config),
        "heldout_fraction": heldout_fraction,
    }
    with atomic_folder(destination, check=_check_earlier) as scratch:
        try:
            with open(scratch / _DROPPED, "wb") as file:
                tally = _Account(file)
                sides = [
                    ShardWriter(scratch / side, provenance=provenance)
                    for side in ("train", "heldout")
                ]
                with sides[0] as train, sides[1] as heldout:
                    for doc in FORMATS[format_name].read(source, config, tally):
                        is_held = is_heldout(doc, config.seed, heldout_fraction)
                        if is_test_set and not is_held:
                            tally.num_documents -= 1
                            tally.leave_out("test picture of the side that is trained on", doc.id)
                            continue
                        _write(heldout if is_held else train, doc, tally)
                        if len(train) + len(heldout) == max_documents:
                            break
                    where, fraction = str(source), 1.0 if is_test_set else heldout_fraction
                    raise_first_error(judge_source(where, tally, max_bad=limits.max_bad))
                    raise_first_error(judge_sides(where, len(train), len(heldout), fraction))
        except DataError as error:
            raise _told(error, scratch, destination) from error
        report = ImportReport(num_train=len(train), num_heldout=len(heldout), tally=tally)
        counts = {"train": report.num_train, "heldout": report.num_heldout, **tally.to_json()}
        write_json(scratch / _REPORT, {**provenance, **counts})
    return report


def is_heldout(doc: Document, seed: int, fraction: float) -> bool:
    """Whether a document is held out; a function of the seed and where it came from."""
    source = str(doc.meta.get("source", doc.id)).encode("utf-8", "backslashreplace").decode("utf-8")
    return bool(generator(seed, "heldout", source).random() < fraction)


class _Account(Tally):
    """A tally that keeps what was lost in a file, and not in memory."""

    __slots__ = ("_file",)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def lose(self, loss: Loss) -> None:
        self._file.write(f"{json_text(loss.to_json())}\n".encode())


def _write(writer: ShardWriter, doc: Document, tally: Tally) -> None:
    try:
        writer.write(doc)
    except DataError as error:
        if writer.is_broken:
            raise
        tally.unstorable(error.message)


def _check_earlier(folder: Path) -> None:
    """Fail unless a folder is empty, or an earlier import and no more."""

    def is_result(folder: Path) -> bool:
        value = read_json(folder / _REPORT) if (folder / _REPORT).exists() else None
        is_report = isinstance(value, dict) and "format" in value and "heldout" in value
        return is_report or [path.name for path in folder.iterdir()] == [REFUSED]

    check_replaceable(folder, "an earlier import", files=_FILES, is_result=is_result)


def _told(error: DataError, scratch: Path, destination: Path) -> DataError:
    """An error in the words of the destination, what was lost kept there for inspection."""
    message = error.message.replace(str(scratch), str(destination))
    hint, refused = error.hint, destination / REFUSED
    with suppress(OSError):
        if (scratch / _DROPPED).stat().st_size:
            destination.mkdir(exist_ok=True)
            os.replace(scratch / _DROPPED, refused)
            hint = "; ".join(filter(None, (hint, f"every loss is listed in {refused}")))
        else:
            refused.unlink(missing_ok=True)
    return DataError(message, hint=hint)
