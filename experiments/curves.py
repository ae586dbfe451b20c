"""Curves of a run, drawn from its metrics.jsonl: one panel for each stream.

Run ``python experiments/curves.py RUN/metrics.jsonl curves.png [--window 10]``. In a panel, thin is
the loss of each step, bold its running mean, dots are held-out losses and the dashed line is the
unigram baseline. Nothing but Pillow is needed, so that a log's picture can be made anywhere.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kosmos.card.curves import Curve, read_curves, running_mean

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 30, 26
COLUMNS = 4
INK, PALE, GRID, HELDOUT, BASELINE = "#1f3b6f", "#b9c8e4", "#e3e3e3", "#c2410c", "#6b7280"


def draw_curves(curves: dict[str, Curve], *, window: int = 10) -> Image.Image:
    """A sheet of panels.

    Args:
        curves: By stream.
        window: Steps of the running mean.
    """
    columns = min(COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    sheet = Image.new("RGB", (columns * WIDTH, rows * HEIGHT), "white")
    for place, (stream, curve) in enumerate(curves.items()):
        panel = _panel(stream, curve, window)
        sheet.paste(panel, (place % columns * WIDTH, place // columns * HEIGHT))
    return sheet


def _panel(stream: str, curve: Curve, window: int) -> Image.Image:
    # drawn at twice the size, because Pillow's lines are not smoothed
    image = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    values = [value for _, value in [*curve.train, *curve.heldout]]
    if curve.unigram is not None:
        values.append(curve.unigram)
    low, high = math.floor(min(values)), math.ceil(max(values))
    high = max(high, low + 1)
    last = max((step for step, _ in [*curve.train, *curve.heldout]), default=1.0)

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
        return 2 * x, 2 * y

    def line(points: Sequence[tuple[float, float]], color: str, width: int) -> None:
        if len(points) > 1:
            draw.line([place(*point) for point in points], fill=color, width=width, joint="curve")

    small, large = ImageFont.load_default(22), ImageFont.load_default(28)
    stride = max(1, math.ceil((high - low) / 6))
    for value in range(low, high + 1, stride):
        line([(0.0, value), (last, value)], GRID, 2)
        x, y = place(0.0, value)
        draw.text((x - 10, y), str(value), fill=BASELINE, font=small, anchor="rm")
    for step in (0.0, last / 2, last):
        x, y = place(step, low)
        anchor = {0.0: "lt", last: "rt"}.get(step, "mt")
        draw.text((x, y + 10), f"{step:.0f}", fill=BASELINE, font=small, anchor=anchor)
    line(curve.train, PALE, 2)
    line(running_mean(curve.train, window), INK, 5)
    title = stream
    if curve.unigram is not None:
        for start in range(0, 40, 2):
            part = [(last * (start + i) / 40, curve.unigram) for i in range(2)]
            line(part, BASELINE, 3)
    for x, y in (place(*point) for point in curve.heldout):
        draw.ellipse([x - 8, y - 8, x + 8, y + 8], fill=HELDOUT)
    if curve.heldout:
        title += f"   held out {curve.heldout[-1][1]:.2f}"
    if curve.unigram is not None:
        title += f"   unigram {curve.unigram:.2f}"
    draw.text((2 * LEFT, 16), title, fill="black", font=large)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def save_curves(metrics: Path, target: Path, *, window: int = 10) -> None:
    """Draw a run's curves into a small PNG.

    Args:
        metrics: A metrics.jsonl.
        target: The PNG.
        window: Steps of the running mean.
    """
    sheet = draw_curves(read_curves(metrics), window=window)
    # few colors are enough for lines, and a third of the bytes
    sheet.quantize(64, method=Image.Quantize.MAXCOVERAGE).save(target, optimize=True)


def main() -> None:
    """Draw a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--window", type=int, default=10, help="steps of the running mean")
    args = parser.parse_args()
    save_curves(args.metrics, args.target, window=args.window)


if __name__ == "__main__":
    main()
