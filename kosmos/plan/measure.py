"""What the indices of a run's data say of it: lengths of corpora, shapes of micro-batches."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kosmos.config import digest
from kosmos.data.config import skipped_steps
from kosmos.data.index import Index
from kosmos.data.indexing import folder_of_index, index_key
from kosmos.data.order import MicroBatch, Order
from kosmos.document.shards import ShardReader
from kosmos.errors import DataError
from kosmos.plan.shapes import Lengths, Shape
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run

NUM_STEPS = 16
"""Steps whose micro-batches are looked at, spread over the run."""


def indices_of(run: Run, cache_folder: Path) -> dict[str, Index]:
    """The indices that are there, by name of the corpus: ``text/wikipedia``; none is made.

    Raises:
        DataError: If there is no index for any stream.
    """
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    indices = {}
    for stream in run.data.streams:
        for corpus in stream.sources:
            if not corpus.path:
                continue
            reader = ShardReader(corpus.path)
            key = index_key(reader, tokenizer, run.data.rows(stream))
            folder = folder_of_index(cache_folder, digest(key))
            if folder.is_dir():
                indices[stream.source_name(corpus)] = Index(folder)
    if not indices:
        raise DataError(
            f"{cache_folder}: expected the index of one of the run's streams, found none",
            hint="kosmos train makes them; --index RUN finds those of a run",
        )
    return indices


def measured_lengths(indices: Mapping[str, Index]) -> dict[str, Lengths]:
    """Lengths of corpora, by name."""
    return {
        name: Lengths(
            tokens=index.num_positions / index.num_rows,
            images=index.num_images / index.num_rows,
            total_tokens=index.num_positions,
        )
        for name, index in indices.items()
    }


def measured_shapes(run: Run, indices: Mapping[str, Index]) -> dict[str, list[list[Shape]]] | None:
    """Micro-batches of some steps, by stream; None unless every corpus has its index."""
    of_streams: dict[str, list[Index]] = {}
    for stream in run.data.streams:
        names = [stream.source_name(corpus) for corpus in stream.sources]
        if not all(name in indices for name in names):
            return None
        of_streams[stream.name] = [indices[name] for name in names]
    order = Order(
        run.data.streams,
        of_streams,
        seed=run.seed,
        micro_batch_tokens=run.data.micro_batch_tokens,
        skipped=skipped_steps(run.data.skip_steps),
    )
    isolated = {stream.name: stream.packing == "isolated" for stream in run.data.streams}
    steps = sorted({run.train.steps * part // NUM_STEPS for part in range(NUM_STEPS)})
    shapes: dict[str, list[list[Shape]]] = {name: [] for name in of_streams}
    for step in steps:
        for of_stream in shapes.values():
            of_stream.append([])
        for part in order.step(step):
            shape = _shape(part, of_streams[part.stream], isolated=isolated[part.stream])
            shapes[part.stream][-1].append(shape)
    return shapes


def _shape(part: MicroBatch, indices: list[Index], *, isolated: bool) -> Shape:
    lengths, pairs, losses, images = [], 0, 0, 0
    numbers = (part.sequences.corpora.tolist(), part.sequences.rows.tolist())
    for corpus, number in zip(*numbers, strict=True):
        row = indices[corpus].row(number)
        used = len(row.token_ids) - 1  # the last token is a target and takes no position
        alone = np.bincount(row.segments[:used]) if isolated else np.array([used])
        lengths.append(used)
        pairs += int((alone**2).sum())
        losses += int(row.loss_mask[1:].sum())
        images += len(row.images)
    return Shape(
        rows=len(lengths),
        tokens=max(lengths),
        real_tokens=sum(lengths),
        pairs=pairs,
        loss_tokens=losses,
        images=images,
    )
