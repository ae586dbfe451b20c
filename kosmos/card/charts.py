"""Charts of a run as SVG: small panels side by side, sharp at any size, readable without color.

A panel has an axis of steps and one of values, a pale band or line of what each step measured, a
bold line of its running mean, dots of what was measured now and then, a dashed line for a baseline,
and marks where something happened. Long runs are drawn by columns of pixels: the band spans the
least and the most of each, so that a spike is never lost.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from kosmos.card.curves import Points, running_mean
from kosmos.image.svg import FONTS, xml_text

_WIDTH, _HEIGHT = 350.0, 224.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 14.0, 44.0, 28.0
_COLUMNS = 3
_INK, _SOFT, _LINE, _PAPER = "#1c2027", "#5d6470", "#e4e1d8", "#ffffff"
_BOLD, _PALE, _DOT, _MARK = "#1f4fa8", "#c3d2ee", "#c2410c", "#b42318"
_MAX_POINTS = 280
_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart."""

    title: str
    points: Points
    """What each step measured."""
    note: str = ""
    """Beside the title, softer."""
    dots: Points = field(default_factory=list)
    """Measured now and then."""
    baseline: float | None = None
    """What is to be beaten."""
    marks: Sequence[float] = ()
    """Steps at which something happened."""
    from_zero: bool = False
    """Whether the axis begins at zero."""
    is_noisy: bool = True
    """Whether a running mean says more than the points."""
    show: Callable[[float], str] = "{:g}".format
    """A value in words."""


