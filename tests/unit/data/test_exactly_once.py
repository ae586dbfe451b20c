"""Exactly once: what is read does not depend on who reads, how often they die, or how far ahead.

A run is read in stretches. Each ends with a kill, at which batches that were read ahead are lost,
and the next begins at some step with other ranks, other workers and another depth.
"""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos import config
from kosmos.config import replace
from kosmos.data.batch import Batch
from kosmos.data.config import Corpus, Stream
from kosmos.data.loader import Loader
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from tests.tiny_run import caption_document, page_document, text_document, write_shards

KINDS = {
    "text": (text_document, {"packing": "full-sentence", "line_tokens": True, "max_tokens": 64}),
    "captions": (caption_document, {"packing": "single", "max_tokens": 64}),
    "pages": (page_document, {"packing": "isolated", "max_tokens": 128}),
}
SIZES = (7, 12, 20)


class Stretch(NamedTuple):
    """A part of a run between two kills."""

    num_steps: int
    num_processes: int
    depth: int
    num_workers: int = 0
    num_lost: int = 0
    """Steps that were read and thrown away: a checkpoint came before them."""


class Mix(NamedTuple):
    """A stream of the mixture."""

    kind: str
    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    sequences_per_step: int


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Shards of every kind in every size."""
    root = tmp_path_factory.mktemp("folders")
    return {
        (kind, size): write_shards(root / f"{kind}-{size}", [make(n) for n in range(size)])
        for kind, (make, _) in KINDS.items()
        for size in SIZES
    }


def make_loader(
    mixes: Iterable[Mix],
    folders: dict[tuple[str, int], Path],
    run: Run,
    tokenizer: Tokenizer,
    cache_folder: Path,
    *,
    micro_batch_tokens: int = 128,
    skip: tuple[str, ...] = (),
) -> Loader:
    streams = [
        Stream(
            name=mix.kind,
            corpora=tuple(
                Corpus(name=f"of-{size}", path=str(folders[mix.kind, size]), weight=weight)
                for size, weight in zip(mix.sizes, mix.weights, strict=True)
            ),
            sequences_per_step=mix.sequences_per_step,
            tokens_per_sequence=30.0,
            **KINDS[mix.kind][1],  # type: ignore[arg-type]
        )
        for mix in mixes
    ]
    return Loader(
        replace(
            run.data,
            {
                "streams": tuple(streams),
                "micro_batch_tokens": micro_batch_tokens,
                "skip_steps": skip,
            },
        ),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )


def digest(batch: Batch) -> str:
    """Of all that a model sees of a batch."""
    told = hashlib.sha256()
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if field.name == "needs_images":  # of the round, which the number of ranks makes
            continue
        is_array = isinstance(value, np.ndarray)
        told.update(
            f"{field.name} {value.dtype, value.shape if is_array else ''}".encode()
            if is_array
            else f"{field.name} {value}".encode()
        )
        if is_array:
            told.update(np.ascontiguousarray(value).tobytes())
    return told.hexdigest()


def read_in_stretches(loader: Loader, stretches: Iterable[Stretch]) -> list[list[str]]:
    """Digests of each step's micro-batches, put together from those of all ranks."""
    steps: list[list[str]] = []
    for stretch in stretches:
        start, stop = len(steps), len(steps) + stretch.num_steps + stretch.num_lost
        parts: list[dict[int, str]] = [{} for _ in range(stretch.num_steps)]
        shapes = set()
        for rank in range(stretch.num_processes):
            ahead = loader.prefetch(
                start,
                stop + 5,
                rank=rank,
                num_processes=stretch.num_processes,
                depth=stretch.depth,
                num_workers=stretch.num_workers,
            )
            with closing(ahead):
                read = list(islice(ahead, stretch.num_steps + stretch.num_lost))
            shapes.add(tuple(tuple((b.stream, b.needs_images) for b in each) for each in read))
            for batches, part in zip(read[: stretch.num_steps], parts, strict=True):
                for batch in batches:
                    if batch.is_filler:
                        assert not batch.loss_weights.any()
                        continue
                    assert batch.place not in part
                    part[batch.place] = digest(batch)
        # all ranks make the same passes in the same order, or they wait for each other forever
        assert len(shapes) == 1
        for part in parts:
            assert sorted(part) == list(range(len(part)))
            steps.append([part[place] for place in range(len(part))])
    return steps


