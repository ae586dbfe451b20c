"""Output head and loss: ours against all logits at once, and both against the GEMM rate.

Run ``python benchmarks/head_loss.py [--vocab 65037] [--width 512] [--tokens 2048] [--share 0.25]``.
Forward and backward alternate in one process; peak memory is taken in a fresh process each.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from kosmos.model.loss import token_loss
from kosmos.runtime import peak_memory_bytes


def _steps(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Both ways to compute the same gradients."""
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(args.tokens, args.width, generator=rng).requires_grad_()
    head = (torch.randn(args.vocab, args.width, generator=rng) * args.width**-0.5).requires_grad_()
    targets = torch.randint(0, args.vocab, (args.tokens,), generator=rng)
    weights = (torch.rand(args.tokens, generator=rng) < args.share).float()
    ignored = torch.where(weights > 0, targets, -100)

    def clear() -> None:
        hidden.grad = head.grad = None

    def ours() -> None:
        clear()
        token_loss(hidden, head, targets, weights).backward()

    def all_logits() -> None:
        clear()
        F.cross_entropy(F.linear(hidden, head), ignored, reduction="sum").backward()

    return {"ours": ours, "all logits": all_logits}


def _limit_s(args: argparse.Namespace) -> float:
    """Time of the three products of the chosen rows at the rate of a large product."""
    square = torch.randn(1536, 1536)
    best = min(_time_s(lambda: square @ square) for _ in range(10))
    operations = 3 * 2 * args.share * args.tokens * args.width * args.vocab
    return operations * best / (2 * 1536**3)


def _time_s(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _peak_mib(name: str) -> float:
    """Peak memory a way adds to its inputs, in a process of its own."""
    command = [sys.executable, *sys.argv, "--peak-of", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=65_037)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--share", type=float, default=0.25, help="of positions carrying loss")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    steps = _steps(args)
    if args.peak_of:
        before = peak_memory_bytes()
        steps[args.peak_of]()
        print((peak_memory_bytes() - before) / 2**20)
        return
    # first of all: a child's peak starts from its parent's size
    peaks = {name: _peak_mib(name) for name in steps}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            times[name].append(_time_s(step))
    limit = _limit_s(args)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        spread = f"{min(times[name][1:]):.3f}-{max(times[name][1:]):.3f}"
        print(
            f"{name:>10}: {median:.3f} s ({spread}), {median / limit:.1f}x the GEMM limit, "
            f"peak {peaks[name]:.0f} MiB"
        )
    print(f"     ratio: {medians['all logits'] / medians['ours']:.1f}x")


if __name__ == "__main__":
    main()
