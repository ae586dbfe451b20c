"""What the commands do with a list: read it, answer it, write lines, say what became of it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kosmos import config as configs
from kosmos import runtime
from kosmos.cli.boxes import STDIN
from kosmos.cli.constraint import ConstraintChoice
from kosmos.cli.evaluate import model_digest
from kosmos.cli.options import ModelChoice, WorkChoice
from kosmos.cli.requests import ASKED, BadLine, Form, file_item, folder_items, request_items
from kosmos.files import Json
from kosmos.generate.config import Decoding
from kosmos.generate.export import reply_to_json
from kosmos.generate.reply import CandidateScore, Failure, Reply
from kosmos.generate.resumable import ResumableLines
from kosmos.generate.worklist import (
    Answered,
    Item,
    Lines,
    Totals,
    replies,
    run,
    scores,
    unfinished,
)

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator

Answer = TypeVar("Answer")

VERSION = 1
"""Of what a line says; lines of another are not continued."""


def answer_list(
    model: ModelChoice,
    work: WorkChoice,
    form: Form,
    *,
    names: Sequence[str],
    decoding: Decoding,
    batch_size: int,
    constraint: ConstraintChoice,
) -> None:
    """Answer a list of items, a line of JSON each.

    Args:
        model: Who answers.
        work: Where the list comes from and where lines go.
        form: What is asked.
        names: Pictures named one by one.
        decoding: How tokens are chosen.
        batch_size: Most items read at once.
        constraint: What replies are held to.

    Raises:
        ConfigError: If the lines that are there were made by other settings.
        DataError: If there is nothing to answer.
    """

    def answer(
        engine: "Generator", items: Sequence[Item]
    ) -> Iterator[tuple[Item, Reply | Failure]]:
        held = constraint.make(engine)
        return replies(engine, items, decoding=decoding, batch_size=batch_size, constraint=held)

    def describe(reply: Reply) -> Answered:
        return Answered({**reply_to_json(reply), **constraint.row(reply)}, len(reply.token_ids))

    settings = {"decoding": configs.to_json(decoding), **constraint.settings()}
    _work_off(model, work, form, names, answer, describe, settings)


def score_list(
    model: ModelChoice, work: WorkChoice, form: Form, *, end: bool, neutral: str | None
) -> None:
    """Score the candidates of a list of items, a line of JSON each.

    Args:
        model: Who scores.
        work: Where the list comes from and where lines go.
        form: What is asked.
        end: Whether ``</s>`` counts as well.
        neutral: A prompt to compare with.

    Raises:
        ConfigError: If the lines that are there were made by other settings.
        DataError: If there is nothing to score.
    """

    def answer(
        engine: "Generator", items: Sequence[Item]
    ) -> Iterator[tuple[Item, tuple[Item, list[CandidateScore]] | Failure]]:
        for item, found in scores(engine, items, end=end, neutral=neutral):
            yield item, found if isinstance(found, Failure) else (item, found)

    def describe(scored: tuple[Item, list[CandidateScore]]) -> Answered:
        item, found = scored
        row = scores_json(item.candidates, found)
        return Answered(row, sum(score.num_tokens for score in found))

    settings: dict[str, Json] = {"end": end, "neutral": neutral}
    settings["candidates"] = list(form.candidates or ())
    _work_off(model, work, form, (), answer, describe, settings)


def scores_json(candidates: Sequence[str], found: Sequence[CandidateScore]) -> dict[str, Json]:
    """Scores of candidates as JSON values, and which is the best."""
    rows = list(zip(candidates, found, strict=True))
    scored: list[Json] = [
        {
            "candidate": candidate,
            "logprob": score.logprob,
            "mean_logprob": score.mean_logprob,
            "num_tokens": score.num_tokens,
        }
        for candidate, score in rows
    ]
    return {
        "scores": scored,
        "best_by_sum": max(rows, key=lambda row: row[1].logprob)[0],
        "best_by_mean": max(rows, key=lambda row: row[1].mean_logprob)[0],
    }


def check_sources(work: WorkChoice, names: Sequence[str], *, one_prompt: bool = False) -> None:
    """Fail unless the options say once what to answer, and each has an effect.

    Args:
        work: Where a list comes from and where lines go.
        names: What ``--image`` said.
        one_prompt: Whether these are pictures of one prompt, which need not have any.

    Raises:
        UsageError: If they do not.
    """
    given = {"--image": names, "--images": work.folder, "--requests": work.requests}
    found = [name for name, value in given.items() if value]
    if len(found) > 1 or not (found or one_prompt):
        known = "--image and --requests" if one_prompt else "--image, --images and --requests"
        raise click.UsageError(f"expected one of {known}, found {' and '.join(found) or 'none'}")
    has_list = work.folder is not None or work.requests is not None
    if work.limit is not None and not has_list:
        raise click.UsageError("--limit: expected a list to take the first of, found none")
    if work.jsonl is None and (work.force or work.retry_bad):
        raise click.UsageError("--force, --retry-bad: expected --jsonl, which they are about")
    if work.jsonl is not None and one_prompt and work.requests is None:
        raise click.UsageError("--jsonl: expected --requests, found none")
    if work.jsonl is not None and STDIN in names:
        raise click.UsageError("--image -: expected files with --jsonl, found stdin")


def folder_names(work: WorkChoice, names: Sequence[str]) -> Sequence[str]:
    """Files of pictures named one by one, or of all in the folder."""
    if work.folder is None:
        return names
    items = folder_items(work.folder, Form(field="prompt", words=""), limit=work.limit)
    return [str(work.folder / item.id) for item in items]


class _Printed:
    """Lines on stdout, and bad items on stderr; remembers nothing."""

    def has(self, item_id: str, asked: Mapping[str, Json]) -> bool:
        return False

    def has_failed(self, item_id: str, asked: Mapping[str, Json]) -> bool:
        return False

    def add(self, item_id: str, asked: Mapping[str, Json], answer: Mapping[str, Json]) -> None:
        click.echo(json.dumps({"id": item_id, **asked, **answer}))

    def add_bad(self, item_id: str, asked: Mapping[str, Json], *, reason: str, error: str) -> None:
        click.echo(f"error: {item_id}: {error}", err=True)


def _work_off(
    model: ModelChoice,
    work: WorkChoice,
    form: Form,
    names: Sequence[str],
    answer: Callable[["Generator", Sequence[Item]], Iterator[tuple[Item, Answer | Failure]]],
    describe: Callable[[Answer], Answered],
    settings: Mapping[str, Json],
) -> None:
    items, bad = _items(work, form, names)
    title = click.get_current_context().info_name or ""
    if work.jsonl is None:
        _run(model, items, bad, answer, describe, out=_Printed(), title=title, jsonl=None)
        return
    made_by: dict[str, Json] = {
        "version": VERSION,
        "command": title,
        "model": model_digest(model.folder),
        **model.settings(),
        "prompt": None if form.words is None else form.prompt(form.words),
        **settings,
    }
    with ResumableLines(
        work.jsonl, made_by, asked=ASKED, force=work.force, retry_bad=work.retry_bad
    ) as out:
        _run(model, items, bad, answer, describe, out=out, title=title, jsonl=work.jsonl)


def _run(
    model: ModelChoice,
    items: Sequence[Item],
    bad: Sequence[BadLine],
    answer: Callable[["Generator", Sequence[Item]], Iterator[tuple[Item, Answer | Failure]]],
    describe: Callable[[Answer], Answered],
    *,
    out: Lines,
    title: str,
    jsonl: Path | None,
) -> None:
    totals = Totals()
    for line in bad:
        if out.has_failed(line.id, line.asked):
            totals.num_failed_before += 1
        else:
            out.add_bad(line.id, line.asked, reason="line", error=line.error)
            totals.failed["line"] += 1
    try:
        todo = unfinished(items, out, totals)
        if todo:
            engine = model.load()
            run(
                todo,
                lambda part: answer(engine, part),
                describe,
                out=out,
                title=title,
                totals=totals,
            )
    except KeyboardInterrupt:
        _tell_totals(totals, jsonl)
        if jsonl is not None:
            click.echo(f"{jsonl} has what is finished; the same command goes on with it", err=True)
        raise
    _tell_totals(totals, jsonl)
    if totals.failed or totals.num_failed_before:
        raise click.exceptions.Exit(1)


def _items(work: WorkChoice, form: Form, names: Sequence[str]) -> tuple[list[Item], list[BadLine]]:
    if work.requests is not None:
        return request_items(work.requests, form, limit=work.limit)
    if work.folder is not None:
        return folder_items(work.folder, form, limit=work.limit), []
    # the same file may be named twice, but is one item
    return [file_item(name, form, source=Path(name)) for name in dict.fromkeys(names)], []


def _tell_totals(totals: Totals, jsonl: Path | None) -> None:
    parts = [f"{totals.num_done} done"]
    if totals.num_kept:
        parts.append(f"{totals.num_kept} were done before")
    if totals.failed:
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(totals.failed.items()))
        parts.append(f"{totals.failed.total()} failed ({reasons})")
    if totals.num_failed_before:
        parts.append(f"{totals.num_failed_before} failed before (--retry-bad tries them again)")
    if totals.num_done:
        parts.append(f"{totals.num_done / totals.seconds:.3g} items/s")
        parts.append(f"{totals.num_tokens / totals.seconds:.3g} tokens/s")
    parts.append(f"peak memory {runtime.peak_memory_bytes() / 2**30:.2f} GiB")
    click.echo("  ".join(parts), err=True)
    if jsonl is not None and (totals.failed or totals.num_failed_before):
        click.echo(f"{jsonl}.bad.jsonl says what failed and why", err=True)
