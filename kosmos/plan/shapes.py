"""Shapes: what micro-batches of a run look like, without their content.

Costs follow from shapes: operations, memory, time. They are stated by the run itself, or read off
the indices of its data (measure.py). Nothing here needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kosmos.data.config import Stream
from kosmos.train.config import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Means over the sequences of a stream or a corpus."""

    tokens: float
    """Positions, image slots included."""
    images: float
    """Pictures."""
    total_tokens: float = 0.0
    """Positions of all of them; 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A micro-batch without its content."""

    rows: int
    tokens: int
    """Positions of the longest row, to which the others are filled up."""
    real_tokens: int
    """Positions of all rows that are not padding."""
    pairs: int
    """Pairs of positions that attention compares: squares of the lengths of what attends to itself
    alone, added up."""
    loss_tokens: int
    """Positions whose prediction counts."""
    images: int

    @property
    def positions(self) -> int:
        """Positions that are computed."""
        return self.rows * self.tokens


Steps = Mapping[str, Sequence[Sequence[Shape]]]
"""Micro-batches of some steps, by stream; of every stream the same steps."""


def stated_shapes(run: Run, lengths: Mapping[str, Lengths]) -> dict[str, list[list[Shape]]]:
    """Micro-batches of one step whose rows are all of their stream's mean length."""
    return {
        stream.name: [_stated(run, stream, lengths[stream.name])] for stream in run.data.streams
    }


def _stated(run: Run, stream: Stream, lengths: Lengths) -> list[Shape]:
    tokens = max(1, round(lengths.tokens))
    rows = max(1, min(stream.sequences_per_step, run.data.micro_batch_tokens // tokens))
    left, shapes = stream.sequences_per_step, []
    while left > 0:
        rows = min(rows, left)
        # pictures are counted from the first row on, so that none is lost in rounding
        done = stream.sequences_per_step - left
        images = round((done + rows) * lengths.images) - round(done * lengths.images)
        # <image> and the slots are not predicted; </image> is not either
        silent = images * (run.data.layout.num_image_tokens + 2)
        shapes.append(
            Shape(
                rows=rows,
                tokens=tokens,
                real_tokens=rows * tokens,
                pairs=rows * tokens**2,
                loss_tokens=max(0, rows * tokens - silent),
                images=images,
            )
        )
        left -= rows
    return shapes
