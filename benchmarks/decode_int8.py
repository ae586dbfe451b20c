"""Decoding with int8 weights, batch 1: the same as ``decode``, the peer in float32.

A token reads a quarter of the bytes. Replies of rounded weights are other replies, so what is
compared is how likely each side's weights find the same words.
"""

import sys

from benchmarks.harness import agree, limits
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import prompt_of
from benchmarks.harness.measure import DisagreementError, Target

NUM_TOKENS = 64
MAX_NATS = 0.5
"""Mean difference of a token's log-probability that rounding to int8 may make."""
BENCHMARK = Benchmark(
    name="decode_int8",
    title="decode, batch 1, int8 weights",
    workload=f"{NUM_TOKENS} new tokens",
    peer="HF fp32 generate",
    targets=[Target(name=RATIO, bound=2.5)],
    on_cuda=False,
)


def prepare(setting: Setting) -> Case:
    """Words alone, as in ``decode``."""
    generator, peer = setting.generator("int8"), setting.peer
    num_tokens = setting.count(NUM_TOKENS, 8)

    def text(turn: int) -> str:
        return prompt_of(generator.tokenizer, 16, turn)

    def check() -> dict[str, object]:
        reply = generator.generate(text(0), max_new_tokens=num_tokens, min_new_tokens=num_tokens)
        if len(reply.token_ids) != num_tokens:
            raise DisagreementError(f"expected {num_tokens} tokens, found {len(reply.token_ids)}")
        (int8,) = generator.score(text(0), [text(1)])
        answer = generator.tokenizer.encode(text(1))
        exact = agree.log_prob(peer, generator.encode(text(0)).token_ids.tolist(), answer)
        difference = abs(int8.logprob - exact) / len(answer)
        if difference > MAX_NATS:
            raise DisagreementError(f"int8 weights: {difference:.3f} nats per token from float32")
        return {"nats per token from float32": round(difference, 5)}

    return Case(
        ours=lambda turn: generator.generate(
            text(turn), max_new_tokens=num_tokens, min_new_tokens=num_tokens
        ),
        peer=lambda turn: peer.generate(agree.words(peer, text(turn)), num_tokens=num_tokens),
        check=check,
        limit_s=lambda rates: (
            limits.read_s(generator.model.config, rates, tokens=17, weight_bytes=1)
            + limits.decode_s(
                generator.model.config, rates, steps=num_tokens - 1, past=17, weight_bytes=1
            )
        ),
        unit="tokens",
        count=num_tokens,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
