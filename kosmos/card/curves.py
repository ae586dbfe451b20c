"""Curves of a run, read off its metrics.jsonl."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from kosmos.errors import DataError
from kosmos.train.metrics import is_measurement, read_records

Points: TypeAlias = list[tuple[float, float]]
"""Step and value."""

QUANTITIES = (
    "tokens_per_s",
    "utilisation",
    "memory_bytes",
    "data_wait_share",
    "grad_norm",
    "learning_rate",
    "step_s",
)
"""Quantities of train records that have a curve of their own."""


@dataclass
class Curve:
    """The points of one stream."""

    train: Points = field(default_factory=list)
    """Step and loss."""
    heldout: Points = field(default_factory=list)
    """Step and held-out loss."""
    unigram: float | None = None
    """Held-out loss of token frequencies."""


@dataclass
class Curves:
    """What a run measured."""

    streams: dict[str, Curve] = field(default_factory=dict)
    """By name, in the order of the run."""
    quantities: dict[str, Points] = field(default_factory=dict)
    """By name; those that a run has."""
    last: dict[str, Any] = field(default_factory=dict)
    """The last train record."""
    num_tokens: int = 0
    """Real positions of all steps that are in the file."""
    num_positions: int = 0
    """Positions that were computed for them; 0 if that was not noted."""
    num_loss_tokens: float = 0.0
    """Positions with loss."""
    flops: int = 0
    """Operations that they needed; 0 if that was not noted."""
    damaged: list[DataError] = field(default_factory=list)
    """What is wrong with lines of the file that were left out."""


def read_run(metrics: Path) -> Curves:
    """All curves of a run, of its metrics.jsonl; one that is not there has no curves."""
    curves = Curves()
    for record in read_records(metrics, is_measurement, damaged=curves.damaged):
        _add_losses(curves.streams, record)
        if record["kind"] != "train":
            continue
        curves.last = record
        curves.num_tokens += int(record["num_tokens"])
        curves.num_positions += int(record.get("num_positions") or 0)
        curves.num_loss_tokens += float(record["num_loss_tokens"])
        curves.flops += int(record.get("flops") or 0)
        for name in QUANTITIES:
            value = record.get(name)
            # shares above 1 are of runs that did not know better
            if value is not None and not (name == "utilisation" and value > 1):
                points = curves.quantities.setdefault(name, [])
                points.append((float(record["step"]), float(value)))
    return curves


def read_curves(metrics: Path) -> dict[str, Curve]:
    """Losses of every stream of a run, in the order of the run."""
    return read_run(metrics).streams


def _add_losses(curves: dict[str, Curve], record: dict[str, Any]) -> None:
    for stream, loss in record["losses"].items():
        curve = curves.setdefault(stream, Curve())
        points = curve.heldout if record["kind"] == "heldout" else curve.train
        if loss is not None:  # of a loss that was not finite
            points.append((float(record["step"]), float(loss)))
    for stream, loss in record.get("unigram", {}).items():
        if loss is not None:
            curves.setdefault(stream, Curve()).unigram = float(loss)


def running_mean(points: Points, window: int) -> Points:
    """Mean of up to ``window`` points that end at each point."""
    values = [value for _, value in points]
    means, total = [], 0.0
    for place, (step, value) in enumerate(points):
        total += value
        if place >= window:
            total -= values[place - window]
        means.append((step, total / min(window, place + 1)))
    return means


def quantile(points: Points, share: float) -> float:
    """Value below which a share of the points lies."""
    values = sorted(value for _, value in points)
    return values[min(len(values) - 1, math.floor(share * len(values)))]
