"""A training step on packed text: 8 layers of 512, 65k tokens, four rows of 512, float32.

Every position carries loss, so none of the head's work can be left out. What it costs the peer:
logits of all positions, normalized copies and gradients of them, each half a gigabyte. The memory
of a step is what two of them add to a process beside weights and moments.
"""

import sys
from functools import cache

import torch

from benchmarks.harness.bench import OF_LIMIT, RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.corpus import Shape, batches_of, full_row
from benchmarks.harness.machine import Calibration
from benchmarks.harness.measure import Target, Times
from benchmarks.harness.training import Ours, Theirs, same_steps
from kosmos.runtime import generator

NUM_ROWS, NUM_TOKENS = 4, 512
PEAK = "memory of a step ÷ peer's"
BENCHMARK = Benchmark(
    name="train_step",
    title="packed text step",
    workload=f"8 × 512, {NUM_ROWS} rows of {NUM_TOKENS}, 65k vocabulary, fp32",
    peer="HF forward, loss and backward, fused AdamW",
    targets=[
        Target(name=RATIO, bound=1.4),
        Target(name=OF_LIMIT, bound=0.75),
        Target(name=PEAK, bound=0.5, at_most=True),
    ],
    size="small",
    rounds=5,
    on_cuda=False,
    is_apart=True,
)


def prepare(setting: Setting) -> Case:
    """The same rows in every round; the weights go on from where they were."""
    num_tokens = setting.count(NUM_TOKENS, 64)
    rng = generator(setting.args.seed, "rows")
    shape = Shape(
        vocab_size=setting.vocab_size, num_slots=0, image_size=0, max_tokens=num_tokens + 1
    )
    rows = [full_row(rng, shape) for _ in range(NUM_ROWS)]
    batches = batches_of(rows, {}, stream="text", isolated=False, max_tokens=NUM_ROWS * num_tokens)
    (batch,) = batches
    input_ids, targets = torch.tensor(batch.token_ids), torch.tensor(batch.targets)
    # the rows are cut already: labels are what follows each position
    inputs = {"input_ids": input_ids, "labels": targets, "shift_labels": targets}

    @cache
    def ours() -> Ours:
        return Ours(setting.folder, vision=False)

    @cache
    def theirs() -> Theirs:
        return Theirs(setting.folder, vision=False)

    def check() -> dict[str, object]:
        return same_steps(
            lambda: ours().step(batches), lambda: theirs().step([inputs], targets.numel())
        )

    def limit_s(rates: Calibration) -> float:
        return sum(map(ours().objective.flops, batches)) / rates.flops_per_s

    def further(times: Times) -> dict[str, float]:
        del times
        trained = sum(parameter.numel() for parameter in ours().parameters)
        mine = setting.peak_bytes("ours") - 4 * 3 * trained
        other = setting.peak_bytes("peer") - 4 * (theirs().num_loaded + 2 * trained)
        return {PEAK: mine / other, "of a step, MB": mine / 1e6, "peer's, MB": other / 1e6}

    return Case(
        ours=lambda turn: ours().step(batches),
        peer=lambda turn: theirs().step([inputs], targets.numel()),
        check=check,
        limit_s=limit_s,
        further=further,
        unit="tokens",
        count=targets.numel(),
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
