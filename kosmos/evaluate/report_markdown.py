"""The report as Markdown: every number, and a few replies in words."""

from collections.abc import Sequence

from kosmos.evaluate.report_sections import Section, Shown
from kosmos.evaluate.results import Results, to_lines

_NUM_REPLIES = 3


def render_markdown(results: Results, sections: Sequence[Section]) -> str:
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
            f"| {line.group or 'all'} | {line.metric} | {line.value:.1f}{line.unit} | "
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
    said = " ".join(filter(None, (item.prediction.text, places and f"[{places}]"))) or "(nothing)"
    return f"- `{item.example.id}` said “{said}”, true “{section.task.truth(item.example)}”"
