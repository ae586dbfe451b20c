"""Held-out losses of a run, and where they were lowest.

Beside them stands what token frequencies alone would reach on the same data. Where they are lowest
matters to runs that keep that model and not the last.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from kosmos.data.batch import unigram_loss
from kosmos.train.config import Run
from kosmos.train.step import Objective, heldout_losses

if TYPE_CHECKING:
    from kosmos.data.loader import Loader


class Heldout:
    """Measures the streams that have held-out data.

    Args:
        run: The run.
        loader: Of its data.
        objective: What is minimized.
    """

    def __init__(self, run: Run, loader: "Loader", objective: Objective) -> None:
        self._loader = loader
        self._objective = objective
        self._has_unigram = run.train.objective == "next-token"
        self.unigram: dict[str, float] = {}
        """Losses of token frequencies, by stream; each is worked out once."""

    def measure(self) -> dict[str, float]:
        """Losses by stream, the same in every process; streams without held-out data have none."""
        losses: dict[str, float] = {}
        for name in self._loader.heldout_streams:
            batches = self._loader.heldout(name)
            losses |= heldout_losses(self._objective, batches)
            if self._has_unigram and name not in self.unigram:
                self.unigram[name] = unigram_loss(self._loader.token_counts(name), batches)
        return losses


@dataclass(frozen=True, slots=True)
class Best:
    """The lowest held-out loss so far; a checkpoint remembers it."""

    step: int = 0
    """Where; 0 before any step was measured."""
    loss: float | None = None
    """The mean over the streams that have held-out data, in nats; None before any."""
    before: float | None = None
    """The same before the first step, of a model that starts from another; None: not measured."""

    def after(self, step: int, losses: Mapping[str, float]) -> "Best":
        """The best when the losses of a step are known; what is not finite is never best."""
        loss = fmean(losses.values()) if losses else math.nan
        if step == 0:
            return Best(before=loss if math.isfinite(loss) else None)
        if not math.isfinite(loss) or (self.loss is not None and loss >= self.loss):
            return self
        return Best(step, loss, self.before)

    @property
    def is_worse_than_before(self) -> bool:
        """Whether no step came below the model that was started from."""
        return self.before is not None and self.loss is not None and self.loss >= self.before
