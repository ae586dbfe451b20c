"""Held-out losses of a run, beside what token frequencies alone would reach on the same data."""

from kosmos.data.loader import Loader
from kosmos.data.unigram import unigram_loss
from kosmos.train.config import Run
from kosmos.train.objectives import Objective
from kosmos.train.step import heldout_losses


class Heldout:
    """Measures the streams that have held-out data.

    Args:
        run: The run.
        loader: Of its data.
        objective: What is minimized.
    """

    def __init__(self, run: Run, loader: Loader, objective: Objective) -> None:
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
