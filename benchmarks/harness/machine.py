"""What a machine can do at best, measured in the run that it judges, and what it is.

Two numbers bound everything a transformer does: the rate of a large matrix product and the rate at
which memory far larger than any cache is read. Both are the best of a few tries, right before and
again right after each run that they are to bound.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import fmean

import torch

from kosmos.files import Json

GEMM_SIDE = {"cpu": 3072, "cuda": 8192}
READ_BYTES = {"cpu": 2**30, "cuda": 2**32}
TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The two rates that limits are computed from."""

    flops_per_s: float
    """Of a large matrix product in the type the model computes in; a multiply and add are two."""
    bytes_per_s: float
    """Read from an array far larger than the caches."""

    @classmethod
    def mean(cls, found: Sequence["Calibration"]) -> "Calibration":
        """What a machine shows on average, which is less than it shows at its best.

        Rates of a shared machine change within minutes by a factor of two (measured), so a limit
        means something only beside what was measured at its side.
        """
        return cls(
            flops_per_s=fmean(one.flops_per_s for one in found),
            bytes_per_s=fmean(one.bytes_per_s for one in found),
        )


def calibrate(device: str, dtype: str, *, share: float = 1.0) -> Calibration:
    """Measure both rates.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        dtype: Of the matrix product.
        share: Of the usual sizes, where seconds matter more than the last percent.
    """
    kind = torch.device(device).type
    side = max(256, int(GEMM_SIDE[kind] * share**0.5))
    one, other = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in "ab")
    product = _best_s(lambda: one @ other, device)
    count = max(2**25, int(READ_BYTES[kind] * share) // 4)
    numbers = torch.ones(count // 4096 * 4096, device=device)
    vector = torch.ones(4096, device=device)
    # a sum and a matrix times a vector both read everything once; which is faster depends
    read = min(
        _best_s(numbers.sum, device), _best_s(lambda: numbers.view(-1, 4096) @ vector, device)
    )
    return Calibration(flops_per_s=2 * side**3 / product, bytes_per_s=4 * numbers.numel() / read)


def _best_s(step: Callable[[], object], device: str) -> float:
    times = []
    for _ in range(TRIES):
        synchronize(device)
        start = time.perf_counter()
        step()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def synchronize(device: str) -> None:
    """Wait until a device has done what it was given; a CPU always has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def describe(device: str) -> dict[str, Json]:
    """The machine and the versions, for the record."""
    versions = {
        name: _version(name)
        for name in ("torch", "transformers", "lm_eval", "tokenizers", "pillow")
    }
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory("MemTotal"),
        "gpu": torch.cuda.get_device_name() if torch.device(device).type == "cuda" else None,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version for name, version in versions.items() if version},
    }


def free_memory_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    return _memory("MemAvailable")


def _memory(name: str) -> int | None:
    file = Path("/proc/meminfo")
    if not file.exists():
        return None
    fields = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(fields[name].split()[0]) * 1024


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
