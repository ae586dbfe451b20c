"""Seeking: what step 1,000,000 of a mixture of a hundred million samples holds, from nothing.

As a run that is resumed does it: open the index of every corpus, work the order out, and read the
tokens of the first row. A hundred corpora share one index of a million rows on disk, so that
opening and looking up are real and the disk is not full. Nobody to compare with: peers read on
until they are there, or start again at the first sample.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness.bench import SECONDS, Benchmark, Case, Setting, main
from benchmarks.harness.measure import DisagreementError, Target
from kosmos import config
from kosmos.data.config import Corpus, RowConfig, Stream
from kosmos.data.index import ARRAYS, Index, IndexKey, Row
from kosmos.data.order import MicroBatch, Order
from kosmos.data.packing import pack
from kosmos.document.layout import TRAINING
from kosmos.files import atomic_folder, write_json
from kosmos.runtime import generator

NUM_ROWS, STEP = 1_000_000, 1_000_000
SEQUENCES = {"text": 256, "captions": 6144, "interleaved": 128}
"""Of a step of KOSMOS-1."""
CORPORA = {"text": 20, "captions": 60, "interleaved": 20}
BENCHMARK = Benchmark(
    name="seek",
    title="seek",
    workload=f"step {STEP:,} of a mixture of {NUM_ROWS * sum(CORPORA.values()):,} samples",
    peer="",
    targets=[Target(name=SECONDS, bound=1.0, at_most=True)],
    size="small",
    rounds=7,
    on_cuda=False,
)


def prepare(setting: Setting) -> Case:
    """Every run opens everything anew; the page cache has the index, as after any first look."""
    folder = _index_folder(setting.args.work, setting.count(NUM_ROWS, 1000))
    streams = [
        Stream(
            name=name,
            corpora=tuple(
                Corpus(name=str(number), path="-", weight=1.0 + number % 3)
                for number in range(CORPORA[name])
            ),
            sequences_per_step=setting.count(sequences, sequences // 64),
            tokens_per_sequence=100.0,
        )
        for name, sequences in SEQUENCES.items()
    ]

    def seek(turn: int, step: int = STEP) -> tuple[list[MicroBatch], Row]:
        del turn
        indices = {stream.name: [Index(folder) for _ in stream.corpora] for stream in streams}
        order = Order(streams, indices, seed=setting.args.seed, micro_batch_tokens=16_384)
        parts = order.step(step)
        first = parts[0].sequences
        return parts, indices[parts[0].stream][first.corpora[0]].row(int(first.rows[0]))

    def check() -> dict[str, object]:
        places = [_places(seek(0, step)[0]) for step in (STEP, STEP, STEP + 1)]
        if places[0] != places[1]:
            raise DisagreementError(f"step {STEP}: expected the same samples twice, found others")
        if places[0] & places[2]:
            raise DisagreementError(f"step {STEP}: expected none of the next step's samples")
        expected = sum(stream.sequences_per_step for stream in streams)
        if len(places[0]) != expected:
            raise DisagreementError(f"step {STEP}: expected {expected} samples, found {places[0]}")
        return {"samples of the step": expected, "corpora": sum(CORPORA.values())}

    return Case(ours=partial(seek, step=STEP), peer=None, check=check)


def _places(parts: list[MicroBatch]) -> set[tuple[str, int, int]]:
    return {
        (part.stream, int(corpus), int(row))
        for part in parts
        for corpus, row in zip(part.sequences.corpora, part.sequences.rows, strict=True)
    }


def _index_folder(work: Path, num_rows: int) -> Path:
    """An index of captions, a row each, whose tokens are a hole in a file."""
    key = IndexKey(
        shards="",
        tokenizer="",
        num_cells=32,
        rows=RowConfig(layout=replace(TRAINING, ground=False)),
    )
    # whatever the folder follows from is in its name, so that a changed format is made anew
    folder = work / f"seek-{num_rows}-{config.digest(key)[:12]}"
    if folder.is_dir():
        return folder
    lengths = generator(0, "seek").integers(70, 120, num_rows)
    offsets = np.cumsum([0, *lengths.tolist()])
    none = np.empty(0, dtype=np.int64)
    rows = pack(offsets, none, packing="single", max_tokens=2048)
    arrays = {
        "numbers": np.arange(num_rows),
        "offsets": offsets,
        "ids": np.zeros(num_rows, dtype=np.uint8),
        "id_offsets": np.arange(num_rows + 1),
        "piece_documents": rows.documents,
        "piece_starts": rows.starts,
        "piece_stops": rows.stops,
        "piece_images": np.tile(np.array([0, 1]), (num_rows, 1)),
        "row_offsets": rows.offsets,
        "token_counts": np.zeros(2048, dtype=np.int64),
    }
    with atomic_folder(folder) as scratch:
        for name in ARRAYS:
            np.save(scratch / f"{name}.npy", arrays[name])
        with open(scratch / "tokens.bin", "wb") as file:
            file.truncate(4 * int(offsets[-1]))
        write_json(
            scratch / "index.json",
            {
                "made_by": config.to_json(key),
                "bos_id": 0,
                "num_documents": num_rows,
                "num_rows": num_rows,
                "num_tokens": int(offsets[-1]),
                "num_images": num_rows,
                "unusable": {},
                "dropped": {"tokens": 0},
                "num_cut": 0,
            },
        )
    return folder


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
