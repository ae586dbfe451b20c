"""DataConfig: what a run reads. Stream: one kind of data, and its share of every optimizer step.

RowConfig is what follows of both for the rows of one stream.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from kosmos.config import FREE_ON_RESUME, check_numbers
from kosmos.document.layout import TRAINING, Layout
from kosmos.errors import ConfigError
from kosmos.image.config import ImageConfig

Packing: TypeAlias = Literal["single", "full-sentence", "isolated"]
LongLines: TypeAlias = Literal["cut", "carry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowConfig:
    """How documents become rows."""

    layout: Layout = TRAINING
    """Layout of tokens, a stream's own fields put in."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """Preprocessing, which moves boxes."""
    packing: Packing = "single"
    """How documents fill rows."""
    max_tokens: int = 2048
    """Longest row."""
    long_lines: LongLines = "cut"
    """What becomes of lines longer than a row."""

    @property
    def capacity(self) -> int:
        """Tokens of documents that a row holds; ``<s>`` takes a place of full-sentence rows."""
        return self.max_tokens - (self.packing == "full-sentence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A part of a stream, and its share of the stream."""

    name: str
    """Unique in the stream; the ledger and `kosmos plan` speak of it."""
    path: str = field(default="", metadata=FREE_ON_RESUME)
    """Folder of document shards. Empty in a recipe whose data is the user's to name."""
    weight: float
    """Share of the stream's sequences, in any unit: the weights of a stream need no sum."""
    heldout_path: str = field(default="", metadata=FREE_ON_RESUME)
    """Folder of shards whose loss is measured and never trained on; empty: none."""
    num_tokens: float = field(default=0.0, metadata=FREE_ON_RESUME)
    """Positions of all its rows; used by `kosmos plan` until an index has counted them; 0: not
    known."""
    stated_epochs: float = field(default=0.0, metadata=FREE_ON_RESUME)
    """What the paper states, for `kosmos plan` to print beside its own; 0: not stated."""

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ConfigError(f"corpora: expected a name without '/', found {self.name!r}")
        check_numbers(
            self,
            f"corpora.{self.name}",
            positive=("weight",),
            not_negative=("num_tokens", "stated_epochs"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One kind of data, and its share of every optimizer step."""

    name: str
    """Unique in the run; metrics are reported under it."""
    path: str = field(default="", metadata=FREE_ON_RESUME)
    """Folder of document shards. Empty in a recipe whose data is the user's to name, and in a
    stream of several corpora."""
    corpora: tuple[Corpus, ...] = ()
    """What the stream is mixed of, if it is not one folder."""
    missing_corpora: Literal["refuse", "drop"] = field(default="refuse", metadata=FREE_ON_RESUME)
    """What to do with corpora that have no path. drop: leave them out with a warning, the weights
    of the others count alone."""
    sequences_per_step: int
    """Sequences of this stream in every optimizer step: rows when packed, documents otherwise."""
    tokens_per_sequence: float = field(metadata=FREE_ON_RESUME)
    """Mean length, image slots included; used by `kosmos plan` until an index has measured it."""
    packing: Packing = "single"
    """single: a document a row. full-sentence: lines fill rows, documents of a row see each other
    (papers). isolated: documents fill rows without seeing each other."""
    max_tokens: int = 2048
    """Longest row; a longer document is cut and closed with ``</s>``, of full-sentence rows a
    longer line is cut."""
    long_lines: LongLines = "cut"
    """full-sentence: what becomes of a line longer than a row. cut: its end is left out (release).
    carry: it goes on in the next rows."""
    images_per_sequence: float = field(default=0.0, metadata=FREE_ON_RESUME)
    """Mean number of images; used by `kosmos plan`."""
    ground: bool = True
    """Whether boxes are written; False reads grounded captions as plain ones."""
    line_tokens: bool = False
    """Whether lines end with </line> (text corpora)."""
    heldout_path: str = field(default="", metadata=FREE_ON_RESUME)
    """Folder of shards whose loss is measured and never trained on; empty: none."""
    max_unusable: float = field(default=0.01, metadata=FREE_ON_RESUME)
    """Fraction of the documents that may be unusable (unreadable image, nothing to learn, ...), and
    of the tokens that may be cut off long lines, before the run refuses to start; what was left out
    is listed beside the index."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            f"streams.{self.name}",
            positive=("sequences_per_step", "tokens_per_sequence"),
            not_negative=("images_per_sequence",),
            fractions=("max_unusable",),
        )
        if self.max_tokens < 2:
            raise ConfigError(
                f"streams.{self.name}.max_tokens: expected at least 2, found {self.max_tokens}"
            )
        names = [corpus.name for corpus in self.corpora]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"streams.{self.name}.corpora: expected unique names, found {name!r} twice"
                )

    @property
    def sources(self) -> tuple[Corpus, ...]:
        """The corpora that it reads; a stream of one folder is one corpus of the same name.

        Corpora that are left out for want of a path are not among them.
        """
        if not self.corpora:
            whole = (self.name, self.path, self.heldout_path)
            return (Corpus(name=whole[0], path=whole[1], weight=1.0, heldout_path=whole[2]),)
        is_dropping = self.missing_corpora == "drop"
        return tuple(corpus for corpus in self.corpora if corpus.path or not is_dropping)

    def source_name(self, corpus: Corpus) -> str:
        """What a corpus is called among all of a run: ``text``, or ``text/wikipedia``."""
        return f"{self.name}/{corpus.name}" if self.corpora else self.name

    def setting(self, corpus: Corpus) -> str:
        """Dotted name of what sets a corpus: ``streams.text.corpora.wikipedia``."""
        return f"streams.{self.name}" + (f".corpora.{corpus.name}" if self.corpora else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What is read and how it is laid out: all that rows and batches follow from beside a seed."""

    tokenizer: str = field(default="", metadata=FREE_ON_RESUME)
    """SentencePiece model file. Empty in a recipe whose tokenizer is the user's to name."""
    num_cells: int = 32
    """Cells along each side of the location grid; 0: no grounding tokens (KOSMOS-1)."""
    image: ImageConfig
    """Preprocessing of pictures."""
    layout: Layout
    """Layout of tokens."""
    streams: tuple[Stream, ...]
    """What is read, and how much of each in a step."""
    micro_batch_tokens: int = 16_384
    """A stream's share of a step is cut into micro-batches of at most this many tokens."""
    heldout_sequences: int = field(default=64, metadata=FREE_ON_RESUME)
    """Held-out sequences of each stream that are scored."""
    skip_steps: tuple[str, ...] = field(default=(), metadata=FREE_ON_RESUME)
    """Steps of data that are left out, such as ["1200-1250", "1300"]: around a spike of the loss,
    say. Training reads on after them, and its own steps are counted without a gap. A resumed run
    may leave out more of what it has not read yet."""

    def __post_init__(self) -> None:
        check_names(self.streams)
        if not self.streams:
            raise ConfigError("streams: expected at least one, found none")
        check_numbers(
            self,
            "data",
            positive=("micro_batch_tokens", "heldout_sequences"),
            not_negative=("num_cells",),
        )
        skipped_steps(self.skip_steps)

    def rows(self, stream: Stream) -> RowConfig:
        """How the documents of one of the streams become rows."""
        return RowConfig(
            layout=replace(self.layout, ground=stream.ground, line_tokens=stream.line_tokens),
            image=self.image,
            packing=stream.packing,
            max_tokens=stream.max_tokens,
            long_lines=stream.long_lines,
        )

    def without_heldout(self) -> "DataConfig":
        """The same without what is held out."""
        return replace(
            self,
            streams=tuple(
                replace(
                    stream,
                    heldout_path="",
                    corpora=tuple(replace(corpus, heldout_path="") for corpus in stream.corpora),
                )
                for stream in self.streams
            ),
        )


def check_names(streams: Sequence[Stream]) -> None:
    """Fail if two streams have one name.

    Raises:
        ConfigError: Naming it.
    """
    names = [stream.name for stream in streams]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"streams: expected unique names, found {name!r} twice")


def skipped_steps(texts: Sequence[str]) -> tuple[range, ...]:
    """The data steps that a run leaves out, in order and without overlap.

    ``skipped_steps(["1200-1250", "7"])`` is ``(range(6, 7), range(1199, 1250))``: steps are written
    as metrics count them, from 1, and counted from 0 inside.

    Raises:
        ConfigError: If one is not a step or a range of steps.
    """
    ranges = []
    for text in texts:
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", text)
        first, last = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 1 <= first <= last:
            raise ConfigError(
                f"data.skip_steps: expected a step or a range such as '1200-1250', found {text!r}"
            )
        ranges.append((first - 1, last))
    merged: list[range] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(stop, merged[-1].stop))
        else:
            merged.append(range(start, stop))
    return tuple(merged)
