"""Whether a run can start: all that it reads is looked at before a GPU is touched.

The parts of the run against each other, settings without effect, the tokenizer, the model folder it
starts from, and every corpus of every stream, held-out ones too: each as `kosmos data check` looks
at a folder of shards, with the stream's own packing, lengths and error budget; then what only the
run knows: corpora too short for a step, held-out documents that are trained on, and lengths other
than it states.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from kosmos.check.corpus import Expected
from kosmos.check.settings import doubts
from kosmos.check.targets import Checked, check_apart, check_shards
from kosmos.data.config import Corpus, Stream, check_stream
from kosmos.errors import KosmosError
from kosmos.findings import Findings
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run, check_run
from kosmos.train.start import check_start, check_start_folder

_RUN = "run"
_STRAYS = 0.15
"""Difference from what the run states that is worth a warning."""


def check_ready(
    run: Run, findings: Findings, *, sample: int | None = None, seed: int = 0
) -> list[Checked]:
    """Look at everything that a run reads.

    Args:
        run: The run, not checked itself.
        findings: Takes what is wrong.
        sample: Documents of each corpus whose pictures are decoded; None: all.
        seed: Of the samples.

    Returns:
        The corpora that have a path, in the order of the run, held-out ones behind their own.
    """
    with _told(findings, "train.start_from"):
        check_start_folder(run)
    tokenizer = _tokenizer(run, findings)
    with _told(findings, _RUN):
        check_run(run, vocabulary_size=None if tokenizer is None else tokenizer.vocabulary.size)
    for doubt in doubts(run):
        findings.add("warning", doubt.setting, doubt.what, hint=doubt.hint)
    if run.train.start_from and tokenizer is not None:
        with _told(findings, "train.start_from"):
            is_entire = run.train.adapter is not None
            check_start(run.model, tokenizer, run.train.start_from, entire=is_entire)
    found: list[Checked] = []
    for stream in run.data.streams:
        with _told(findings, f"streams.{stream.name}"):
            check_stream(stream)
        expected = Expected(
            tokenizer=tokenizer,
            layout=replace(run.data.layout, ground=stream.ground, line_tokens=stream.line_tokens),
            image=run.data.image,
            packing=stream.packing,
            max_tokens=stream.max_tokens,
            max_unusable=stream.max_unusable,
            is_for_training=True,
            sample=sample,
            seed=seed,
        )
        for corpus in stream.sources:
            for checked in _check_corpus(run, stream, corpus, expected, findings):
                found.append(checked)
                if not checked.is_whole:
                    findings.add("note", _RUN, "interrupted; the streams behind were not checked")
                    return found
    _check_totals(run, found, findings)
    return found


@contextmanager
def _told(findings: Findings, where: str) -> Iterator[None]:
    """An error on the way becomes a finding."""
    try:
        yield
    except KosmosError as error:
        findings.add("error", where, error.message, hint=error.hint or "")


def _tokenizer(run: Run, findings: Findings) -> Tokenizer | None:
    if run.parts == "start" and not run.train.start_from:
        return None  # it is in the folder that is missing
    if not run.data.tokenizer:
        findings.add(
            "error",
            "tokenizer",
            "expected a SentencePiece model file, found none",
            hint="--set tokenizer=FILE; kosmos tokenizer train makes one",
        )
        return None
    with _told(findings, "tokenizer"):
        return Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    return None


def _check_corpus(
    run: Run, stream: Stream, corpus: Corpus, expected: Expected, findings: Findings
) -> Iterator[Checked]:
    """The corpus and its held-out part."""
    name = stream.source_name(corpus)
    if not corpus.path:
        setting = f"{stream.setting(corpus)}.path"
        findings.add(
            "error",
            name,
            f"{setting}: expected a folder of document shards, found none",
            hint=f"--set {setting}=FOLDER",
        )
        return
    train = check_shards(corpus.path, findings, expected, where=name)
    needed, rows = _rows_per_step(stream, corpus), train.facts.rows
    epochs = run.train.steps * needed / rows if rows else 0.0
    yield replace(train, rows_per_step=needed, epochs=epochs)
    _check_size(stream, corpus, train, findings)
    _check_pictures(run, train, findings)
    _check_lengths(stream, train, findings)
    if not (corpus.heldout_path and train.is_whole):
        return
    heldout = check_shards(corpus.heldout_path, findings, expected, where=f"{name} heldout")
    yield heldout
    check_apart(train, heldout, findings)


def _rows_per_step(stream: Stream, corpus: Corpus) -> float:
    """Sequences of a corpus that one step takes."""
    total = sum(source.weight for source in stream.sources)
    return stream.sequences_per_step * corpus.weight / total


def _check_size(stream: Stream, corpus: Corpus, train: Checked, findings: Findings) -> None:
    """A corpus must fill its part of one step, or the step would hold some of it twice."""
    needed, rows = math.ceil(_rows_per_step(stream, corpus)), train.facts.rows
    if train.is_whole and 0 < rows < needed:
        findings.add(
            "error",
            train.where,
            f"expected at least {needed} rows, which one step takes, found {rows}",
            hint=f"streams.{stream.name}.sequences_per_step takes fewer, a smaller "
            "max_tokens makes more of them",
        )


def _check_pictures(run: Run, train: Checked, findings: Findings) -> None:
    if run.model.vision is None and train.facts.pictures:
        findings.add(
            "error",
            train.where,
            f"expected text alone for a language model, found {train.facts.pictures} pictures",
            hint="give the model a vision tower, or drop the stream",
        )


def _check_lengths(stream: Stream, train: Checked, findings: Findings) -> None:
    """Warn where `kosmos plan`, which goes by what a stream states, would be misled."""
    facts = train.facts
    if not facts.rows or stream.corpora:
        return
    measures = (
        ("tokens_per_sequence", stream.tokens_per_sequence, facts.tokens_per_row),
        ("images_per_sequence", stream.images_per_sequence, facts.pictures_per_row),
    )
    for field, stated, found in measures:
        if abs(found - stated) > _STRAYS * stated:
            findings.add(
                "warning",
                train.where,
                f"streams.{stream.name}.{field}: the run states {stated:.4g}, "
                f"the data has {found:.4g}",
                hint=f"--set streams.{stream.name}.{field}={found:.4g}; its share of a step is "
                "other than planned",
            )


def _check_totals(run: Run, found: list[Checked], findings: Findings) -> None:
    """Compare the tokens of a step with what the paper states."""
    if not run.stated_tokens_per_step or not all(corpus.facts.rows for corpus in found):
        return
    tokens = sum(corpus.rows_per_step * corpus.facts.tokens_per_row for corpus in found)
    ratio = tokens / run.stated_tokens_per_step
    if found and abs(ratio - 1) > _STRAYS:
        findings.add(
            "warning",
            _RUN,
            f"a step has {tokens:,.0f} tokens with this data, {ratio:.2f} of the "
            f"{run.stated_tokens_per_step:,.0f} that the paper states",
            hint="sequences_per_step of the streams sets it",
        )
