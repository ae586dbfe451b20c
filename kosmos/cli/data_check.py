"""``kosmos data check``: what is wrong with data, before anything trains on it."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from kosmos.cli.options import PATH, echo_json, json_option

if TYPE_CHECKING:
    from kosmos.check.corpus import Expected
    from kosmos.check.targets import Checked
    from kosmos.files import Json
    from kosmos.findings import Finding, Findings

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
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a field of the run, or a setting of --format.",
)
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
    settings: tuple[str, ...],
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
    from kosmos.data.config import RowConfig
    from kosmos.findings import Findings
    from kosmos.text.tokenizer import Tokenizer

    kind: _Kind = "source" if format_name else "run" if _is_run(target) else "shards"
    given = {"--images": images, "--limit": limit, "--sample": sample, "--set": settings}
    _check_options(kind, {**given, "--tokenizer": tokenizer_file})
    findings = Findings()
    corpora: list[Checked] = []
    if kind == "run":
        corpora += _check_run(target, settings, findings, sample=sample, seed=seed)
    else:
        expected = Expected(rows=RowConfig(max_tokens=max_tokens), sample=sample, seed=seed)
        if tokenizer_file is not None:
            tokenizer = Tokenizer.load(tokenizer_file, num_cells=num_cells)
            expected = replace(expected, tokenizer=tokenizer)
        if format_name:
            corpora.append(
                _check_source(
                    format_name,
                    target,
                    findings,
                    expected,
                    images=images,
                    settings=settings,
                    limit=limit,
                )
            )
        else:
            corpora += _check_folder(target, findings, expected)
    is_whole = all(corpus.is_whole for corpus in corpora)
    if as_json:
        echo_json(_to_json(target, corpora, findings), indent=2)
    else:
        told = _sum(findings) + ("" if is_whole else "; interrupted, not all was read")
        click.echo("\n".join([*_table(corpora), *_lines(findings), told]))
    if not is_whole:
        raise click.exceptions.Exit(130)
    if findings.num("error"):
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
        run = make_run(str(recorded) if recorded.is_file() else target, settings)
    except ConfigError as error:
        findings.add("error", target, error.message, hint=error.hint or "")
        return []
    return check_ready(run, findings, sample=sample, seed=seed)


def _check_source(
    format_name: str,
    source: str,
    findings: "Findings",
    expected: "Expected",
    *,
    images: str,
    settings: Sequence[str],
    limit: int | None,
) -> "Checked":
    from kosmos.check.targets import check_source
    from kosmos.corpus.formats.table import make_config

    config = make_config(format_name, settings, {"images": images} if images else {})
    return check_source(format_name, source, findings, expected, config=config, limit=limit)


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
    has_rows = any(corpus.facts.rows for corpus in corpora)
    has_steps = any(corpus.rows_per_step for corpus in corpora)
    line = f"{'corpus':{width}}{'documents':>11}{'usable':>9}{'pictures':>10}{'boxes':>9}"
    line += f"{'rows':>9}{'tokens/row':>12}" if has_rows else ""
    yield line + (f"{'rows/step':>11}{'epochs':>11}" if has_steps else "")
    for corpus in corpora:
        facts = corpus.facts
        line = f"{corpus.where:{width}}{facts.documents:>11,}{facts.usable:>9,}"
        line += f"{facts.pictures:>10,}{facts.boxes:>9,}"
        line += f"{facts.rows:>9,}{facts.tokens_per_row:>12,.1f}" if has_rows else ""
        if corpus.rows_per_step:
            line += f"{corpus.rows_per_step:>11,.4g}"
            line += f"{corpus.epochs:>11,.4g}" if corpus.epochs else ""
        yield line
    yield ""


def _lines(findings: "Findings") -> Iterator[str]:
    """Each finding: what, how often, examples, what to do; under the name of its place."""
    where = ""
    for finding in findings:
        if finding.where != where:
            where = finding.where
            yield where
        yield f"  {finding.severity + ':':<9}{_counted(finding)}{finding.what}"
        for example in finding.examples:
            yield f"    - {example}"
        if finding.count > len(finding.examples):
            yield f"    - and {finding.count - len(finding.examples):,} more"
        if finding.hint:
            yield f"    hint: {finding.hint}"
    if where:
        yield ""


def _counted(finding: "Finding") -> str:
    if not finding.count:
        return ""
    of = f" of {finding.total:,}" if finding.total else ""
    return f"{finding.count:,}{of}  "


def _sum(findings: "Findings") -> str:
    counts = {"error": findings.num("error"), "warning": findings.num("warning")}
    told = (f"{count or 'no'} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    return ", ".join(told)


def _to_json(target: str, corpora: "Sequence[Checked]", findings: "Findings") -> dict[str, "Json"]:
    from kosmos.config import to_json

    return {
        "target": target,
        "corpora": [
            {
                "name": corpus.where,
                "facts": to_json(corpus.facts),
                "rows_per_step": corpus.rows_per_step,
                "epochs": corpus.epochs,
                "is_whole": corpus.is_whole,
            }
            for corpus in corpora
        ],
        "findings": [finding.to_json() for finding in findings],
        "errors": findings.num("error"),
        "warnings": findings.num("warning"),
    }
