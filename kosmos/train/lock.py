"""One training at a time in a run folder.

Processes may outlive what started them: torchrun that is killed leaves its workers writing. Another
training beside them would delete their half-written checkpoints and cut their lines out of
metrics.jsonl, so it is refused.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kosmos.errors import CheckpointError
from kosmos.train.parallel import ALONE, Processes

_log = logging.getLogger(__name__)


@contextmanager
def run_lock(folder: Path, processes: Processes = ALONE) -> Iterator[None]:
    """Hold a run folder while the block runs. The kernel lets go of it when the process ends.

    Args:
        folder: Of the run; made if it is not there.
        processes: Of the run; the first holds the folder for all.

    Raises:
        CheckpointError: In all processes, if another run of processes holds it.
    """
    descriptor = -1
    is_free = True
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        is_free = _lock(descriptor, folder)
    try:
        if not processes.first_of(is_free):
            raise CheckpointError(
                f"{folder}: expected no training under way there, found one",
                hint="wait for it or end it; its processes may have outlived what started them",
            )
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Whether nobody else holds the folder."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some file systems of networks know no locks
        _log.warning("%s: cannot be locked (%s); start no second training there", folder, error)
    return True
