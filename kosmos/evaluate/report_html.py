"""The report as one HTML file.

Lines are solid or dashed, so that color is never all that tells.
"""

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from kosmos.evaluate.results import Measured, Results

if TYPE_CHECKING:
    from kosmos.evaluate.report import Section

_CSS = """
:root { --ink:#1c2027; --soft:#5d6470; --line:#e4e1d8; --paper:#fbfaf6; --card:#fff;
        --said:#1f4fa8; --true:#a4420b; --band:#d9d5c8; }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink);
       font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif }
main { max-width:1080px; margin:0 auto; padding:3rem 1.25rem 5rem }
h1 { font-size:2.1rem; line-height:1.15; letter-spacing:-.02em; margin:0 0 .4rem }
h2 { font-size:1.4rem; letter-spacing:-.01em; margin:3.2rem 0 .3rem }
h3 { font-size:1rem; margin:1.8rem 0 .6rem; color:var(--soft); font-weight:600 }
p { margin:.3rem 0; max-width:70ch } .soft { color:var(--soft) } code { font-size:.9em }
nav a { margin-right:1rem } a { color:var(--said) }
dl.facts { display:grid; grid-template-columns:max-content 1fr; gap:.15rem 1.2rem;
           margin:1.2rem 0; font-size:.9rem } dl.facts dt { color:var(--soft) }
dl.facts dd { margin:0; overflow-wrap:anywhere }
.scroll { overflow-x:auto }
table { border-collapse:collapse; width:100%; margin:.8rem 0; background:var(--card);
        border:1px solid var(--line); border-radius:10px; font-variant-numeric:tabular-nums }
th,td { text-align:left; padding:.5rem .8rem; border-bottom:1px solid var(--line);
        vertical-align:middle } tr:last-child td { border-bottom:0 }
th { font-size:.8rem; color:var(--soft); font-weight:600 } td.n,th.n { text-align:right }
td.value { font-weight:650; font-size:1.05rem; white-space:nowrap }
td.plot { min-width:250px; white-space:nowrap }
td.plot small { color:var(--soft); margin-left:.3rem; vertical-align:8px }
td.span { white-space:nowrap } .yes,.no { white-space:nowrap; font-weight:600 }
.no { color:var(--soft); font-weight:400 }
.grid { display:grid; grid-template-columns:repeat(auto-fill,minmax(160px,1fr)); gap:1rem }
figure { margin:0; background:var(--card); border:1px solid var(--line); border-radius:10px;
         overflow:hidden; display:flex; flex-direction:column }
.frame { position:relative; background:#eee; line-height:0 }
.frame img { width:100%; display:block } .frame .pixels { image-rendering:pixelated }
.frame svg { position:absolute; inset:0; width:100%; height:100% }
figcaption { padding:.65rem .75rem .75rem; font-size:.86rem; line-height:1.4 }
figcaption p { margin:.15rem 0 } .label { color:var(--soft); font-size:.75rem; margin-right:.35rem }
.score { margin-top:.45rem; font-variant-numeric:tabular-nums; color:var(--soft);
         font-size:.8rem }
.key { font-size:.85rem; color:var(--soft); display:flex; gap:1.4rem; align-items:center;
       flex-wrap:wrap } .key svg { vertical-align:middle }
details { margin:.8rem 0 } summary { cursor:pointer; color:var(--said) }
footer { margin-top:4rem; font-size:.85rem; color:var(--soft) }
@media (max-width:640px) {
  td.plot { min-width:0 } table.numbers tr { display:grid; grid-template-columns:1fr auto auto;
    padding:.5rem .8rem; border-bottom:1px solid var(--line) }
  table.numbers th { display:none } table.numbers td { border:0; padding:.1rem .4rem }
  table.numbers td:first-child { grid-column:1/-1 } table.numbers td.plot { grid-column:1/-1 }
  table.numbers tr:first-child { display:none } td.plot small { display:none }
  td.plot svg { width:100%; height:26px } td.chance::before { content:"chance "; color:var(--soft) }
  td.count::before { content:"n = "; color:var(--soft) } }
@media print { body { background:#fff } figure,table { break-inside:avoid } }
"""

