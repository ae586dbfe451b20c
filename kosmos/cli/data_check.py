"""``kosmos data check``: what is wrong with data, before anything trains on it."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from kosmos.cli.options import PATH, echo_json, json_option, set_option, table

if TYPE_CHECKING:
    from kosmos.check.corpus import Expected
    from kosmos.check.targets import Checked
    from kosmos.findings import Findings, Severity

_Kind: TypeAlias = Literal["shards", "source", "run"]
_FOR: dict[str, tuple[_Kind, ...]] = {
    "--images": ("source",),
    "--limit": ("source",),
    "--sample": ("shards", "run"),
    "--set": ("source", "run"),
    "--tokenizer": ("shards", "source"),
}
"""Which targets an option has an effect on."""


@click.command("check", short_help="What is wrong with shards, a source, or all a run reads.")
@click.argument("target")
@click.option(
    "--format", "format_name", metavar="FORMAT", help="TARGET is a source, read as import would."
)
@click.option(
    "--images",
    default="",
    show_default=False,
    help="Of a source: folder of the pictures, if not beside it.",
)
@set_option("Change a field of the run, or a setting of --format.")
@click.option(
    "--tokenizer",
    "tokenizer_file",
    type=PATH,
    help="Of shards or a source: lay documents out as training would.",
)
@click.option("--num-cells", default=32, help="With --tokenizer: its grid.")
@click.option("--max-tokens", default=2048, help="With --tokenizer: the longest row.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    help="Of shards: decode the pictures of so many documents, not of all.",
)
@click.option("--limit", type=click.IntRange(1), help="Of a source: stop after so many documents.")
@click.option("--seed", default=0, help="Of every sample.")
@json_option()
def check(
    target: str,
    format_name: str | None,
    images: str,
    assignments: tuple[str, ...],
    tokenizer_file: Path | None,
    num_cells: int,
    max_tokens: int,
    sample: int | None,
    limit: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Read TARGET to the end and say what is missing, unreadable or in a wrong convention.

    TARGET is a folder with document shards in it, a source with --format, or a recipe or run.json,
    of which everything it reads is looked at.

    Exits with 1 if there is an error, with 0 if there are warnings alone.

    Example: kosmos data check corpora/grit --tokenizer sentencepiece.bpe.model
    """
    from kosmos.check.corpus import Expected
    from kosmos.check.targets import check_source
    from kosmos.corpus.formats.table import make_config
    from kosmos.data.config import RowConfig
    from kosmos.findings import Findings
    from kosmos.text.tokenizer import Tokenizer

    kind: _Kind = "source" if format_name else "run" if _is_run(target) else "shards"
    given = {"--images": images, "--limit": limit, "--sample": sample, "--set": assignments}
    _check_options(kind, {**given, "--tokenizer": tokenizer_file})
    findings = Findings()
    expected = Expected(rows=RowConfig(max_tokens=max_tokens), sample=sample, seed=seed)
    if tokenizer_file is not None:
        tokenizer = Tokenizer.load(tokenizer_file, num_cells=num_cells)
        expected = replace(expected, tokenizer=tokenizer)
    if kind == "run":
        corpora = _check_run(target, assignments, findings, sample=sample, seed=seed)
    elif format_name:
        config = make_config(format_name, assignments, {"images": images} if images else {})
        corpora = [
            check_source(format_name, target, findings, expected, config=config, limit=limit)
        ]
    else:
        corpora = list(_check_folder(target, findings, expected))
    is_whole = all(corpus.is_whole for corpus in corpora)
    num: dict[Severity, int] = {kind: findings.num(kind) for kind in ("error", "warning")}
    if as_json:
        facts = ("facts", "rows_per_step", "epochs", "is_whole")
        told = {
            "target": target,
            "corpora": [{"name": c.where, **{n: getattr(c, n) for n in facts}} for c in corpora],
            "findings": [finding.to_json() for finding in findings],
            "errors": num["error"],
            "warnings": num["warning"],
        }
        echo_json(told, indent=2)
    else:
        numbers = (f"{num[kind] or 'no'} {kind}{'' if num[kind] == 1 else 's'}" for kind in num)
        end = ", ".join(numbers) + ("" if is_whole else "; interrupted, not all was read")
        click.echo("\n".join([*_table(corpora), *_lines(findings), end]))
    if not is_whole:
        raise click.exceptions.Exit(130)
    if num["error"]:
        raise click.exceptions.Exit(1)


