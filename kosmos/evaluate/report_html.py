"""The report as one HTML file."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.evaluate.report_sections import Section, Shown
from kosmos.evaluate.report_style import CSS, HATCH
from kosmos.evaluate.results import Measured, Results
from kosmos.evaluate.task import Metric, Task

_PLOT_WIDTH = 220.0
_PLOT_HEIGHT = 26


def render_html(results: Results, sections: Sequence[Section]) -> str:
    """The whole page."""
    body = [_head(results, sections), _overview(sections)]
    body += [_section(section) for section in sections]
    body.append(
        "<footer>Intervals are 95%: Wilson’s for shares, a bootstrap of 2,000 resamples for means. "
        "Chance is the same replies scored against other examples’ gold, in 20 orders; the hatched "
        "band spans all of them.</footer>"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(_title(results))}</title><style>{CSS}</style></head>"
        f"<body>{HATCH}<main>{''.join(body)}</main></body></html>\n"
    )


def _title(results: Results) -> str:
    name = "/".join(results.model.rstrip("/").split("/")[-2:])
    return f"Evaluation of {name}" if name else "Evaluation"


def _head(results: Results, sections: Sequence[Section]) -> str:
    facts = {"Model": results.model, "Weights": results.model_digest[:16], **results.facts}
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value
    )
    links = "".join(
        f'<a href="#{escape(s.task.name)}">{escape(s.task.title)}</a>' for s in sections
    )
    return f"<h1>{escape(_title(results))}</h1><nav>{links}</nav><dl class=facts>{rows}</dl>"


def _overview(sections: Sequence[Section]) -> str:
    rows = []
    for section in sections:
        metric = section.task.metrics[0]
        found = section.result.metrics.get(metric.name)
        if found is not None:
            label = f'<a href="#{escape(section.task.name)}">{escape(section.task.title)}</a>'
            rows.append(
                _row(f"{label}<br><span class=soft>{escape(metric.title)}</span>", metric, found)
            )
    return f"<h2>At a glance</h2>{_key()}{_table('task', rows)}"


def _section(section: Section) -> str:
    task, result = section.task, section.result
    rows = [
        _row(
            f"{escape(metric.title)}<br><span class=soft>{escape(metric.help)}</span>",
            metric,
            result.metrics[metric.name],
        )
        for metric in task.metrics
        if metric.name in result.metrics
    ]
    shots = f", {result.shots} demonstrations before each" if result.shots else ""
    parts = [
        f'<h2 id="{escape(task.name)}">{escape(task.title)}</h2>',
        f"<p>{escape(task.help)}</p>",
        f"<p class=soft>{result.num_examples} examples of {escape(result.dataset)}{shots}, "
        f"{result.seconds:.0f} s; version {result.version} of the task.</p>",
        _table("metric", rows),
        _groups(section),
        _published(task),
    ]
    for title, shown in (("Best replies", section.best), ("Worst replies", section.worst)):
        if shown:
            parts.append(f"<h3>{title}</h3>{_examples(task, shown)}")
    return "".join(parts)


def _groups(section: Section) -> str:
    metric = section.task.metrics[0]
    rows = [
        _row(escape(name), metric, measured[metric.name])
        for name, measured in section.result.groups.items()
        if metric.name in measured
    ]
    if not rows:
        return ""
    return f"<h3>{escape(metric.title)} by kind</h3>{_table('kind', rows)}"


def _published(task: Task) -> str:
    rows = "".join(
        f"<tr><td>{escape(p.model)}</td><td>{escape(p.data)}</td>"
        f"<td class=n>{p.value:g}</td><td class=soft>{escape(p.source)}</td></tr>"
        for p in task.published
    )
    if not rows:
        return ""
    return (
        "<details><summary>What the papers report, on their data</summary><div class=scroll>"
        "<table><tr><th>model</th><th>data</th><th class=n>value</th><th>source</th></tr>"
        f"{rows}</table></div></details>"
    )


# --- numbers


def _table(first: str, rows: Iterable[str]) -> str:
    return (
        f"<div class=scroll><table class=numbers><tr><th>{first}</th><th class=n>value</th>"
        "<th class=n>95% interval</th><th class=n>chance</th><th>from 0 to 100</th>"
        "<th>excludes chance?</th>"
        f"<th class=n>n</th></tr>{''.join(rows)}</table></div>"
    )


def _row(label: str, metric: Metric, found: Measured) -> str:
    def scaled(value: float | None) -> str:
        return "–" if value is None else f"{value * metric.scale:.1f}"

    verdict = {
        True: "<span class=yes>✓ yes</span>",
        False: "<span class=no>✗ no</span>",
        None: "<span class=no>–</span>",
    }[found.excludes_chance]
    direction = "" if metric.higher_is_better else " <span class=soft>(low is good)</span>"
    return (
        f"<tr><td>{label}{direction}</td>"
        f"<td class='n value'>{scaled(found.value)}{metric.unit}</td>"
        f"<td class='n span'>{scaled(found.low)} – {scaled(found.high)}</td>"
        f"<td class='n chance'>{scaled(found.chance)}</td>"
        f"<td class=plot>{_plot(metric, found)}</td>"
        f"<td>{verdict}</td><td class='n count'>{found.num_examples}</td></tr>"
    )


def _plot(metric: Metric, found: Measured) -> str:
    """The interval as a bar with a dot, over the hatched band of chance, on an axis to 100."""
    # a consensus score may exceed 100: the axis then ends at the next hundred
    top = 100.0 * max(1, -(-int(found.high * metric.scale) // 100))

    def x(value: float) -> float:
        share = min(1.0, max(0.0, value * metric.scale / top))
        return 4.0 + share * (_PLOT_WIDTH - 8.0)

    middle = _PLOT_HEIGHT / 2
    marks = [f'<line x1="4" x2="{_PLOT_WIDTH - 4}" y1="{middle}" y2="{middle}" stroke="#d9d5c8"/>']
    if found.chance_low is not None and found.chance_high is not None:
        left, right = x(found.chance_low), x(found.chance_high)
        marks.append(
            f'<rect x="{left:.1f}" y="4" width="{max(3.0, right - left):.1f}" '
            f'height="{_PLOT_HEIGHT - 8}" fill="url(#hatch)" stroke="#b3ad9c" stroke-width=".75"/>'
        )
    marks.append(
        f'<line x1="{x(found.low):.1f}" x2="{x(found.high):.1f}" y1="{middle}" y2="{middle}" '
        'stroke="#1f4fa8" stroke-width="3" stroke-linecap="round"/>'
        f'<circle cx="{x(found.value):.1f}" cy="{middle}" r="5" fill="#1f4fa8"/>'
    )
    end = "" if top == 100.0 else f"<small>{top:g}</small>"
    words = f"{found.low * metric.scale:.1f} to {found.high * metric.scale:.1f} of {top:g}"
    return (
        f'<svg viewBox="0 0 {_PLOT_WIDTH:g} {_PLOT_HEIGHT}" width="{_PLOT_WIDTH:g}" '
        f'height="{_PLOT_HEIGHT}" role="img" aria-label="{words}">{"".join(marks)}</svg>{end}'
    )


def _key() -> str:
    dot = (
        '<svg width="44" height="14"><line x1="4" x2="40" y1="7" y2="7" stroke="#1f4fa8" '
        'stroke-width="3" stroke-linecap="round"/>'
        '<circle cx="22" cy="7" r="5" fill="#1f4fa8"/></svg>'
    )
    band = (
        '<svg width="26" height="14"><rect width="26" height="14" fill="url(#hatch)" '
        'stroke="#b3ad9c"/></svg>'
    )
    return f"<p class=key><span>{dot} value and 95% interval</span><span>{band} chance</span></p>"


# --- examples


def _examples(task: Task, shown: Sequence[Shown]) -> str:
    return f"<div class=grid>{''.join(_figure(task, item) for item in shown)}</div>"


def _figure(task: Task, item: Shown) -> str:
    said_boxes = [box for found in item.prediction.phrases for box in found.boxes]
    true_boxes = _true_boxes(item)
    frame = _frame(item.picture, said_boxes, true_boxes) if item.picture else ""
    lines = []
    asked = _asked(item)
    if asked:
        lines.append(f"<p><span class=label>asked</span>{escape(asked)}</p>")
    said = item.prediction.text or ("(a box)" if said_boxes else "(nothing)")
    lines.append(f"<p><span class=label>said</span><b>{escape(said)}</b></p>")
    lines.append(f"<p><span class=label>true</span>{escape(task.truth(item.example))}</p>")
    if item.prediction.scores:
        lines.append(_likeliest(item))
    if item.prediction.dropped:
        lines.append(f"<p class=soft>not read: {escape(item.prediction.dropped[0])}</p>")
    if true_boxes:
        lines.append(_legend(bool(said_boxes)))
    scores = " · ".join(
        f"{escape(m.title)} {item.values[m.name] * m.scale:.0f}{m.unit}"
        for m in task.metrics
        if m.name in item.values
    )
    caption = "".join(lines)
    return (
        f"<figure>{frame}<figcaption>{caption}<div class=score>{scores}</div></figcaption></figure>"
    )


def _asked(item: Shown) -> str:
    meta = item.example.doc.meta
    if "question" in meta:
        return str(meta["question"])
    if "object" in meta:
        return f"The color of {meta['object']} is?"
    if "first" in meta:
        return f"Is {meta['first']} larger than {meta['second']}?"
    return ""


def _true_boxes(item: Shown) -> list[Box]:
    try:
        return [item.example.box("box")]
    except DataError:
        return []  # the task has none


def _frame(picture: bytes, said: Sequence[Box], true: Sequence[Box]) -> str:
    source = base64.b64encode(picture).decode("ascii")
    rectangles = [_rectangle(box, "#fff", 5.0, "") for box in (*said, *true)]
    rectangles += [_rectangle(box, "#a4420b", 2.5, "7 5") for box in true]
    rectangles += [_rectangle(box, "#1f4fa8", 2.5, "") for box in said]
    overlay = ""
    if rectangles:
        overlay = (
            '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">'
            f"{''.join(rectangles)}</svg>"
        )
    is_png = picture.startswith(b"\x89PNG")
    kind, css = ("png", " class=pixels") if is_png else ("jpeg", "")
    image = f'<img alt=""{css} src="data:image/{kind};base64,{source}">'
    return f"<div class=frame>{image}{overlay}</div>"


def _rectangle(box: Box, color: str, width: float, dashes: str) -> str:
    inside = box.clipped()
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<rect x="{inside.x0 * 1000:.1f}" y="{inside.y0 * 1000:.1f}" '
        f'width="{max(0.0, inside.x1 - inside.x0) * 1000:.1f}" '
        f'height="{max(0.0, inside.y1 - inside.y0) * 1000:.1f}" fill="none" stroke="{color}" '
        f'stroke-width="{width}"{dash} vector-effect="non-scaling-stroke"/>'
    )


def _legend(has_said: bool) -> str:
    def line(color: str, dashes: str) -> str:
        return (
            f'<svg width="26" height="10"><line x1="1" x2="25" y1="5" y2="5" stroke="{color}" '
            f'stroke-width="2.5" stroke-dasharray="{dashes}"/></svg>'
        )

    said = f"<span>{line('#1f4fa8', '')} said</span>" if has_said else "<span>no box said</span>"
    return f"<p class=key>{said}<span>{line('#a4420b', '7 5')} true</span></p>"


def _likeliest(item: Shown) -> str:
    scores = sorted(item.prediction.scores, key=lambda score: -score.logprob)[:3]
    words = ", ".join(f"{escape(s.candidate)} ({s.logprob:.2f})" for s in scores)
    return f"<p><span class=label>likeliest</span>{words}</p>"
