"""Best: where the held-out loss was lowest, for runs that keep that model and not the last."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean


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
