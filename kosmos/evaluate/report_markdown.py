"""The report as Markdown: every number, and a few replies in words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kosmos.evaluate.results import Results, to_rows

if TYPE_CHECKING:
    from kosmos.evaluate.report import Section, Shown

_NUM_REPLIES = 3


def render_markdown(results: Results, sections: Sequence["Section"]) -> str:
    """The whole text."""
    lines = ["# Evaluation", ""]
    facts = {"model": results.model, "weights": results.model_digest[:16], **results.facts}
    lines += [f"- {name}: {value}" for name, value in facts.items() if value]
    for section in sections:
        lines += ["", *_section(section)]
    lines += [
        "",
        "Intervals are 95% (Wilson for shares, bootstrap for means). Chance: the same replies "
        "scored against other examples' gold, mean of 20 orders.",
    ]
    return "\n".join(lines) + "\n"


def _section(section: "Section") -> list[str]:
    task, result = section.task, section.result
    lines = [
        f"## {task.title}",
        "",
        f"{task.help} {result.num_examples} examples.",
        "",
        "| | metric | value | 95% interval | chance | beyond chance | n |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for row in to_rows(result, task):
        chance = "–" if row["chance"] is None else f"{row['chance']:.1f}"
        verdict = {True: "yes", False: "no"}.get(row["beats_chance"], "–")  # type: ignore[arg-type]
        lines.append(
            f"| {row['group'] or 'all'} | {row['metric']} | {row['value']:.1f}{row['unit']} | "
            f"{row['low']:.1f} – {row['high']:.1f} | {chance} | {verdict} | {row['n']} |"
        )
    if task.published:
        lines += ["", "The papers, on their data: " + "; ".join(_published(section)) + "."]
    for title, shown in (("Best", section.best), ("Worst", section.worst)):
        if shown:
            lines += ["", f"{title}:", ""]
            lines += [_reply(section, item) for item in shown[:_NUM_REPLIES]]
    return lines


def _published(section: "Section") -> list[str]:
    return [f"{p.model} {p.value:g} on {p.data} ({p.source})" for p in section.task.published]


def _reply(section: "Section", item: "Shown") -> str:
    said = item.prediction.text or item.prediction.markup or "(nothing)"
    return f"- `{item.example.id}` said “{said}”, true “{section.task.truth(item.example)}”"
