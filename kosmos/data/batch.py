"""Batch: the arrays of one micro-batch, ready for the model.

Arrays are numpy so that loading needs no torch; the training step makes tensors of them.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One micro-batch of one stream.

    ``targets[b, t]`` is the token that follows ``token_ids[b, t]`` and ``loss_weights[b, t]`` how
    much predicting it counts; rows are padded on the right with the pad id and weight 0.
    """

    stream: str
    """Name of the stream it was drawn from."""
    token_ids: np.ndarray
    """int64 [batch tokens]."""
    targets: np.ndarray
    """int64 [batch tokens]."""
    loss_weights: np.ndarray
    """float32 [batch tokens]."""
    positions: np.ndarray
    """int64 [batch tokens], counted from 0; they restart where sequences are isolated."""
    segments: np.ndarray | None
    """int64 [batch tokens], number of the sequence within the row, -1 on padding; tokens attend
    within their segment. None: plain causal attention, documents of a row see each other."""
    image_slots: np.ndarray
    """bool [batch tokens], true where a soft image token stands."""
    pixels: np.ndarray | None
    """float32 [images 3 height width], in the order of their slots, row by row; None if none."""
    document_ids: tuple[str, ...]
    """Ids of the documents in it, in order."""

    @property
    def num_tokens(self) -> int:
        """Positions that are not padding, image slots included."""
        return (
            int((self.token_ids != 1).sum())
            if self.segments is None
            else int((self.segments >= 0).sum())
        )

    @property
    def num_loss_tokens(self) -> float:
        """Sum of the loss weights."""
        return float(self.loss_weights.sum())