def _is_run(target: str) -> bool:
    """Whether a target names a recipe or a run; ``./microcosm`` is a folder for sure."""
    from kosmos.recipes.table import ALIASES, RECIPES

    is_run_folder = Path(target, "run.json").is_file()
    return target in RECIPES or target in ALIASES or target.endswith(".json") or is_run_folder


def _check_options(kind: _Kind, given: Mapping[str, object]) -> None:
    """Fail if an option would have no effect."""
    for option, value in given.items():
        if value and kind not in _FOR[option]:
            wanted = " or ".join({"source": "a source (--format)"}.get(k, k) for k in _FOR[option])
            raise click.UsageError(f"{option}: expected {wanted} to check, found {kind}")


def _check_run(
    target: str, settings: Sequence[str], findings: "Findings", *, sample: int | None, seed: int
) -> "list[Checked]":
    from kosmos.check.run import check_ready
    from kosmos.errors import ConfigError
    from kosmos.recipes.table import make_run

    recorded = Path(target, "run.json")
    try:
        run = make_run(str(recorded) if recorded.is_file() else target, settings, is_checked=False)
    except ConfigError as error:
        findings.add("error", target, error.message, hint=error.hint or "")
        return []
    return check_ready(run, findings, sample=sample, seed=seed)


def _check_folder(target: str, findings: "Findings", expected: "Expected") -> "Iterator[Checked]":
    """The folder itself, or every folder of shards in it; held-out ones against the others."""
    from kosmos.check.targets import check_apart, check_shards, shard_folders

    root = Path(target)
    if "://" not in target and not root.exists():
        findings.add(
            "error",
            target,
            "expected a folder of document shards, a recipe or a run.json, found nothing there",
            hint=_nearest(target),
        )
        return
    folders = [] if "://" in target else shard_folders(root)
    done: dict[Path, Checked] = {}
    for folder in folders or [root]:
        checked = check_shards(str(folder) if folders else target, findings, expected)
        yield checked
        if not checked.is_whole:
            return
        done[folder] = checked
    for folder, heldout in done.items():
        parts = folder.relative_to(root).parts if folders else ()
        train = root.joinpath(*("train" if part == "heldout" else part for part in parts))
        if "heldout" in parts and train in done:
            check_apart(done[train], heldout, findings)


def _nearest(target: str) -> str:
    from kosmos.recipes.table import ALIASES, RECIPES

    near = difflib.get_close_matches(target, [*RECIPES, *ALIASES], n=1)
    return f"did you mean {near[0]!r}?" if near else "kosmos recipe list"


def _table(corpora: "Sequence[Checked]") -> Iterator[str]:
    """A line of numbers for each corpus."""
    if not corpora:
        return
    width = max(len("corpus"), *(len(corpus.where) for corpus in corpora))
    columns = {"corpus": f"<{width}", "documents": ">11,", "usable": ">9,"}
    columns |= {"pictures": ">10,", "boxes": ">9,"}
    has_rows = any(corpus.facts.rows for corpus in corpora)
    if has_rows:
        columns |= {"rows": ">9,", "tokens/row": ">12,.1f"}
    if any(corpus.rows_per_step for corpus in corpora):
        columns |= {"rows/step": ">11,.4g", "epochs": ">11,.4g"}
    rows = []
    for corpus in corpora:
        facts = corpus.facts
        row = [corpus.where, facts.documents, facts.usable, facts.pictures, facts.boxes]
        row += [facts.rows, facts.tokens_per_row] if has_rows else []
        rows.append([*row, corpus.rows_per_step or "", corpus.epochs or ""])
    yield from table(columns, rows)
    yield ""


def _lines(findings: "Findings") -> Iterator[str]:
    """Each finding: what, how often, examples, what to do; under the name of its place."""
    where = ""
    for finding in findings:
        if finding.where != where:
            where = finding.where
            yield where
        total = f" of {finding.total:,}" if finding.total else ""
        counted = f"{finding.count:,}{total}  " if finding.count else ""
        yield f"  {finding.severity + ':':<9}{counted}{finding.what}"
        for example in finding.examples:
            yield f"    - {example}"
        if finding.count > len(finding.examples):
            yield f"    - and {finding.count - len(finding.examples):,} more"
        if finding.hint:
            yield f"    hint: {finding.hint}"
    if where:
        yield ""
