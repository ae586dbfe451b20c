"""How much of what the machine could compute is put to use.

Model-FLOPs utilisation: operations that the model needs for what a step really held, over what the
devices could have done meanwhile. Padding, copies that keep processes in step, and what is computed
a second time are not needed, so they lower it.

What a device could do is what ``train.peak_flops`` says, else what its maker states, else, for
processors, what a product of two square matrices reaches here and now, measured again where a step
does more. Of a GPU that is not in the table nothing is known, nor of a step that did more than the
peak: the utilisation is null, and never above 1.
"""

import time

import torch

from kosmos.train.config import Precision

_PEAKS: dict[str, dict[Precision, float]] = {
    "GB200": {"bfloat16": 2.5e15, "float32": 80e12},
    "B200": {"bfloat16": 2.25e15, "float32": 75e12},
    "H200": {"bfloat16": 989e12, "float32": 67e12},
    "GH200": {"bfloat16": 989e12, "float32": 67e12},
    "H100 PCIe": {"bfloat16": 756e12, "float32": 51e12},
    "H100 NVL": {"bfloat16": 835e12, "float32": 60e12},
    "H100": {"bfloat16": 989e12, "float32": 67e12},
    "H800": {"bfloat16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float32": 19.5e12},
    "A800": {"bfloat16": 312e12, "float32": 19.5e12},
    "L40S": {"bfloat16": 362e12, "float32": 91.6e12},
    "L4": {"bfloat16": 121e12, "float32": 30.3e12},
    "A40": {"bfloat16": 150e12, "float32": 37.4e12},
    "A10": {"bfloat16": 125e12, "float32": 31.2e12},
    "RTX 4090": {"bfloat16": 165e12, "float32": 82.6e12},
    "RTX 3090": {"bfloat16": 71e12, "float32": 35.6e12},
}
"""Operations a second of dense products, from the makers' data sheets; float32 without TF32, which
torch leaves off. The first name that stands in a device's own is its."""

_SIDE = 1024
_TRIES = 3
_LONG_S = 0.3


def peak_flops_per_s(device: torch.device, precision: Precision, *, stated: float) -> float | None:
    """What one device could do at best; None if nobody knows.

    Args:
        device: Of this process.
        precision: In which products are computed.
        stated: What the user says; 0: nothing.
    """
    if stated > 0:
        return stated
    if device.type == "cpu":
        return product_flops_per_s(_SIDE, _SIDE, _SIDE, device=device, precision=precision)
    if device.type == "cuda":
        return known_peak(torch.cuda.get_device_name(device), precision)
    return None


def known_peak(name: str, precision: Precision) -> float | None:
    """What a maker states of a device; None of one that is not in the table."""
    words = f" {name.replace('-', ' ')} "
    found = [peaks for known, peaks in _PEAKS.items() if f" {known} " in words]
    # a card in a laptop bears the name of a larger one
    return found[0][precision] if found and "Laptop" not in words else None


def product_flops_per_s(
    rows: int, inner: int, columns: int, *, device: torch.device, precision: Precision
) -> float:
    """Rate of a matrix product, the best of a few.

    Args:
        rows: Of the first matrix.
        inner: Its columns.
        columns: Of the second matrix.
        device: Where it is computed.
        precision: Type of both.
    """
    dtype = getattr(torch, precision)
    # no random numbers: those of the run are not to be touched
    one = torch.linspace(-1.0, 1.0, rows * inner, device=device).view(rows, inner).to(dtype)
    other = torch.linspace(-1.0, 1.0, inner * columns, device=device).view(inner, columns).to(dtype)
    best_s = float("inf")
    for _ in range(_TRIES):
        began_s = time.perf_counter()
        torch.mm(one, other)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took_s = time.perf_counter() - began_s
        best_s = min(best_s, took_s)
        if took_s > _LONG_S:
            break
    return 2.0 * rows * inner * columns / best_s
