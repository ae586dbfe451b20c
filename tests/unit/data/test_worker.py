"""kosmos.data.worker and kosmos.data.prefetching."""

import dataclasses
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kosmos.config import replace
from kosmos.data.loader import Loader
from kosmos.data.order import MicroBatch
from kosmos.data.worker import Worker
from kosmos.errors import DataError, ImageError
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from tests.tiny_run import caption_document, write_shards


def make_loader(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> Loader:
    return Loader(
        replace(run.data, {"micro_batch_tokens": 128}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )


@pytest.fixture(scope="module")
def loader(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> Loader:
    return make_loader(run, tokenizer, cache_folder)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def child_processes() -> set[int]:
    task = Path("/proc/self/task")
    if not task.exists():
        pytest.skip("needs /proc")
    return {
        int(pid) for thread in task.iterdir() for pid in (thread / "children").read_text().split()
    }


def part_with_images(loader: Loader) -> MicroBatch:
    return next(part for part in loader.order.step(0) if part.needs_images)


def test_a_worker_reads_the_same_arrays_which_may_be_written_to(loader: Loader) -> None:
    worker = Worker(0, loader._train)
    for part in loader.order.step(4):
        ours, theirs = loader._train.read(part), worker.read(part)
        assert theirs.document_ids == ours.document_ids
        assert np.array_equal(theirs.token_ids, ours.token_ids)
        assert (theirs.pixels is None) == (ours.pixels is None)
        if theirs.pixels is not None:
            assert np.array_equal(theirs.pixels, ours.pixels)
            theirs.pixels[:] = 1.0
        assert theirs.loss_weights.flags.writeable
    worker.close()


def test_a_closed_worker_is_gone(loader: Loader) -> None:
    worker = Worker(0, loader._train)
    worker.close()
    assert worker.process.returncode == 0


def test_ctrl_c_does_not_reach_a_worker_at_any_moment_of_its_life(loader: Loader) -> None:
    worker = Worker(0, loader._train)
    # a terminal interrupts the group in its foreground
    assert os.getpgid(worker.process.pid) != os.getpgid(0)
    worker.close()


@pytest.mark.parametrize("when", ["before it answers", "between two micro-batches"])
def test_a_dead_worker_is_an_error_that_names_it(loader: Loader, when: str) -> None:
    worker = Worker(7, loader._train)
    part = part_with_images(loader)
    if when == "between two micro-batches":
        worker.read(part)
    worker.process.kill()
    if when == "between two micro-batches":
        worker.process.wait()
    with pytest.raises(DataError, match=r"loader worker 7 \(process \d+\): expected") as error:
        worker.read(part)
    assert "ended by signal SIGKILL" in error.value.message
    assert "train.loader_workers" in str(error.value.hint)
    worker.close()


def test_a_dead_worker_ends_reading_ahead_and_the_others(loader: Loader) -> None:
    before = child_processes()
    batches = loader.prefetch(0, 1000, num_workers=3)
    next(batches)
    workers = child_processes() - before
    assert len(workers) == 3
    os.kill(min(workers), signal.SIGKILL)
    with pytest.raises(DataError, match=r"loader worker \d \(process"):
        for _ in batches:
            pass
    assert child_processes() == before


def test_reading_ahead_that_is_closed_leaves_no_process_and_no_thread(loader: Loader) -> None:
    before = child_processes()
    batches = loader.prefetch(0, 1000, num_workers=2)
    next(batches)
    batches.close()
    assert child_processes() == before
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_what_reading_raises_is_raised_at_its_step(
    run: Run, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = write_shards(tmp_path / "captions", [caption_document(n) for n in range(8)])
    stream = next(stream for stream in run.data.streams if stream.name == "captions")
    stream = dataclasses.replace(stream, path=str(folder), heldout_path="")
    damaged = replace(run, {"streams": (stream,)})
    loader = make_loader(damaged, tokenizer, tmp_path / "index")
    shard = folder / "00000.tar"
    data = bytearray(shard.read_bytes())
    while (at := data.find(b"IHDR")) >= 0:
        data[at : at + 8] = b"rubbish!"
    shard.write_bytes(bytes(data))
    for num_workers in (0, 1):
        with pytest.raises(
            ImageError, match=r"stream 'captions', document 'caption-\d'.*, image 0"
        ):
            next(loader.prefetch(0, 4, num_workers=num_workers))


READING = """
import pickle, signal, sys
from kosmos.data.worker import Worker

# a shell's background job ignores Ctrl-C, and so does what it starts
signal.signal(signal.SIGINT, signal.default_int_handler)
reader, part = pickle.load(open(sys.argv[1], "rb"))
workers = [Worker(number, reader) for number in range(2)]
for worker in workers:
    worker.read(part)
print(*(worker.process.pid for worker in workers), flush=True)
while True:
    for worker in workers:
        worker.read(part)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_however_it_ends(
    loader: Loader, tmp_path: Path, how: signal.Signals
) -> None:
    file = tmp_path / "reader.pickle"
    file.write_bytes(pickle.dumps((loader._train, part_with_images(loader))))
    parent = subprocess.Popen(
        [sys.executable, "-c", READING, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    # Ctrl-C reaches all processes of a terminal, SIGKILL one
    os.killpg(parent.pid, how) if how == signal.SIGINT else parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline_s = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_worker_without_a_parent_ends_quietly() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "kosmos.data.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
    ours.close()
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, b"")
