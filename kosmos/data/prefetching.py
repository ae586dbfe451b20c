"""Reading ahead: the micro-batches of coming steps, by threads or by processes.

What is read next follows from the step alone, and is handed on in its order; how many read, and how
far ahead, changes no batch. The unit is the micro-batch, so that all of them work on the step that
is wanted first.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

from kosmos.data.batch import Batch
from kosmos.data.order import MicroBatch
from kosmos.data.reading import BatchReader


def read_ahead(
    parts_of_step: Callable[[int], Sequence[MicroBatch]],
    reader: BatchReader,
    start: int,
    stop: int,
    *,
    depth: int,
    num_workers: int,
) -> Generator[list[Batch], None, None]:
    """Batches of steps ``[start, stop)``, in order.

    Args:
        parts_of_step: The micro-batches of a step, none of them read.
        reader: Reads them.
        start: First step.
        stop: Past the last step.
        depth: Steps read ahead of the one in use.
        num_workers: Processes that read; 0: one thread of this one.

    Raises:
        DataError: What reading raised, at the step it is of; or a worker is dead.
    """
    assert depth >= 0
    assert num_workers >= 0
    pending: deque[list[Future[Batch]]] = deque()
    with ExitStack() as stack:
        read = _reading(reader, num_workers, stack)
        pool = ThreadPoolExecutor(max(1, num_workers), thread_name_prefix="loader")
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        for step in range(start, stop + depth):
            if step < stop:
                pending.append([pool.submit(read, part) for part in parts_of_step(step)])
            if step >= start + depth:
                yield [future.result() for future in pending.popleft()]


def _reading(
    reader: BatchReader, num_workers: int, stack: ExitStack
) -> Callable[[MicroBatch], Batch]:
    """What a thread calls to have a micro-batch read."""
    if num_workers == 0:
        return reader.read
    from kosmos.data.worker import Worker  # processes are the rarer choice

    idle: SimpleQueue[Worker] = SimpleQueue()
    for number in range(num_workers):
        worker = Worker(number, reader)
        stack.callback(worker.close)
        idle.put(worker)

    def read(part: MicroBatch) -> Batch:
        worker = idle.get()
        try:
            return worker.read(part)
        finally:
            idle.put(worker)

    return read
