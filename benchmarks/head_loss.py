"""Output head and loss, forward and backward, where a quarter of the positions carry loss.

What it costs the peer: logits of all positions, a normalized copy of them and a gradient of the
same size, most of which is zeros. Peaks are what two runs add to processes of their own.
"""

import sys

import torch
import torch.nn.functional as F

from benchmarks.harness import agree
from benchmarks.harness.bench import OF_LIMIT, RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.machine import Calibration
from benchmarks.harness.measure import Target, Times
from benchmarks.harness.models import SIZES
from kosmos.model.loss import token_loss

NUM_TOKENS, SHARE = 2048, 0.25
PEAK = "peak ÷ peer's"
TOLERANCE = 1e-4
"""Of sums of float32 in another order, relative to the largest gradient."""
BENCHMARK = Benchmark(
    name="head_loss",
    title="head and loss",
    workload=f"{NUM_TOKENS:,} positions × 512, loss on {SHARE:.0%}, 65k vocabulary",
    peer="all logits, cross_entropy with ignore_index",
    targets=[
        Target(name=RATIO, bound=3.5),
        Target(name=OF_LIMIT, bound=0.8),
        Target(name=PEAK, bound=0.2, at_most=True),
    ],
    size="small",
    rounds=7,
    on_cuda=False,
    is_apart=True,
)


def prepare(setting: Setting) -> Case:
    """The same numbers in every round: no value changes what there is to do."""
    decoder = SIZES[setting.size].decoder
    num_tokens = setting.count(NUM_TOKENS, 128)
    rng = torch.Generator().manual_seed(setting.args.seed)
    hidden = torch.randn(num_tokens, decoder.width, generator=rng).requires_grad_()
    scale = decoder.width**-0.5
    head = (torch.randn(decoder.vocab_size, decoder.width, generator=rng) * scale).requires_grad_()
    targets = torch.randint(0, decoder.vocab_size, (num_tokens,), generator=rng)
    counts = torch.randperm(num_tokens, generator=rng) < int(SHARE * num_tokens)
    weights, ignored = counts.float(), targets.where(counts, -100)

    def ours(turn: int) -> torch.Tensor:
        del turn
        hidden.grad = head.grad = None
        loss = token_loss(hidden, head, targets, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def theirs(turn: int) -> torch.Tensor:
        del turn
        hidden.grad = head.grad = None
        loss = F.cross_entropy(F.linear(hidden, head), ignored, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def check() -> dict[str, object]:
        found = []
        for side in (ours, theirs):
            loss = side(0).detach()
            assert hidden.grad is not None
            assert head.grad is not None
            found.append((loss, hidden.grad, head.grad))
        names = ("loss", "gradient of the states", "gradient of the head")
        apart = [
            agree.tensors(one, other, name, TOLERANCE)
            for name, one, other in zip(names, *found, strict=True)
        ]
        return {"largest difference, relative": max(apart)}

    def limit_s(rates: Calibration) -> float:
        return 3 * 2 * int(counts.sum()) * decoder.width * decoder.vocab_size / rates.flops_per_s

    def further(times: Times) -> dict[str, float]:
        del times
        return {PEAK: setting.peak_bytes("ours") / setting.peak_bytes("peer")}

    return Case(ours=ours, peer=theirs, check=check, limit_s=limit_s, further=further)


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
