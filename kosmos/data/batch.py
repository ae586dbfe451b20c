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
    """Ids of the documents in it, in order, row by row."""
    documents: np.ndarray
    """int32 [batch tokens+1], which of them each token of a row is of, its last target included;
    -1 on padding. Nothing is computed with it: it says what a loss was measured on."""
    place: int = 0
    """Its number in the step, counted over all streams and whatever rank reads it; a filler has
    the place of what it copies."""
    needs_images: bool = False
    """Whether it, or what another rank reads in the same round, has pictures. Where it has none
    itself, the vision tower still runs, on a blank picture that goes nowhere: sharded weights are
    gathered by all ranks or by none."""
    is_filler: bool = False
    """Whether it is a copy with all loss weights 0, for a rank that would have nothing to do."""

    @property
    def num_tokens(self) -> int:
        """Positions that are not padding, image slots included; none of a filler's."""
        if self.is_filler:
            return 0
        return (
            int((self.token_ids != 1).sum())
            if self.segments is None
            else int((self.segments >= 0).sum())
        )

    @property
    def num_positions(self) -> int:
        """Positions that are computed: padding, and those of a filler, are among them."""
        return int(self.token_ids.size)

    @property
    def num_loss_tokens(self) -> float:
        """Sum of the loss weights."""
        return float(self.loss_weights.sum())
