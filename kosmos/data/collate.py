"""Rows of an index side by side in one Batch: shifted, weighted and padded on the right.

A row of n tokens takes n - 1 positions: its last token is a target and nothing follows it::

    row             <s>  a  b  </s>
    token_ids       <s>  a  b            loss falls on a target where the row says so
    targets          a   b  </s>
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from kosmos.data.batch import Batch
from kosmos.data.index import Row


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
