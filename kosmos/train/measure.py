"""Lengths of a run's corpora as the indices of its data measured them."""

from pathlib import Path

from kosmos.data.index import Index
from kosmos.data.indexing import index_folder, index_key
from kosmos.document.shards import ShardReader
from kosmos.errors import DataError
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.plan import Lengths


def measured_lengths(run: Run, cache_folder: Path) -> dict[str, Lengths]:
    """Lengths of the corpora that have an index, by name: ``text/wikipedia``.

    Args:
        run: Its streams name their data.
        cache_folder: Where indices are kept; none is made.

    Raises:
        DataError: If there is no index for any stream.
    """
    tokenizer = Tokenizer.load(run.tokenizer, num_cells=run.num_cells)
    lengths = {}
    for stream in run.streams:
        for corpus in stream.sources:
            if not corpus.path:
                continue
            reader = ShardReader(corpus.path)
            key = index_key(stream, reader, tokenizer, layout=run.layout, image=run.image)
            folder = index_folder(cache_folder, key)
            if folder.is_dir():
                index = Index(folder)
                lengths[stream.source_name(corpus)] = Lengths(
                    tokens=index.num_positions / index.num_rows,
                    images=index.num_images / index.num_rows,
                    total_tokens=index.num_positions,
                )
    if not lengths:
        raise DataError(
            f"{cache_folder}: expected the index of one of the run's streams, found none",
            hint="kosmos train makes them in OUT/index",
        )
    return lengths
