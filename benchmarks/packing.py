"""Packing: the lengths of ten million texts to the arrays of an index, isolated rows of 2,048.

The peer is what one writes in plain Python: documents in order, each a piece in the list of its
row, then arrays of the pieces. Both fill rows in order until the next document would overflow, and
give the same arrays. A peer that keeps four flat lists instead of rows of pieces is timed once
beside.
"""

import sys
import time
from itertools import chain

import numpy as np

from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.measure import DisagreementError, Target
from kosmos.data.packing import Rows, pack
from kosmos.runtime import generator

NUM_DOCUMENTS, MAX_TOKENS = 10_000_000, 2048
BENCHMARK = Benchmark(
    name="packing",
    title="packing",
    workload=f"{NUM_DOCUMENTS:,} lengths to an index",
    peer="plain Python, next fit",
    targets=[Target(name=RATIO, bound=50.0)],
    size="small",
    rounds=3,
    on_cuda=False,
)


def rows_of_pieces(lengths: np.ndarray) -> Rows:
    """Rows as lists of pieces, which arrays are made of at the end."""
    rows: list[list[tuple[int, int, int]]] = []
    row: list[tuple[int, int, int]] = []
    used = start = 0
    for document, length in enumerate(lengths.tolist()):
        if used + length > MAX_TOKENS:
            rows.append(row)
            row, used = [], 0
        row.append((document, start, start + length))
        start += length
        used += length
    rows.append(row)
    columns = [[piece[column] for piece in chain.from_iterable(rows)] for column in range(3)]
    return _arrays(*columns, np.cumsum([0, *map(len, rows)]))


def flat_lists(lengths: np.ndarray) -> Rows:
    """The same without rows: a list for each array."""
    documents, starts, stops, offsets = [], [], [], [0]
    used = start = 0
    for document, length in enumerate(lengths.tolist()):
        if used + length > MAX_TOKENS:
            offsets.append(document)
            used = 0
        documents.append(document)
        starts.append(start)
        start += length
        used += length
        stops.append(start)
    offsets.append(len(lengths))
    return _arrays(documents, starts, stops, offsets)


def ours(lengths: np.ndarray) -> Rows:
    """As an index does it."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    none = np.empty(0, dtype=np.int64)
    return pack(offsets, none, packing="isolated", max_tokens=MAX_TOKENS)


def prepare(setting: Setting) -> Case:
    """Lengths of texts: 500 tokens in the mean, many short and few long."""
    count = setting.count(NUM_DOCUMENTS, 300_000)
    drawn = generator(setting.args.seed, "lengths").lognormal(5.8, 1.0, count)
    lengths = np.clip(drawn.astype(np.int64), 2, MAX_TOKENS)

    def check() -> dict[str, object]:
        found, expected = ours(lengths), rows_of_pieces(lengths)
        start = time.perf_counter()
        other = flat_lists(lengths)
        flat_s = time.perf_counter() - start
        for name, one, theirs, flat in zip(Rows._fields, found, expected, other, strict=True):
            if not (np.array_equal(one, theirs) and np.array_equal(one, flat)):
                raise DisagreementError(f"{name}: expected the peer's")
        return {
            "rows": len(found.offsets) - 1,
            "share of the rows filled": round(lengths.sum() / MAX_TOKENS / (len(found[3]) - 1), 3),
            "flat lists, s": round(flat_s, 2),
        }

    return Case(
        ours=lambda turn: ours(lengths),
        peer=lambda turn: rows_of_pieces(lengths),
        check=check,
        unit="documents",
        count=count,
    )


def _arrays(*columns: object) -> Rows:
    return Rows(*(np.array(column, dtype=np.int64) for column in columns))


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
