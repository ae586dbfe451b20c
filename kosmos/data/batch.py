"""Batch: the arrays of one micro-batch, ready for the model.

Arrays are numpy so that loading needs no torch; the training step makes tensors of them.

- :func:`collate` puts rows of an index side by side: shifted, weighted and padded on the right
- :func:`unigram_loss` is what a model must beat to have learned more than token frequencies

A row of n tokens takes n - 1 positions: its last token is a target and nothing follows it::

    row             <s>  a  b  </s>
    token_ids       <s>  a  b            loss falls on a target where the row says so
    targets          a   b  </s>
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Real

from kosmos.data.index import Row


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


def collate(
    rows: Sequence[Row],
    *,
    stream: str,
    document_ids: tuple[str, ...],
    pixels: Float32[np.ndarray, "images 3 height width"] | None,
    isolated: bool,
    pad_id: int,
) -> Batch:
    """Put rows side by side.

    Args:
        rows: At least one.
        stream: Name of the stream.
        document_ids: Of the documents in the rows, in order.
        pixels: The pictures of the rows, in order; None if there are none.
        isolated: Whether documents of a row see each other not, and positions restart in each.
        pad_id: Id that fills rows up.
    """
    shape = (len(rows), max(len(row.token_ids) for row in rows) - 1)
    token_ids = np.full(shape, pad_id, dtype=np.int64)
    targets = np.full(shape, pad_id, dtype=np.int64)
    loss_weights = np.zeros(shape, dtype=np.float32)
    image_slots = np.zeros(shape, dtype=np.bool_)
    positions = np.tile(np.arange(shape[1], dtype=np.int64), (shape[0], 1))
    segments = np.full(shape, -1, dtype=np.int64) if isolated else None
    documents = np.full((shape[0], shape[1] + 1), -1, dtype=np.int32)
    num_documents = 0
    for place, row in enumerate(rows):
        used = len(row.token_ids) - 1
        token_ids[place, :used] = row.token_ids[:-1]
        targets[place, :used] = row.token_ids[1:]
        loss_weights[place, :used] = row.loss_mask[1:]
        image_slots[place, :used] = row.image_slots[:-1]
        documents[place, : used + 1] = num_documents + row.segments
        num_documents += len(row.documents)
        if segments is not None:
            segments[place, :used] = row.segments[:-1]
            starts = np.searchsorted(row.segments, row.segments[:-1])
            positions[place, :used] -= starts
    return Batch(
        stream=stream,
        token_ids=token_ids,
        targets=targets,
        loss_weights=loss_weights,
        positions=positions,
        segments=segments,
        image_slots=image_slots,
        pixels=pixels,
        document_ids=document_ids,
        documents=documents,
    )


def unigram_loss(token_counts: Real[np.ndarray, " vocab"], batches: Sequence[Batch]) -> float:
    """Mean negative log-likelihood, in nats, of the tokens of some batches on which loss falls.

    Args:
        token_counts: How often loss falls on each token in training; one is added to each, so
            that a token never seen has a probability.
        batches: Held-out batches of the same stream.
    """
    counts = token_counts + 1.0
    surprise = np.log(counts.sum()) - np.log(counts)
    total = sum(float((surprise[batch.targets] * batch.loss_weights).sum()) for batch in batches)
    return total / sum(batch.num_loss_tokens for batch in batches)
