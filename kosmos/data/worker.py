"""Worker: a process of its own that reads micro-batches for another.

Threads decode pictures side by side, but the Python between the pictures is one at a time, and is
taken from the training thread that must keep a GPU busy. A worker is a fresh Python, started by
``python -m kosmos.data.worker``, that gets a reader over a socket and then micro-batches::

    parent                               worker
    BatchReader           ------>        opens the shards and indices it names
    MicroBatch            ------>        reads it
    Batch without arrays  <------        and a file in memory with the arrays, which are not copied

Nothing is left behind, whoever dies first and however: the memory has no name, and a worker ends
when its socket does.
"""

import contextlib
import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import kosmos
from kosmos.data.batch import Batch
from kosmos.data.order import MicroBatch
from kosmos.data.reading import BatchReader
from kosmos.errors import DataError, KosmosError

_LENGTH = struct.Struct("<q")
_ALIGN = 64


class Worker:
    """A process that reads micro-batches, seen from the one that wants them.

    One thread at a time may use it.

    Args:
        number: By which messages call it.
        reader: What it reads with.
    """

    def __init__(self, number: int, reader: BatchReader) -> None:
        self.number = number
        self._socket, theirs = socket.socketpair()
        paths = [str(Path(kosmos.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kosmos.data.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is the parent's: it may want a few batches more
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        self._send(reader, "the reader")

    def read(self, part: MicroBatch) -> Batch:
        """The arrays of a micro-batch.

        Raises:
            DataError: What reading it raised, or that the process is dead.
        """
        what = f"micro-batch {part.place} of stream {part.stream!r}"
        self._send(part, what)
        try:
            answer, buffers = _receive(self._socket)
        except OSError as error:
            raise self._dead(what) from error
        found = pickle.loads(answer, buffers=buffers)
        if isinstance(found, KosmosError):
            raise found
        if isinstance(found, str):
            raise RuntimeError(f"loader worker {self.number}, {what}:\n{found}")
        assert isinstance(found, Batch)
        return found

    def close(self) -> None:
        """End the process: at once if it waits, after the micro-batch it is at if not."""
        self._socket.close()
        self.process.wait()

    def _send(self, value: BatchReader | MicroBatch, what: str) -> None:
        try:
            _send(self._socket, pickle.dumps(value))
        except OSError as error:
            raise self._dead(what) from error

    def _dead(self, what: str) -> DataError:
        self._socket.close()
        code = self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return DataError(
            f"loader worker {self.number} (process {self.process.pid}): expected {what}, found the "
            f"process ended by {how}",
            hint="SIGKILL is often the system out of memory: fewer train.loader_workers use less; "
            "0 reads in a thread",
        )


def main(file_number: int) -> None:
    """Read micro-batches until there is no one to read them for.

    Args:
        file_number: Of the socket to the parent.
    """
    with (
        socket.socket(fileno=file_number) as parent,
        contextlib.suppress(BrokenPipeError, ConnectionError),
    ):
        reader = pickle.loads(_receive(parent)[0])
        assert isinstance(reader, BatchReader)
        while True:
            part = pickle.loads(_receive(parent)[0])
            found: Batch | KosmosError | str
            try:
                found = reader.read(part)
            except KosmosError as error:
                found = error
            except Exception:  # the boundary of the process: the parent raises it
                found = traceback.format_exc()
            buffers: list[pickle.PickleBuffer] = []
            answer = pickle.dumps(found, protocol=5, buffer_callback=buffers.append)
            _send(parent, answer, [buffer.raw() for buffer in buffers])


def _send(to: socket.socket, message: bytes, buffers: list[memoryview] | None = None) -> None:
    """A message, and a file of memory that holds some buffers."""
    sizes = [buffer.nbytes for buffer in buffers or ()]
    head = pickle.dumps((len(message), sizes))
    to.sendall(_LENGTH.pack(len(head)) + head + message)
    if buffers:
        file = _memory_file()
        try:
            for buffer, start in zip(buffers, _starts(sizes), strict=True):
                os.lseek(file, start, os.SEEK_SET)
                while buffer:
                    buffer = buffer[os.write(file, buffer) :]  # noqa: PLW2901
            socket.send_fds(to, [b"."], [file])
        finally:
            os.close(file)


def _receive(source: socket.socket) -> tuple[bytes, list[memoryview]]:
    """What :func:`_send` sent."""
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    num_bytes, sizes = pickle.loads(_exactly(source, length))
    message = _exactly(source, num_bytes)
    if not sizes:
        return message, []
    data, files, _, _ = socket.recv_fds(source, 1, 1)
    if not data:
        raise ConnectionError("the other side is gone")
    starts = _starts(sizes)
    try:
        memory = memoryview(mmap.mmap(files[0], starts[-1] + max(1, sizes[-1])))
    finally:
        os.close(files[0])
    return message, [
        memory[start : start + size] for start, size in zip(starts, sizes, strict=True)
    ]


def _exactly(source: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(count - len(parts))
        if not part:
            raise ConnectionError("the other side is gone")
        parts += part
    return bytes(parts)


def _starts(sizes: list[int]) -> list[int]:
    """Where buffers stand in the memory, one after another."""
    starts, at = [], 0
    for size in sizes:
        starts.append(at)
        at += -(-size // _ALIGN) * _ALIGN
    return starts


def _memory_file() -> int:
    """A file without a name that is gone when nobody has it open.

    Not ``/dev/shm``: containers make that 64 MB small.
    """
    if sys.platform == "linux":
        return os.memfd_create("kosmos-batch")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


if __name__ == "__main__":
    main(int(sys.argv[1]))
