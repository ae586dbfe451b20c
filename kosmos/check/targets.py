"""What is wrong with data, found before a run: folders of shards, and sources not yet imported.

Everything goes to :class:`~kosmos.findings.Findings`; a fault never ends the check. What
a corpus is in numbers comes back. Reading is one pass, in memory that does not grow with the data.
"""

from dataclasses import dataclass
from pathlib import Path

from kosmos.boxes import Box
from kosmos.check.boxlint import BoxLint
from kosmos.check.corpus import CorpusCheck, CorpusFacts, Expected
from kosmos.check.repeats import Repeats
from kosmos.check.shardscan import ShardScan
from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.tally import Fate, Loss, Tally
from kosmos.corpus.rules import is_refused, judge_source
from kosmos.document.manifest import FILE, FORMAT
from kosmos.document.stored import stored_document
from kosmos.errors import ConfigError, DataError
from kosmos.files import read_json
from kosmos.findings import Findings, Severity
from kosmos.logs import Progress
from kosmos.remote import AnyPath, locate

_MANY_TRAINED = 0.05
"""Share of held-out documents that are trained on from which on a held-out loss means nothing."""
_MANY_CHANGED = 0.5
"""Changes for each document from which on they are warned of."""
_SEVERITIES: dict[Fate, Severity] = {"bad": "warning", "left out": "warning", "changed": "note"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A corpus that was read, to the end or until it was broken off."""

    where: str
    """What it is called in the findings."""
    facts: CorpusFacts
    documents: Repeats
    """What its documents were, to compare with another's."""
    is_whole: bool
    """Whether it was read to the end."""
    rows_per_step: float = 0.0
    """What every step of a run takes of it; 0 outside a run and of held-out data."""
    epochs: float = 0.0
    """How often the whole run reads it; 0 where that is not known."""


def shard_folders(root: Path) -> list[Path]:
    """Folders of document shards in a folder, itself among them; those with a broken manifest too.

    The empty ``heldout/`` that an import leaves where none was asked for is not among them.
    """
    found = []
    for path in sorted(root.rglob(FILE)):
        try:
            manifest = read_json(path)
        except DataError:
            manifest = {"format": FORMAT}  # nobody knows, so it is looked at
        # other stages leave manifests of their own
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            continue
        if manifest.get("num_documents") != 0 or path.parent.name != "heldout":
            found.append(path.parent)
    return found


def check_shards(
    folder: AnyPath | str, findings: Findings, expected: Expected, *, where: str = ""
) -> Checked:
    """Read a folder of shards to the end and say what is wrong with it.

    Ctrl-C ends the reading, not the check: what was found until then is told. Findings call the
    folder ``where``; empty: its path.
    """
    where = where or str(folder)
    try:
        path = locate(folder)
        if not (path / FILE).is_file():
            raise _not_shards(path)
        scan = ShardScan(path, findings, where)
    except (DataError, ConfigError) as error:
        findings.add("error", where, error.message, hint=error.hint or "")
        check = CorpusCheck(where, findings, expected)
        return Checked(where, check.finish(), check.documents, is_whole=True)
    check = CorpusCheck(where, findings, expected, len(scan))
    is_whole = True
    try:
        with Progress(f"check {where}", total=len(scan), unit="documents") as progress:
            for name, doc in scan:
                check.see(doc, name)
                progress.advance()
    except KeyboardInterrupt:
        is_whole = _broken_off(findings, check)
    if len(scan) == 0:
        findings.add("error", where, "expected documents, found none")
    return Checked(where, check.finish(), check.documents, is_whole)


def check_source(
    format_name: str,
    source: AnyPath | str,
    findings: Findings,
    expected: Expected,
    *,
    config: ImportConfig,
    limit: int | None = None,
) -> Checked:
    """Read a source as `kosmos data import` would, writing nothing, and say what is wrong with it.

    Boxes are looked at as the source has them, before any is cut or left out.

    Args:
        format_name: A name of :data:`~kosmos.corpus.formats.table.FORMATS`.
        source: A file, or a folder of files of the format.
        limit: Stop behind this many documents; None reads all.

    Raises:
        ConfigError: If the format is unknown.
    """
    from kosmos.corpus.formats.table import FORMATS  # a folder of shards needs no reader

    if format_name not in FORMATS:
        raise ConfigError(f"format: expected one of {', '.join(FORMATS)}, found {format_name!r}")
    where = str(source)
    check = CorpusCheck(where, findings, expected)
    tally = _Hearing(where, findings, check.boxes)
    is_whole = True
    ids: set[str] = set()
    try:
        with Progress(f"check {where}", total=limit, unit="documents") as progress:
            for doc in FORMATS[format_name].read(locate(source), config, tally):
                try:
                    if doc.id in ids:
                        raise DataError(f"expected unique document ids, found {doc.id!r} twice")
                    stored_document(doc, f"document {doc.id!r}")
                except DataError as error:
                    tally.unstorable(error.message)
                    continue
                if doc.id:
                    ids.add(doc.id)
                check.see(doc, doc.id, boxes_are_known=True)
                progress.advance()
                if check.num_documents == limit:
                    break
    except KeyboardInterrupt:
        is_whole = _broken_off(findings, check)
    except DataError as error:
        findings.add(
            "error",
            where,
            error.message,
            hint=error.hint or "the import stops here and leaves nothing",
            evidence=[f"{check.num_documents} documents before it were checked"],
        )
    facts = check.finish()
    tally.finish()
    return Checked(where, facts, check.documents, is_whole)


def check_apart(train: Checked, heldout: Checked, findings: Findings) -> None:
    """Say so if documents of one corpus are in another that must not have them."""
    share = heldout.documents.common_share(train.documents)
    if share > 0.0:
        findings.add(
            "error" if share >= _MANY_TRAINED else "warning",
            heldout.where,
            f"documents that are trained on as well, {share:.1%} of all",
            hint=f"short texts may come twice by nature; else split {train.where} anew",
        )


class _Hearing(Tally):
    """A tally that counts into findings and hands boxes on, and remembers no record."""

    __slots__ = ("_boxes", "_findings", "_where")

    def __init__(self, where: str, findings: Findings, boxes: BoxLint) -> None:
        super().__init__()
        self._where = where
        self._findings = findings
        self._boxes = boxes

    def see_box(self, box: Box, *, size: tuple[int, int], phrase: str) -> None:
        self._boxes.add(box, width=size[0], height=size[1], phrase=phrase)

    def lose(self, loss: Loss) -> None:
        what = f"{loss.fate}: {loss.reason}"
        self._findings.count(_SEVERITIES[loss.fate], self._where, what, loss.where)

    def finish(self) -> None:
        """Weigh what was counted against all records, by the rules of the import."""
        num_records = self.num_documents + self.num_bad + sum(self.counts("left out").values())
        for finding in self._findings.of(self._where):
            fate = finding.what.partition(": ")[0]
            if fate == "changed":
                # one record may have lost several of its parts, so these have no total
                is_common = finding.count >= _MANY_CHANGED * self.num_documents
                finding.severity = "warning" if is_common else "note"
            elif fate in _SEVERITIES:
                finding.total = num_records
            if fate == "bad" and is_refused(self):
                finding.severity = "error"
        self._findings.extend(judge_source(self._where, self))


def _broken_off(findings: Findings, check: CorpusCheck) -> bool:
    """Say that a corpus was not read to its end; False, for the caller's `is_whole`."""
    told = f"interrupted after {check.num_documents} documents; the rest was not checked"
    findings.add("note", check.where, told)
    return False


def _not_shards(path: AnyPath) -> DataError:
    hint = "a source is checked with --format; kosmos data import --help lists the formats"
    if path.is_dir():
        found = f"a folder without {FILE}"
    elif path.is_file():
        found = "a file"
    else:
        found, hint = "nothing there", "kosmos data import makes one"
    return DataError(f"{path}: expected a folder of document shards, found {found}", hint=hint)
