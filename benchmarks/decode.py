"""Decoding, batch 1: sixteen tokens of prompt, 64 new ones, float32.

What it costs the peer: every step concatenates a new tensor of keys and values in every layer, and
builds masks and positions again. The limit is reading all weights once for each token. The rate of
reading changes within seconds on a shared machine (33 and 60 GB/s were seen to take turns), so the
share of the limit is that of single tokens, the memory read between one and the next.
"""

import sys
import time
from itertools import pairwise
from statistics import fmean, median

import torch

from benchmarks.harness import agree, limits
from benchmarks.harness.bench import OF_LIMIT, RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import prompt_of
from benchmarks.harness.machine import READ_BYTES, Calibration, synchronize
from benchmarks.harness.measure import Target

NUM_TOKENS = 64
BENCHMARK = Benchmark(
    name="decode",
    title="decode, batch 1, fp32",
    workload=f"{NUM_TOKENS} new tokens",
    peer="HF generate",
    targets=[Target(name=RATIO, bound=1.1), Target(name=OF_LIMIT, bound=0.85)],
)


def prepare(setting: Setting) -> Case:
    """Words alone, so that nearly all of the time is decoding."""
    generator, peer = setting.generator(), setting.peer
    num_tokens = setting.count(NUM_TOKENS, 8)

    def text(turn: int) -> str:
        return prompt_of(generator.tokenizer, 16, turn)

    def check() -> dict[str, object]:
        reply = generator.generate(text(0), max_new_tokens=num_tokens, min_new_tokens=num_tokens)
        return agree.greedy(peer, [(None, text(0))], [reply], setting.args.dtype)

    def of_limit(_: object) -> dict[str, float]:
        return {OF_LIMIT: _share_of_limit(setting, text(0), num_tokens)}

    return Case(
        further=of_limit,
        ours=lambda turn: generator.generate(
            text(turn), max_new_tokens=num_tokens, min_new_tokens=num_tokens
        ),
        peer=lambda turn: peer.generate(agree.words(peer, text(turn)), num_tokens=num_tokens),
        check=check,
        limit_s=setting.limit_s(tokens=17, steps=num_tokens - 1),
        unit="tokens",
        count=num_tokens,
    )


def _share_of_limit(setting: Setting, text: str, num_tokens: int) -> float:
    """Seconds that a token must take, by what memory shows around it, over those that it takes."""
    generator, device = setting.generator(), setting.args.device
    numbers = torch.ones(READ_BYTES[torch.device(device).type] // 4, device=device)
    marks: list[tuple[float, float, float]] = []

    def read(*_: object) -> None:
        synchronize(device)
        end = time.perf_counter()
        numbers.sum()
        synchronize(device)
        start = time.perf_counter()
        marks.append((end, start - end, start))

    handle = generator.model.register_forward_pre_hook(read)
    generator.generate(text, max_new_tokens=num_tokens, min_new_tokens=num_tokens)
    handle.remove()
    shares = []
    for (_, read_s, start), (end, next_read_s, _) in pairwise(marks[1:]):  # after the prompt
        rate = numbers.nbytes / fmean((read_s, next_read_s))
        least_s = limits.decode_s(
            setting.config,
            Calibration(flops_per_s=float("inf"), bytes_per_s=rate),
            steps=1,
            past=17,
            weight_bytes=setting.weight_bytes,
        )
        shares.append(least_s / (end - start))
    return median(shares)


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