MIXES = st.lists(
    st.sampled_from(list(KINDS)).flatmap(
        lambda kind: st.lists(
            st.tuples(st.sampled_from(SIZES), st.integers(1, 5)),
            min_size=1,
            max_size=3,
            unique_by=lambda corpus: corpus[0],
        ).flatmap(
            lambda corpora: st.integers(1, 3).map(
                lambda count: Mix(kind, *zip(*corpora, strict=True), count)
            )
        )
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda mix: mix.kind,
)
STRETCHES = st.lists(
    st.builds(
        Stretch,
        num_steps=st.integers(1, 4),
        num_processes=st.integers(1, 5),
        depth=st.integers(0, 3),
        num_workers=st.just(0),
        num_lost=st.integers(0, 2),
    ),
    min_size=1,
    max_size=4,
)
SKIPS = st.lists(st.integers(1, 12), max_size=2).map(lambda steps: tuple(map(str, steps)))


@settings(max_examples=30)
@given(MIXES, STRETCHES, SKIPS, st.sampled_from([48, 128, 10**6]))
def test_ranks_kills_and_depth_change_no_bit_of_what_is_read(
    folders: dict[tuple[str, int], Path],
    run: Run,
    tokenizer: Tokenizer,
    cache_folder: Path,
    mixes: list[Mix],
    stretches: list[Stretch],
    skip: tuple[str, ...],
    micro_batch_tokens: int,
) -> None:
    loader = make_loader(
        mixes,
        folders,
        run,
        tokenizer,
        cache_folder,
        micro_batch_tokens=micro_batch_tokens,
        skip=skip,
    )
    steps = read_in_stretches(loader, stretches)
    assert steps == [[digest(b) for b in loader.step(step)] for step in range(len(steps))]


@settings(max_examples=30)
@given(MIXES, st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_within_an_epoch_nothing_is_read_twice_and_nothing_is_passed_over(
    folders: dict[tuple[str, int], Path],
    run: Run,
    tokenizer: Tokenizer,
    cache_folder: Path,
    mixes: list[Mix],
    ranks: list[int],
) -> None:
    loader = make_loader(mixes, folders, run, tokenizer, cache_folder)
    order = loader.order
    read: dict[tuple[str, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for step in range(40):
        num_processes = ranks[step % len(ranks)]
        for rank in range(num_processes):
            for part in order.step(step, rank=rank, num_processes=num_processes):
                rows = part.sequences
                for corpus, row, epoch in zip(rows.corpora, rows.rows, rows.epochs, strict=True):
                    if not part.is_filler:
                        read[part.stream, int(corpus)][int(epoch)].append(int(row))
    for (stream, corpus), epochs in read.items():
        *whole, last = (epochs[epoch] for epoch in range(len(epochs)))
        num_rows = order.indices[stream][corpus].num_rows
        assert all(sorted(rows) == list(range(num_rows)) for rows in whole)
        assert len(set(last)) == len(last)


WHOLE = [
    Mix("text", (7, 20), (1, 3), 3),
    Mix("captions", (12, 20), (2, 1), 5),
    Mix("pages", (12,), (1,), 2),
]


def test_the_number_of_workers_changes_no_bit_of_what_is_read(
    folders: dict[tuple[str, int], Path], run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    loader = make_loader(WHOLE, folders, run, tokenizer, cache_folder)
    stretches = [
        Stretch(num_steps=3, num_processes=1, depth=2, num_workers=3),
        Stretch(num_steps=2, num_processes=2, depth=1, num_workers=1, num_lost=1),
        Stretch(num_steps=1, num_processes=3, depth=0, num_workers=0),
        Stretch(num_steps=2, num_processes=1, depth=3, num_workers=2),
    ]
    steps = read_in_stretches(loader, stretches)
    assert steps == [[digest(b) for b in loader.step(step)] for step in range(8)]


READING = """
import json, sys
from kosmos.config import from_json, replace
from pathlib import Path
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.data.loader import Loader
from tests.unit.data.test_exactly_once import digest

file, cache, start, rank, num_processes, num_workers = sys.argv[1:]
run = from_json(Run, json.loads(Path(file).read_text()))
loader = Loader(
    replace(run.data, {"micro_batch_tokens": 128}),
    Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells),
    seed=run.seed,
    cache_folder=Path(cache),
)
start = int(start)
ahead = loader.prefetch(
    start, 10**6, rank=int(rank), num_processes=int(num_processes), num_workers=int(num_workers)
)
for step, batches in enumerate(ahead, start=start):
    parts = {batch.place: digest(batch) for batch in batches if not batch.is_filler}
    print(json.dumps([step, parts]), flush=True)
"""


def read_until_killed(
    arguments: tuple[str, ...],
    *,
    start: int,
    num_processes: int,
    num_workers: int,
    kill_after_s: float,
) -> list[dict[int, str]]:
    """The steps that all of some real processes had read when SIGKILL came, the first at least."""
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", READING, *arguments),
                *map(str, (start, rank, num_processes, num_workers)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        for rank in range(num_processes)
    ]
    lines = []
    for process in processes:
        assert process.stdout is not None
        lines.append([process.stdout.readline()])
    time.sleep(kill_after_s)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process, of_process in zip(processes, lines, strict=True):
        told, _ = process.communicate()
        # the last line may be torn
        of_process.extend(told.splitlines(keepends=True))
    steps: list[dict[int, str]] = []
    whole = [[line for line in of_process if line.endswith("\n")] for of_process in lines]
    for together in zip(*whole, strict=False):
        parts: dict[int, str] = {}
        for number, of_rank in map(json.loads, together):
            assert number == start + len(steps)
            assert not parts.keys() & {int(place) for place in of_rank}
            parts |= {int(place): told for place, told in of_rank.items()}
        steps.append(parts)
    return steps


@pytest.mark.slow
def test_processes_that_are_killed_and_started_again_in_other_numbers_read_the_same_stream(
    run: Run, tokenizer: Tokenizer, cache_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(config.to_json(run)))
    loader = Loader(
        replace(run.data, {"micro_batch_tokens": 128}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )
    rng = np.random.default_rng(0)
    read: list[dict[int, str]] = []
    for num_processes, num_workers in [(2, 0), (1, 2), (3, 0), (1, 0)]:
        found = read_until_killed(
            (str(file), str(cache_folder)),
            start=len(read),
            num_processes=num_processes,
            num_workers=num_workers,
            kill_after_s=float(rng.uniform(0.0, 0.2)),
        )
        # the last checkpoint is some steps back
        read += found[: int(rng.integers(1, len(found) + 1))]
    expected = [{b.place: digest(b) for b in loader.step(step)} for step in range(len(read))]
    assert read == expected
