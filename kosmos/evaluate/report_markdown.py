"""The report as Markdown: every number, and a few replies in words.

What models, documents and users said is escaped: it is text here, whatever it looks like.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kosmos.evaluate.results import Results

if TYPE_CHECKING:
    from kosmos.evaluate.report import Section, Shown

_NUM_REPLIES = 3


def render_markdown(results: Results, sections: "Sequence[Section]") -> str:
    """The whole text."""
    lines = ["# Evaluation", ""]
    facts = {"model": results.model, "weights": results.model_digest[:16], **results.facts}
    lines += [f"- {_text(name)}: {_text(value)}" for name, value in facts.items() if value]
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
    failed = f"; {result.num_failed} could not be answered and count as wrong"
    lines = [
        f"## {task.title}",
        "",
        f"{task.help} {result.num_examples} examples{failed if result.num_failed else ''}.",
        "",
        "| | metric | value | 95% interval | chance | excludes chance | n |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for line in section.lines:
        metric, found = line.metric, line.found
        chance = "–" if found.chance is None else f"{found.chance:.1f}"
        verdict = {True: "yes", False: "no", None: "–"}[found.excludes_chance]
        lines.append(
            f"| {_text(line.group or 'all')} | {metric.title} | {found.value:.1f}{metric.unit} | "
            f"{found.low:.1f} – {found.high:.1f} | {chance} | {verdict} | {found.num_examples} |"
        )
    if task.published:
        told = (f"{p.model} {p.value:g} on {p.data} ({p.source})" for p in task.published)
        lines += ["", f"The papers, on their data: {'; '.join(told)}."]
    for title, shown in (("Best", section.best), ("Worst", section.worst)):
        if shown:
            lines += ["", f"{title}:", ""]
            lines += [_reply(section, item) for item in shown[:_NUM_REPLIES]]
    return lines


def _reply(section: "Section", item: "Shown") -> str:
    places = "; ".join(
        f"{box.x0:.2f} {box.y0:.2f} {box.x1:.2f} {box.y1:.2f}"
        for box in item.said_boxes[:_NUM_REPLIES]
    )
    words = _text(item.prediction.text)
    said = " ".join(filter(None, (words, places and f"[{places}]"))) or "(nothing)"
    true = section.task.truth(item.example)
    return f"- {_text(item.example.id)} said “{said}”, true “{_text(true)}”"


def _text(words: str) -> str:
    """Words of others on one line, with what Markdown or HTML would read as more written out."""
    visible = "".join(c if c.isprintable() else " " for c in words)
    return re.sub(r"([\\`*_{}\[\]<>#|!&~$])", r"\\\1", " ".join(visible.split()))
