"""Sides in processes of their own, each with memory as its users have it.

Importing kosmos asks Linux for pages of 2 MiB (kosmos/__init__.py), and whoever is in the same
process has them too: steps of Hugging Face's took 10% less time for it. So where fresh memory is a
part of the work, each side gets a process, the peer's with torch's own pages.

:func:`apart` starts the two, which do nothing while the other's time is taken, and :func:`serve` is
what they run: a number of a round comes in on stdin, the seconds of the step go out on stdout.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from benchmarks.harness.machine import synchronize
from benchmarks.harness.measure import Step
from benchmarks.harness.provenance import ROOT
from kosmos.runtime import peak_memory_bytes

_PAGES = "THP_MEM_ALLOC_ENABLE"
_MARK = "seconds: "


@contextmanager
def apart(name: str, words: Sequence[str], size: str) -> Iterator[tuple[Step, Step]]:
    """Ours and the peer; their steps give seconds.

    Args:
        name: Of the benchmark.
        words: Its command line.
        size: Of the model.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *words, "--size", size]
    command += ["--threads", str(torch.get_num_threads())]
    with (
        _side([*command, "--serve", "ours"], {}) as ours,
        _side([*command, "--serve", "peer"], {_PAGES: "0"}) as peer,
    ):
        yield ours, peer


@contextmanager
def _side(command: Sequence[str], environment: dict[str, str]) -> Iterator[Step]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked, told = process.stdin, process.stdout

    def step(turn: int) -> float:
        asked.write(f"{turn}\n")
        asked.flush()
        for line in told:
            if line.startswith(_MARK):
                return float(line.removeprefix(_MARK))
        raise RuntimeError(f"{' '.join(command[1:3])}: the process of one side ended")

    with process:
        try:
            yield step
        finally:
            asked.close()


def serve(step: Step, device: str) -> None:
    """Run a side whenever a round is asked for, until there are no more.

    Args:
        step: The side.
        device: What to wait for.
    """
    for line in sys.stdin:
        gc.collect()
        synchronize(device)
        began_s = time.perf_counter()
        step(int(line))
        synchronize(device)
        print(f"{_MARK}{time.perf_counter() - began_s}", flush=True)


def print_peak(step: Step) -> None:
    """Run a side twice and print by how much the process grew."""
    before = peak_memory_bytes()
    step(0)
    step(1)
    print(json.dumps({"bytes": peak_memory_bytes() - before}))