_PAGE = """\
{% macro head(first) %}
<div class=scroll><table class=numbers><tr><th>{{ first }}</th><th class=n>value</th>
<th class=n>95% interval</th><th class=n>chance</th><th>from 0 to 100</th>
<th>excludes chance?</th><th class=n>n</th></tr>
{% endmacro %}

{% macro row(line) %}
{% set metric, found = line.metric, line.found %}
<tr><td>{{ caller() }}{% if not metric.higher_is_better %} <span class=soft>(low is good)</span>
{% endif %}</td><td class="n value">{{ "%.1f" % found.value }}{{ metric.unit }}</td>
<td class="n span">{{ "%.1f" % found.low }} – {{ "%.1f" % found.high }}</td>
<td class="n chance">{{ "–" if found.chance is none else "%.1f" % found.chance }}</td>
<td class=plot>{{ plot(found, top_of(found)) }}</td>
<td>{% if found.excludes_chance %}<span class=yes>✓ yes</span>{% else %}
<span class=no>{{ "–" if found.excludes_chance is none else "✗ no" }}</span>{% endif %}</td>
<td class="n count">{{ found.num_examples }}</td></tr>
{% endmacro %}

{# the interval as a bar with a dot, over the hatched band of chance #}
{% macro plot(found, top) %}
{% set words = "%.1f to %.1f of %d" % (found.low, found.high, top) %}
<svg viewBox="0 0 220 26" width="220" height="26" role="img" aria-label="{{ words }}">
<line x1="4" x2="216" y1="13" y2="13" stroke="#d9d5c8"/>
{% if found.chance_low is not none %}
{% set left, right = x(found.chance_low, top), x(found.chance_high, top) %}
<rect x="{{ left }}" y="4" width="{{ [3.0, right - left] | max | round(1) }}" height="18"
fill="url(#hatch)" stroke="#b3ad9c" stroke-width=".75"/>
{% endif %}
<line x1="{{ x(found.low, top) }}" x2="{{ x(found.high, top) }}" y1="13" y2="13" stroke="#1f4fa8"
stroke-width="3" stroke-linecap="round"/><circle cx="{{ x(found.value, top) }}" cy="13" r="5"
fill="#1f4fa8"/></svg>{% if top != 100 %}<small>{{ top }}</small>{% endif %}
{% endmacro %}

{% macro rectangle(box, color, width, dash="") %}
{% set inside = box.clipped() %}
<rect x="{{ "%.1f" % (inside.x0 * 1000) }}" y="{{ "%.1f" % (inside.y0 * 1000) }}"
width="{{ "%.1f" % ([0, inside.x1 - inside.x0] | max * 1000) }}"
height="{{ "%.1f" % ([0, inside.y1 - inside.y0] | max * 1000) }}" fill="none"
stroke="{{ color }}" stroke-width="{{ width }}"{{ dash }} vector-effect="non-scaling-stroke"/>
{% endmacro %}

{% macro stroke(color, dash="") %}
<svg width="26" height="10"><line x1="1" x2="25" y1="5" y2="5" stroke="{{ color }}"
stroke-width="2.5"{{ dash }}/></svg>
{% endmacro %}

{% macro frame(picture, said, gold) %}
{% set url = data_url(picture) %}
<div class=frame><img alt=""{{ " class=pixels" if "png" in url[:16] }} src="{{ url }}">
{% if said or gold %}
<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">
{% for box in said + gold %}{{ rectangle(box, "#fff", 5) }}{% endfor %}
{% for box in gold %}{{ rectangle(box, "#a4420b", 2.5, dashes) }}{% endfor %}
{% for box in said %}{{ rectangle(box, "#1f4fa8", 2.5) }}{% endfor %}</svg>
{% endif %}</div>
{% endmacro %}

{% macro figure(task, item) %}
{% set prediction, said, gold = item.prediction, item.said_boxes, item.true_boxes %}
<figure>{% if item.picture %}{{ frame(item.picture, said, gold) }}{% endif %}<figcaption>
{% if item.asked %}<p><span class=label>asked</span>{{ item.asked }}</p>{% endif %}
<p><span class=label>said</span>
<b>{{ prediction.text or ("(a box)" if said else "(nothing)") }}</b></p>
<p><span class=label>true</span>{{ task.truth(item.example) }}</p>
{% if prediction.scores %}<p><span class=label>likeliest</span>
{% for score in (prediction.scores | sort(attribute="logprob", reverse=true))[:3] %}
{{ score.candidate }} ({{ "%.2f" % score.logprob }}){{ "" if loop.last else ", " }}
{% endfor %}</p>{% endif %}
{% if prediction.failure %}<p class=soft>no answer: {{ prediction.failure }}</p>{% endif %}
{% if prediction.dropped %}<p class=soft>not read: {{ prediction.dropped[0] }}</p>{% endif %}
{% if gold %}<p class=key><span>
{% if said %}{{ stroke("#1f4fa8") }} said{% else %}no box said{% endif %}</span>
<span>{{ stroke("#a4420b", dashes) }} true</span></p>{% endif %}
<div class=score>{% for metric in task.metrics if metric.name in item.values %}
{{ "" if loop.first else "· " }}{{ metric.title }}
{{ "%.0f" % (item.values[metric.name] * metric.scale) }}{{ metric.unit }}
{% endfor %}</div></figcaption></figure>
{% endmacro %}

<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{ title }}</title><style>{{ css | safe }}</style></head><body>
<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>
<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse"
patternTransform="rotate(45)"><rect width="5" height="5" fill="#efece3"/>
<line x1="0" y1="0" x2="0" y2="5" stroke="#b3ad9c" stroke-width="2"/></pattern></defs></svg>
<main><h1>{{ title }}</h1><nav>
{% for s in sections %}<a href="#{{ s.task.name }}">{{ s.task.title }}</a>{% endfor %}</nav>
<dl class=facts>
{% for name, value in facts.items() if value %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}
</dl>
<h2>At a glance</h2><p class=key><span>
<svg width="44" height="14"><line x1="4" x2="40" y1="7" y2="7" stroke="#1f4fa8" stroke-width="3"
stroke-linecap="round"/><circle cx="22" cy="7" r="5" fill="#1f4fa8"/></svg>
value and 95% interval</span><span><svg width="26" height="14"><rect width="26" height="14"
fill="url(#hatch)" stroke="#b3ad9c"/></svg> chance</span></p>
{{ head("task") }}
{% for s in sections %}{% for line in s.lines[:1] %}
{% call row(line) %}<a href="#{{ s.task.name }}">{{ s.task.title }}</a><br>
<span class=soft>{{ line.metric.title }}</span>{% endcall %}
{% endfor %}{% endfor %}</table></div>
{% for s in sections %}
{% set result, headline = s.result, s.task.metrics[0] %}
<h2 id="{{ s.task.name }}">{{ s.task.title }}</h2><p>{{ s.task.help }}</p>
<p class=soft>{{ result.num_examples }} examples of {{ result.dataset }}
{%- if result.num_failed %}, {{ result.num_failed }} of which could not be answered and count as
wrong{% endif %}
{%- if result.shots %}, {{ result.shots }} demonstrations before each{% endif %},
{{ "%.0f" % result.seconds }} s; version {{ result.version }} of the task.</p>
{{ head("metric") }}
{% for line in s.lines if not line.group %}
{% call row(line) %}{{ line.metric.title }}<br><span class=soft>{{ line.metric.help }}</span>
{% endcall %}
{% endfor %}</table></div>
{% if result.groups %}
<h3>{{ headline.title }} by kind</h3>{{ head("kind") }}
{% for line in s.lines if line.group and line.metric == headline %}
{% call row(line) %}{{ line.group }}{% endcall %}
{% endfor %}</table></div>
{% endif %}
{% if s.task.published %}
<details><summary>What the papers report, on their data</summary><div class=scroll><table>
<tr><th>model</th><th>data</th><th class=n>value</th><th>source</th></tr>
{% for p in s.task.published %}<tr><td>{{ p.model }}</td><td>{{ p.data }}</td>
<td class=n>{{ "%g" % p.value }}</td><td class=soft>{{ p.source }}</td></tr>{% endfor %}
</table></div></details>
{% endif %}
{% for title, shown in (("Best replies", s.best), ("Worst replies", s.worst)) if shown %}
<h3>{{ title }}</h3>
<div class=grid>{% for item in shown %}{{ figure(s.task, item) }}{% endfor %}</div>
{% endfor %}
{% endfor %}
<footer>Intervals are 95%: Wilson’s for shares, a bootstrap of 2,000 resamples for means.
Chance is the same replies scored against other examples’ gold, in 20 orders; the hatched
band spans all of them.</footer></main></body></html>
"""


def render_html(results: Results, sections: "Sequence[Section]") -> str:
    """The whole page."""
    name = "/".join(results.model.rstrip("/").split("/")[-2:])
    # what models, documents and users said is escaped
    page = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    ).from_string(_PAGE)
    return page.render(
        title=f"Evaluation of {name}" if name else "Evaluation",
        facts={"Model": results.model, "Weights": results.model_digest[:16], **results.facts},
        sections=sections,
        css=_CSS,
        dashes=Markup(' stroke-dasharray="7 5"'),
        data_url=_data_url,
        top_of=_top_of,
        x=_x,
    )


def _data_url(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def _top_of(found: Measured) -> int:
    """Where the axis ends: a consensus score may exceed 100, and then it is the next hundred."""
    return 100 * max(1, math.ceil(found.high / 100))


def _x(value: float, top: int) -> float:
    return round(4.0 + min(1.0, max(0.0, value / top)) * 212.0, 1)
