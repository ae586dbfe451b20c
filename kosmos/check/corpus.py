"""One corpus looked at document by document, in memory that does not grow with it.

What training would refuse is asked of the function that refuses it (usable.py) and counted under
its reasons. Beside that: pictures of one color, phrases that cut words, words that should not be
there, contents that repeat, and boxes that are all in another convention than ours.
"""

from dataclasses import dataclass, field

from kosmos.check.boxlint import BoxLint
from kosmos.check.repeats import Repeats
from kosmos.check.rowcount import RowCount
from kosmos.check.textlint import splits_word, text_faults
from kosmos.data.config import RowConfig
from kosmos.data.index import Losses
from kosmos.data.rules import Budget, cut_rules, unusable_rules
from kosmos.data.usable import Objection, Usable, encode_usable
from kosmos.document.types import Document, Grounded, Image
from kosmos.errors import DataError, ImageError
from kosmos.findings import Findings, Severity
from kosmos.image.codec import decode, image_size
from kosmos.runtime import generator
from kosmos.text.tokenizer import Tokenizer

_MIN_TO_JUDGE = 20
"""Documents below which a share says nothing."""
_MANY_REPEATS = 0.02
_MANY_CAPTIONS = 0.2
_MANY_SPLITS = 0.05
"""Shares from which on repeated documents, repeated captions and cut words are warned of."""
_CAPTION_CHARS = 1000
"""A longer text beside a picture is a page, in which line breaks are at home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What documents are held against."""

    tokenizer: Tokenizer | None = None
    """Words to ids; without one nothing is said of lengths, markup and rows."""
    rows: RowConfig = field(default_factory=RowConfig)
    """How documents become rows."""
    max_unusable: float = 0.01
    """Share of unusable documents, and of tokens cut off lines, above which training refuses to
    start."""
    setting: str = ""
    """Dotted name of the stream whose share that is, and a dot; empty outside a run."""
    is_for_training: bool = False
    """Whether a corpus without words, which a test set is, is an error."""
    sample: int | None = None
    """Documents whose pictures are decoded; None: all."""
    seed: int = 0
    """Of every sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFacts:
    """A corpus in numbers, as far as it was read."""

    documents: int
    usable: int
    """Documents that training would take."""
    pictures: int
    decoded: int
    """Pictures of which every pixel was read."""
    boxes: int
    """In all documents; of a source, before any rule leaves some out."""
    used_pictures: int
    """In the usable documents."""
    tokens: int
    """Of the usable documents; 0 without a tokenizer."""
    rows: int
    """That they fill, which is an epoch; 0 without a tokenizer."""
    unusable: dict[str, int]
    """The others, by reason."""
    repeated: float
    """Share of the documents that had been there before."""

    @property
    def tokens_per_row(self) -> float:
        """Mean positions of a row; its last token is a target and takes none."""
        return (self.tokens - self.rows) / self.rows if self.rows else 0.0

    @property
    def pictures_per_row(self) -> float:
        """Mean pictures of a row."""
        return self.used_pictures / self.rows if self.rows else 0.0


class CorpusCheck:
    """Looks at the documents of a corpus that findings call ``where``.

    A sample needs ``num_documents``, how many there will be.
    """

    def __init__(
        self, where: str, findings: Findings, expected: Expected, num_documents: int | None = None
    ) -> None:
        self.where = where
        self.documents = Repeats()
        self._findings = findings
        self._expected = expected
        self._sample = _sample(expected, num_documents, where)
        self._rows = RowCount(expected.rows)
        self.boxes = BoxLint(seed=expected.seed)
        """The box linter, for a reader that knows boxes as its source has them."""
        self._captions = Repeats()
        self._unusable: dict[str, int] = {}
        self._kinds: set[str] = set()
        self.num_documents = 0
        """Documents seen so far."""
        self._pictures = self._decoded = self._used_pictures = 0
        self._wordless = self._lost_phrases = self._borders = self._split = 0

    def see(self, doc: Document, name: str, *, boxes_are_known: bool = False) -> None:
        """Look at a document; boxes that are known the linter has seen already."""
        is_decoded = self._sample is None or self.num_documents in self._sample
        self.num_documents += 1
        self._pictures += len(doc.images)
        problem = self._decode(doc, name) if is_decoded else None
        found = self._encode(doc)
        # a picture that does not decode is found before a length, as in indexing
        if problem is not None and (isinstance(found, Usable | None) or found.reason in _LATER):
            found = Objection("unreadable image", problem)
        if isinstance(found, Objection):
            self._refuse(found, name, doc.id)
        else:
            self._used_pictures += len(doc.images if found is None else found.encoded.images)
            if found is not None:
                self._rows.add(found)
                self._lost_phrases += found.encoded.num_dropped_phrases
        self._wordless += not doc.text.strip()
        self._words(doc, name)
        if not boxes_are_known:
            self._see_boxes(doc)

    def finish(self) -> CorpusFacts:
        """Say what only all documents together show; also of a part, if reading was broken off."""
        unusable = sum(self._unusable.values())
        count = self.num_documents
        facts = CorpusFacts(
            documents=count,
            usable=count - unusable,
            pictures=self._pictures,
            decoded=self._decoded,
            used_pictures=self._used_pictures,
            boxes=self.boxes.num_boxes,
            tokens=self._rows.num_tokens,
            rows=self._rows.num_rows,
            unusable=dict(self._unusable),
            repeated=self.documents.share,
        )
        losses = Losses(
            num_documents=count,
            unusable=self._unusable,
            num_tokens=self._rows.num_text_tokens + self._rows.num_cut_tokens,
            num_cut_tokens=self._rows.num_cut_tokens,
        )
        budget = Budget(self.where, self._expected.max_unusable, self._expected.setting)
        refused = list(unusable_rules(losses, budget))
        for finding in self._findings.of(self.where):
            if finding.what in self._kinds:
                finding.total = count
            if finding.what.partition(":")[0] in self._unusable:
                finding.severity = "error" if refused else "warning"
        if count and self._wordless == count and not self._expected.is_for_training:
            self._findings.drop(self.where, _NO_WORDS)
            self._tell(
                "note", "documents without words to learn from: to evaluate on, not to train on"
            )
        elif count and unusable == count:
            self._findings.extend(refused)
        if self._expected.tokenizer is not None:
            self._findings.extend(cut_rules(losses, budget, self._expected.rows))
        if self._lost_phrases:
            self._tell(
                "note",
                "phrases that lose their boxes when documents are laid out",
                f"{self._lost_phrases} phrases",
                hint="a phrase that ends inside a token, or whose boxes a center crop leaves out",
            )
        if count >= _MIN_TO_JUDGE:
            self._tell_repeats("documents", self.documents, "{}", 0.0, _MANY_REPEATS)
            self._tell_repeats("captions", self._captions, "{!r}", _MANY_REPEATS, _MANY_CAPTIONS)
        self._tell_boxes()
        return facts

    def _tell(self, severity: Severity, what: str, *evidence: str, hint: str = "") -> None:
        self._findings.add(severity, self.where, what, hint=hint, evidence=evidence)

    def _note(self, severity: Severity, what: str, example: str, *, hint: str = "") -> None:
        """Count a document with a fault."""
        self._findings.count(severity, self.where, what, example, hint=hint)
        self._kinds.add(what)

    def _refuse(self, found: Objection, name: str, doc_id: str) -> None:
        self._unusable[found.reason] = self._unusable.get(found.reason, 0) + 1
        # the name says which document already
        message = found.message.removeprefix(f"document {doc_id!r}").lstrip(",: ")
        self._note(
            "warning",
            f"{found.reason}: {_kind(found.message)}",
            f"{name}: {message}",
            hint=f"training leaves such documents out, up to {self._expected.max_unusable:.1%} "
            "of a stream (max_unusable), and refuses to start with more",
        )

    def _encode(self, doc: Document) -> Usable | Objection | None:
        expected = self._expected
        if expected.tokenizer is None:
            return _without_tokenizer(doc)
        return encode_usable(doc, expected.tokenizer, expected.rows, decode_images=False)

    def _decode(self, doc: Document, name: str) -> str | None:
        """Decode pictures; what is wrong with the first that cannot be."""
        for place, image in enumerate(doc.images):
            where = f"document {doc.id!r}, image {place}"
            try:
                max_pixels = self._expected.rows.image.max_pixels
                picture = decode(image.source, max_pixels=max_pixels, where=where)
            except ImageError as error:
                return str(error)
            self._decoded += 1
            if all(low == high for low, high in picture.getextrema()):  # type: ignore[misc]
                self._note(
                    "warning",
                    "pictures of a single color",
                    f"{name}: image {place}, {picture.width} x {picture.height}",
                    hint="often what a web server sends in place of a picture that is gone",
                )
        return None

    def _words(self, doc: Document, name: str) -> None:
        text = doc.text
        for fault in text_faults(text):
            severity: Severity = "note" if fault.what.startswith("grounding") else "warning"
            example = f"{name}: {fault.excerpt}"
            self._note(severity, fault.what, example, hint=fault.hint)
        pictures = [image.source for image in doc.images]
        is_caption = len(pictures) == 1 and 0 < len(text.strip()) <= _CAPTION_CHARS
        if is_caption and all(part.role == "text" for part in doc.parts):
            self._captions.add(text.strip().encode("utf-8", "replace"), text.strip())
            if "\t" in text or "\n" in text.strip():
                self._note(
                    "warning",
                    "captions with tabs or line breaks",
                    f"{name}: {text[:80]!r}",
                    hint="often two columns or records that ran together; tokens know only blanks",
                )
        words = [part for part in doc.parts if not isinstance(part, Image)]
        # without words a document is told from others by what is known about it
        content = repr(words if text.strip() else doc.meta).encode()
        for source in pictures:
            content += source if isinstance(source, bytes) else str(source).encode()
        self.documents.add(content, name)
        for before, after in zip(doc.parts, doc.parts[1:], strict=False):
            if isinstance(before, Image) or isinstance(after, Image):
                continue
            if any(isinstance(part, Grounded) and part.boxes for part in (before, after)):
                self._borders += 1
                if splits_word(before.text, after.text):
                    self._split += 1
                    example = f"{name}: {before.text[-20:]!r} | {after.text[:20]!r}"
                    self._note("note", _SPLITS, example)

    def _see_boxes(self, doc: Document) -> None:
        size: tuple[int, int] | None = None
        for part in doc.parts:
            if isinstance(part, Image):
                try:
                    size = image_size(part.source)
                except ImageError:
                    size = None
            elif isinstance(part, Grounded) and size is not None:
                for box in part.boxes:
                    self.boxes.add(box, width=size[0], height=size[1], phrase=part.text)

    def _tell_repeats(
        self, what: str, repeats: Repeats, form: str, least: float, many: float
    ) -> None:
        about = "" if self.documents.is_exact else " (by a sample of contents)"
        if repeats.share > 0.0 and repeats.share >= least:
            times, name = repeats.most
            self._tell(
                "warning" if repeats.share >= many else "note",
                f"{what} that stood there before, {repeats.share:.1%} of all{about}",
                f"{form.format(name)}: {times} times",
            )

    def _tell_boxes(self) -> None:
        for finding in self._findings.of(self.where):
            if finding.what == _SPLITS:
                finding.total = self._borders
                if self._split >= max(3, _MANY_SPLITS * self._borders):
                    finding.severity = "warning"
                    finding.hint = "the spans are of another caption, or counted in bytes or from 1"
        if verdict := self.boxes.verdict():
            self._tell(verdict.severity, verdict.what, *verdict.evidence, hint=verdict.hint)
        if repeated := self.boxes.repeated():
            self._tell("warning", repeated)


_SPLITS = "phrases that begin or end inside a word: spans that do not match the caption"
_NO_WORDS = "cannot be encoded: expected words to learn from"
_LATER = ("too long", "nothing to learn")


def _sample(expected: Expected, num_documents: int | None, where: str) -> frozenset[int] | None:
    """Documents whose pictures are decoded; None: all."""
    if expected.sample is None or num_documents is None or num_documents <= expected.sample:
        return None
    rng = generator(expected.seed, "check", where)
    return frozenset(rng.choice(num_documents, expected.sample, replace=False).tolist())


def _kind(message: str) -> str:
    """The part of a message that every record with the same fault has."""
    start = max(0, message.find("expected"))
    return message[start:].partition(", found")[0].partition(" (hint:")[0]


def _without_tokenizer(doc: Document) -> Objection | None:
    """What needs no tokenizer of what the encoder refuses."""
    has_image = False
    try:
        for index, part in enumerate(doc.parts):
            where = f"document {doc.id!r}, part {index}"
            if isinstance(part, Image):
                image_size(part.source, where=where)
                has_image = True
            elif isinstance(part, Grounded) and part.boxes:
                if not has_image:
                    raise DataError(f"{where}: expected an image before the boxes, found none")
                for box in part.boxes:
                    box.checked(where)
                if not part.text.strip():
                    raise DataError(f"{where}: expected the words that the boxes belong to")
        if not doc.text.strip():
            raise DataError(f"document {doc.id!r}: expected words to learn from, found none")
    except ImageError as error:
        return Objection("unreadable image", str(error))
    except DataError as error:
        return Objection("cannot be encoded", str(error))
    return None
