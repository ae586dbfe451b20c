"""Results as a table: aligned for a terminal, the same rows for the page.

A row a benchmark::

    benchmark     size  ours    peer    limit   of limit  ours ÷ peer        target  met
    first token   full  1.21 s  1.93 s  0.92 s  76%       1.60 (1.52-1.66)   ≥ 1.3   yes
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

HEADER = (
    "benchmark", "workload", "model", "ours", "peer", "limit", "of limit", "ours ÷ peer",
    "target", "met",
)  # fmt: skip


def cells(found: Mapping[str, Any]) -> list[str]:
    """One row from what the JSON file of a benchmark holds."""
    ours = statistics.median(found["ours_s"])
    ratio, limit_s = found["ratio"], found["limit_s"]
    targets, reached = [], []
    for target in found["targets"]:
        is_ratio = target["name"] == "ours ÷ peer"
        label = "" if is_ratio else f"{target['name']} "
        targets.append(f"{label}{target['expected']}")
        said = "yes" if target["met"] else "no"
        reached.append(said if is_ratio else f"{said} ({target['found']:.3g})")
    return [
        found["title"],
        found["workload"],
        found["size"] if found["dtype"] == "float32" else f"{found['size']}, {found['dtype']}",
        _amount(ours, found),
        _amount(statistics.median(found["peer_s"]), found) if ratio else "–",
        "–" if limit_s is None else seconds(limit_s),
        "–" if limit_s is None else f"{limit_s / ours:.0%}",
        f"{ratio['median']:.2f} ({ratio['least']:.2f}–{ratio['greatest']:.2f})" if ratio else "–",
        "; ".join(targets),
        "; ".join(reached),
    ]


def show(results: Sequence[Mapping[str, Any]]) -> str:
    """An aligned table, and the machine below it."""
    rows = [list(HEADER), *(cells(found) for found in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [said for found in results[-1:] for said in ("", *conditions(found))]
    return "\n".join(lines)


def conditions(found: Mapping[str, Any]) -> list[str]:
    """What a result holds for: machine, versions, rates, commit, command."""
    about, rates = found["machine"], found["calibration"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    place = about["gpu"] or f"{about['processor']}, {about['threads']} threads"
    return [
        f"{place}; {versions}, Python {about['python']}",
        f"matrix product {rates['flops_per_s'] / 1e9:,.0f} GFLOP/s in {found['dtype']}, "
        f"reading {rates['bytes_per_s'] / 1e9:.1f} GB/s, in this run",
        f"{found['date']}, commit {found['commit']}, {found['rounds']} pairs: {found['command']}",
        *(f"{name}: {value}" for name, value in found["facts"].items()),
    ]


def seconds(value: float) -> str:
    """A time with three digits and its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _amount(value: float, found: Mapping[str, Any]) -> str:
    """A time, and how many of what that is in a second."""
    if not found["count"]:
        return seconds(value)
    rate = found["count"] / value
    shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
    return f"{seconds(value)}, {shown} {found['unit']}/s"
