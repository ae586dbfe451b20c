"""Rules about what a run reads: training raises the first error, `kosmos data check` tells all.

- :func:`stream_rules`, :func:`tokenizer_rules`: the settings against each other
- :func:`path_rules`: whether data is named
- :func:`unusable_rules`, :func:`cut_rules`: whether too much of it cannot be used
- :func:`size_rules`: whether it is enough for a step
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kosmos.data.config import Corpus, DataConfig, RowConfig, Stream
from kosmos.errors import DataError
from kosmos.findings import Finding

if TYPE_CHECKING:
    from kosmos.data.index import Losses


class Budget(NamedTuple):
    """What of a corpus may be lost, and what says so."""

    where: str
    """What the corpus is called."""
    max_unusable: float
    """Fraction of its documents, and of the tokens of its lines."""
    setting: str = ""
    """Dotted name of the stream, and a dot; empty outside a run."""


def stream_rules(stream: Stream) -> Iterator[Finding]:
    """The fields of a stream fit each other.

    Not asked while a stream is built: its fields are changed one at a time.
    """
    name = f"streams.{stream.name}"
    if stream.corpora and (stream.path or stream.heldout_path):
        yield Finding(
            severity="error",
            where=f"{name}.{'path' if stream.path else 'heldout_path'}",
            what="expected none in a stream of corpora, found "
            f"{stream.path or stream.heldout_path!r}",
            hint=f"give each of {name}.corpora its own, or set {name}.corpora=[]",
        )
    if not stream.sources:
        yield Finding(
            severity="error",
            where=f"{name}.corpora",
            what=f"expected one with a path, found none of {len(stream.corpora)}",
            hint=f"--set {name}.corpora.{stream.corpora[0].name}.path=FOLDER",
        )


def tokenizer_rules(data: DataConfig) -> Iterator[Finding]:
    """A tokenizer is named."""
    if not data.tokenizer:
        yield Finding(
            severity="error",
            where="tokenizer",
            what="expected a SentencePiece model file, found none",
            hint="--set tokenizer=FILE; kosmos tokenizer train makes one",
        )


def path_rules(stream: Stream) -> Iterator[Finding]:
    """Every source names its data; what is left out for want of a path is told."""
    missing = [corpus for corpus in stream.sources if not corpus.path]
    if missing:
        setting = f"{stream.setting(missing[0])}.path"
        others = ", ".join(corpus.name for corpus in missing[1:])
        hint = f"--set {setting}=FOLDER"
        if stream.corpora:
            hint += f"; or --set streams.{stream.name}.missing_corpora=drop leaves it out"
        yield Finding(
            severity="error",
            where=setting,
            what="expected a folder of document shards, found none"
            + (f" (nor for {others})" if others else ""),
            hint=hint,
        )
    left_out = [corpus.name for corpus in stream.corpora if corpus not in stream.sources]
    if left_out and stream.sources:
        total = sum(corpus.weight for corpus in stream.sources)
        shares = ", ".join(
            f"{corpus.name} {corpus.weight / total:.1%}" for corpus in stream.sources
        )
        yield Finding(
            severity="warning",
            where=f"streams.{stream.name}",
            what=f"left out for want of a path: {', '.join(left_out)}; of the others: {shares}",
        )


def unusable_rules(losses: "Losses", budget: Budget, *, listed: str = "") -> Iterator[Finding]:
    """Documents are left, and no more of them are left out than the stream allows.

    Args:
        losses: What is lost.
        budget: What may be.
        listed: Where the documents are listed.
    """
    where, max_unusable, setting = budget
    count = sum(losses.unusable.values())
    told = ", ".join(f"{number} {reason}" for reason, number in losses.unusable.items())
    expected = f"expected at most {max_unusable:.1%} of {losses.num_documents} documents unusable"
    hint = [listed, f"{setting}max_unusable allows more"]
    if count == losses.num_documents:
        expected, hint, told = "expected documents to train on", [listed], f"none ({told})"
    elif count > max_unusable * losses.num_documents:
        told = f"{count} ({told})"
    else:
        return
    yield Finding(
        severity="error",
        where=where,
        what=f"{expected}, found {told}",
        hint="; ".join(filter(None, hint)),
        error=DataError,
    )


def cut_rules(losses: "Losses", budget: Budget, rows: RowConfig) -> Iterator[Finding]:
    """What is cut off is told; of full-sentence rows, no more than the stream allows.

    Pages and texts in rows of their own end where the context does. The ends of lines are lost to
    packing, and a setting keeps them.

    Args:
        losses: What is lost.
        budget: What may be.
        rows: How rows are made.
    """
    where, max_unusable, setting = budget
    cut, of_lines = losses.num_cut_tokens, rows.packing == "full-sentence"
    if not cut:
        return
    is_much = cut > max_unusable * losses.num_tokens
    expected = f"expected at most {max_unusable:.1%} of the tokens left out, found "
    hint = "a larger max_tokens cuts less"
    if of_lines:
        hint = (
            f"{setting}long_lines=carry lets a line go on in the next row; {hint}; "
            f"{setting}max_unusable allows more"
        )
    yield Finding(
        severity="note" if not is_much else "error" if of_lines else "warning",
        where=where,
        what=f"{expected if is_much else ''}{cut} of {losses.num_tokens} tokens "
        f"({cut / losses.num_tokens:.1%}) left out, as ends of "
        f"{'lines' if of_lines else 'documents'} longer than a row of {rows.max_tokens}",
        hint=hint if is_much else "",
        error=DataError,
    )


def size_rules(stream: Stream, corpus: Corpus, num_rows: int, *, where: str) -> Iterator[Finding]:
    """A source fills its part of one step.

    Args:
        stream: The stream.
        corpus: One of its sources.
        num_rows: Rows of an epoch of it.
        where: What to call it.
    """
    needed = math.ceil(rows_per_step(stream, corpus))
    if num_rows < needed:
        yield Finding(
            severity="error",
            where=where,
            what=f"expected at least {needed} sequences, which one step takes, found {num_rows}",
            hint=f"a step would hold some twice; streams.{stream.name}.sequences_per_step takes "
            "fewer, a smaller max_tokens makes more of them",
            error=DataError,
        )


def rows_per_step(stream: Stream, corpus: Corpus) -> float:
    """Sequences of a source that one step takes."""
    total = sum(source.weight for source in stream.sources)
    return stream.sequences_per_step * corpus.weight / total
