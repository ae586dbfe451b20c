"""Decoding, batch 1: sixteen tokens of prompt, 64 new ones, float32.

What it costs the peer: every step concatenates a new tensor of keys and values in every layer, and
builds masks and positions again. The limit is reading all weights once for each token.
"""

import sys

from benchmarks.harness import agree, limits
from benchmarks.harness.bench import OF_LIMIT, RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import prompt_of
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

    return Case(
        ours=lambda turn: generator.generate(
            text(turn), max_new_tokens=num_tokens, min_new_tokens=num_tokens
        ),
        peer=lambda turn: peer.generate(agree.words(peer, text(turn)), num_tokens=num_tokens),
        check=check,
        limit_s=lambda rates: (
            limits.read_s(setting.config, rates, tokens=17, weight_bytes=setting.weight_bytes)
            + limits.decode_s(
                setting.config,
                rates,
                steps=num_tokens - 1,
                past=17,
                weight_bytes=setting.weight_bytes,
            )
        ),
        unit="tokens",
        count=num_tokens,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
