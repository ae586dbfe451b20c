"""Whether a run can start: all that it reads is looked at before a GPU is touched.

The parts of the run against each other, settings without effect, the tokenizer, the model folder it
starts from, and every corpus of every stream, held-out ones too: each as `kosmos data check` looks
at a folder of shards, with the stream's own packing, lengths and error budget; then what only the
run knows: corpora too short for a step, held-out documents that are trained on, and lengths other
than it states.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from kosmos.check.corpus import Expected
from kosmos.check.settings import doubts
from kosmos.check.targets import Checked, check_apart, check_shards
from kosmos.data.config import Corpus, Stream
from kosmos.data.rules import path_rules, rows_per_step, size_rules, tokenizer_rules
from kosmos.errors import KosmosError
from kosmos.findings import Finding, Findings
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run, run_rules
from kosmos.train.start import start_folder_rules, start_rules

_RUN = "run"
_STRAYS = 0.15
"""Difference from what the run states that is worth a warning."""


def check_ready(
    run: Run, findings: Findings, *, sample: int | None = None, seed: int = 0
) -> list[Checked]:
    """Look at everything that a run reads, which is not checked itself.

    ``sample`` is of how many documents of each corpus pictures are decoded; None: all.

    Returns:
        The corpora that have a path, in the order of the run, held-out ones behind their own.
    """
    findings.extend(_under("train.start_from", start_folder_rules(run)))
    tokenizer = _tokenizer(run, findings)
    size = None if tokenizer is None else tokenizer.vocabulary.size
    findings.extend(_under(_RUN, run_rules(run, vocabulary_size=size)))
    findings.extend(doubts(run))
    if tokenizer is not None:
        findings.extend(_under("train.start_from", start_rules(run, tokenizer)))
    found: list[Checked] = []
    for stream in run.data.streams:
        findings.extend(_under(stream.name, path_rules(stream)))
        expected = Expected(
            tokenizer=tokenizer,
            rows=run.data.rows(stream),
            max_unusable=stream.max_unusable,
            setting=f"streams.{stream.name}.",
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


def _under(place: str, found: Iterable[Finding]) -> Iterator[Finding]:
    """Findings of one part of the run, told together."""
    for finding in found:
        what = finding.what if finding.where == place else f"{finding.where}: {finding.what}"
        yield replace(finding, where=place, what=what)


def _tokenizer(run: Run, findings: Findings) -> Tokenizer | None:
    if run.parts == "start" and not run.train.start_from:
        return None  # it is in the folder that is missing
    if missing := list(tokenizer_rules(run.data)):
        findings.extend(missing)
        return None
    try:
        return Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    except KosmosError as error:
        findings.add("error", "tokenizer", error.message, hint=error.hint or "")
        return None


def _check_corpus(
    run: Run, stream: Stream, corpus: Corpus, expected: Expected, findings: Findings
) -> Iterator[Checked]:
    """The corpus and its held-out part."""
    if not corpus.path:
        return
    name = stream.source_name(corpus)
    train = check_shards(corpus.path, findings, expected, where=name)
    needed, rows = rows_per_step(stream, corpus), train.facts.rows
    epochs = run.train.steps * needed / rows if rows else 0.0
    yield replace(train, rows_per_step=needed, epochs=epochs)
    if train.is_whole and rows:
        findings.extend(size_rules(stream, corpus, rows, where=name))
    _check_pictures(run, train, findings)
    _check_lengths(stream, train, findings)
    if not (corpus.heldout_path and train.is_whole):
        return
    heldout = check_shards(corpus.heldout_path, findings, expected, where=f"{name} heldout")
    yield heldout
    check_apart(train, heldout, findings)


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
