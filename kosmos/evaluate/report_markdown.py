"""The report as Markdown: every number, and a few replies in words.

What models, documents and users said is escaped: it is text here, whatever it looks like.
"""

import re
from collections.abc import Sequence

from kosmos.evaluate.report_sections import Section, Shown
from kosmos.evaluate.results import Results, to_lines

_NUM_REPLIES = 3


def render_markdown(results: Results, sections: Sequence[Section]) -> str:
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


def _section(section: Section) -> list[str]:
    task, result = section.task, section.result
    lines = [
        f"## {task.title}",
        "",
        f"{task.help} {result.num_examples} examples.",
        "",
        "| | metric | value | 95% interval | chance | excludes chance | n |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for line in to_lines(result, task):
        chance = "–" if line.chance is None else f"{line.chance:.1f}"
        verdict = {True: "yes", False: "no", None: "–"}[line.excludes_chance]
        lines.append(
            f"| {_text(line.group or 'all')} | {line.metric} | {line.value:.1f}{line.unit} | "
            f"{line.low:.1f} – {line.high:.1f} | {chance} | {verdict} | {line.num_examples} |"
        )
    if task.published:
        lines += ["", "The papers, on their data: " + "; ".join(_published(section)) + "."]
    for title, shown in (("Best", section.best), ("Worst", section.worst)):
        if shown:
            lines += ["", f"{title}:", ""]
            lines += [_reply(section, item) for item in shown[:_NUM_REPLIES]]
    return lines


def _published(section: Section) -> list[str]:
    return [f"{p.model} {p.value:g} on {p.data} ({p.source})" for p in section.task.published]


def _reply(section: Section, item: Shown) -> str:
    boxes = [box for phrase in item.prediction.phrases for box in phrase.boxes]
    places = "; ".join(
        f"{box.x0:.2f} {box.y0:.2f} {box.x1:.2f} {box.y1:.2f}" for box in boxes[:_NUM_REPLIES]
    )
    words = _text(item.prediction.text)
    said = " ".join(filter(None, (words, places and f"[{places}]"))) or "(nothing)"
    true = section.task.truth(item.example)
    return f"- {_text(item.example.id)} said “{said}”, true “{_text(true)}”"


def _text(words: str) -> str:
    """Words of others on one line, with what Markdown or HTML would read as more written out."""
    visible = "".join(c if c.isprintable() else " " for c in words)
    return re.sub(r"([\\`*_{}\[\]<>#|!&~$])", r"\\\1", " ".join(visible.split()))
