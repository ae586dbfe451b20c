"""What a process needs to know of where it runs: extras, seeds, memory.

Nothing here imports torch, so that commands that do not need it start at once.
"""

import hashlib
import importlib
import multiprocessing
import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np

from kosmos.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: Name to import.
        extra: The extra of this distribution that installs it.

    Raises:
        MissingExtraError: With the install line, if it is not there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module}: expected to be installed, found {error}",
            hint=f"pip install 'openkosmos[{extra}]'",
        ) from error


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """A random generator that is a pure function of a seed and the names it is asked for.

    Two uses with different keys are independent; adding a use changes no other.
    """
    text = "/".join([str(seed), *map(str, keys)])
    # a file name that is not UTF-8 is a key too
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    entropy = int.from_bytes(digest[:16], "little")
    return np.random.Generator(np.random.PCG64(entropy))


def end_with_parent() -> None:
    """Let this worker process end when the one that started it does, even if that was killed.

    A pool's workers hold its pipes open for each other, and would wait for work for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():
        # not getrusage: its peak survives exec, so that a child begins with its parent's
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