def draw(panels: Sequence[Panel], *, title: str, last_step: float, has_key: bool = False) -> str:
    """A sheet of panels.

    Args:
        panels: In reading order; those without points are left out.
        title: For those who do not see it.
        last_step: Where the axes of steps end.
        has_key: Whether to say above what lines and dots of losses are.
    """
    panels = [panel for panel in panels if panel.points or panel.dots]
    columns = max(1, min(_COLUMNS, len(panels)))
    rows = math.ceil(len(panels) / columns)
    width = columns * _WIDTH
    key, top = _key(panels, width) if has_key else ([], 0.0)
    height = max(1, rows) * _HEIGHT + top
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}" font-family="{FONTS}">',
        f"<title>{xml_text(title)}</title>",
        f'<rect width="100%" height="100%" fill="{_PAPER}"/>',
        *key,
    ]
    for place, panel in enumerate(panels):
        x, y = place % columns * _WIDTH, place // columns * _HEIGHT + top
        lines.append(f'<g transform="translate({x:g},{y:g})">')
        lines += _panel(panel, max(1.0, last_step))
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, last: float) -> Iterator[str]:
    low, high, ticks = _axis(panel)

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    yield f"<title>{xml_text(_said(panel))}</title>"
    yield _text(_LEFT, 20, panel.title, 13.0, _INK, bold=600)
    if panel.note:
        yield _text(_LEFT, 35, panel.note, 10.5, _SOFT)
    for tick in ticks:
        yield _line([(_LEFT, y(tick)), (_WIDTH - _RIGHT, y(tick))], _LINE, 1.0)
        yield _text(_LEFT - 7, y(tick) + 3.5, panel.show(tick), 10.0, _SOFT, anchor="end")
    for step, anchor in ((0.0, "start"), (last / 2, "middle"), (last, "end")):
        words = f"{step:,.0f}" + (" steps" if step == last else "")
        yield _text(x(step), _HEIGHT - 10, words, 10.0, _SOFT, anchor=anchor)
    for step in panel.marks:
        yield _line([(x(step), _TOP), (x(step), _HEIGHT - _BOTTOM)], _MARK, 1.0, dashes="2 3")
        yield _triangle(x(step), _TOP)
    if len(panel.points) > _MAX_POINTS:
        band = _band(panel.points, last)
        outline = [(x(s), y(most)) for s, _, most in band]
        outline += [(x(s), y(least)) for s, least, _ in reversed(band)]
        yield f'<polygon points="{_places(outline)}" fill="{_PALE}"/>'
    else:
        yield _line([(x(s), y(v)) for s, v in panel.points], _PALE, 1.3)
    if panel.baseline is not None:
        level = y(panel.baseline)
        yield _line([(_LEFT, level), (_WIDTH - _RIGHT, level)], _SOFT, 1.4, dashes="6 4")
    means = running_mean(panel.points, max(1, len(panel.points) // 40 if panel.is_noisy else 1))
    thinned = means[:: max(1, len(means) // _MAX_POINTS)]
    if means and thinned[-1] != means[-1]:
        thinned.append(means[-1])
    yield _line([(x(s), y(v)) for s, v in thinned], _BOLD, 2.2)
    for step, value in panel.dots:
        yield (
            f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="3.6" fill="{_DOT}" '
            f'stroke="{_PAPER}" stroke-width="1"/>'
        )


def _axis(panel: Panel) -> tuple[float, float, list[float]]:
    """Least, most and ticks; the ticks are round numbers."""
    values = [value for _, value in (*panel.points, *panel.dots)]
    if panel.baseline is not None:
        values.append(panel.baseline)
    if panel.from_zero:
        values.append(0.0)
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = (0.0, high or 1.0) if high >= 0 else (low, 0.0)
    rough = (high - low) / (_TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if unit * factor >= rough)
    first, count = math.floor(low / step), math.ceil(high / step)
    return first * step, count * step, [number * step for number in range(first, count + 1)]


def _band(points: Points, last: float) -> list[tuple[float, float, float]]:
    """Step, least and most of each column."""
    columns: dict[int, list[tuple[float, float]]] = {}
    for step, value in points:
        columns.setdefault(int(step / last * _MAX_POINTS), []).append((step, value))
    parts = (tuple(zip(*found, strict=True)) for found in columns.values())
    return [(sum(steps) / len(steps), min(values), max(values)) for steps, values in parts]


def _said(panel: Panel) -> str:
    values = [value for _, value in panel.points] or [value for _, value in panel.dots]
    ends = f"from {panel.show(values[0])} to {panel.show(values[-1])}"
    return f"{panel.title}: {ends}" + (f"; {panel.note}" if panel.note else "")


def _key(panels: Sequence[Panel], width: float) -> tuple[list[str], float]:
    """What the marks mean, as far as there are such, in rows; and their height."""
    entries = [("a step", _line([(0, 0), (26, 0)], _PALE, 3.0))]
    entries.append(("running mean", _line([(0, 0), (26, 0)], _BOLD, 2.2)))
    if any(panel.dots for panel in panels):
        entries.append(("held out", f'<circle cx="13" cy="0" r="3.6" fill="{_DOT}"/>'))
    if any(panel.baseline is not None for panel in panels):
        entries.append(("unigram, held out", _line([(0, 0), (26, 0)], _SOFT, 1.4, dashes="6 4")))
    if any(panel.marks for panel in panels):
        entries.append(("an event, see below", _triangle(13, -4)))
    lines, x, y = [], _LEFT, 19.0
    for words, shape in entries:
        taken = 33 + 6.2 * len(words)
        if x + taken > width:
            x, y = _LEFT, y + 19.0
        lines.append(f'<g transform="translate({x:g},{y - 4:g})">{shape}</g>')
        lines.append(_text(x + 33, y, words, 11.0, _SOFT))
        x += taken + 26
    return lines, y + 11.0


def _text(
    x: float,
    y: float,
    words: str,
    size: float,
    color: str,
    *,
    anchor: str = "start",
    bold: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{color}" '
        f'text-anchor="{anchor}" font-weight="{bold}">{xml_text(words)}</text>'
    )


def _line(
    points: Sequence[tuple[float, float]], color: str, width: float, *, dashes: str = ""
) -> str:
    if len(points) == 1:  # a single step is a dot
        ((x, y),) = points
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width:g}" fill="{color}"/>'
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{_places(points)}" fill="none" stroke="{color}" '
        f'stroke-width="{width:g}" stroke-linejoin="round" stroke-linecap="round"{dashed}/>'
    )


def _triangle(x: float, y: float) -> str:
    corners = [(x - 4, y), (x + 4, y), (x, y + 7)]
    return f'<polygon points="{_places(corners)}" fill="{_MARK}"/>'


def _places(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
