"""Decoding, batch 8: eight prompts of unequal length, a photograph in each, 64 new tokens each.

What it costs the peer: prompts are padded to the longest, all positions go through the output
head's layer in the prompt, and keys and values are concatenated in every step. Its replies to
padded prompts are also wrong: cached steps take the padding for positions. So ours are compared
with the peer's replies to each prompt alone, over the first tokens.
"""

import sys

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import sentences
from benchmarks.harness.measure import Target
from kosmos.document.types import Document, Image, Text

NUM_PROMPTS, NUM_TOKENS, NUM_COMPARED = 8, 64, 8
BENCHMARK = Benchmark(
    name="decode_batch",
    title="decode, batch 8, fp32",
    workload=f"eight unequal prompts with photos, {NUM_TOKENS} new tokens",
    peer="HF generate, left-padded",
    targets=[Target(name=RATIO, bound=1.5)],
)


def prepare(setting: Setting) -> Case:
    """Prompts of 4 to 32 words."""
    generator, peer = setting.generator(), setting.peer
    num_tokens = setting.count(NUM_TOKENS, NUM_COMPARED)
    words = " ".join(sentences(64)).split()
    texts = [" ".join(words[index : index + 4 * (index + 1)]) for index in range(NUM_PROMPTS)]

    def docs(turn: int) -> list[Document]:
        photos = setting.photos.take(turn, NUM_PROMPTS)
        return [Document([Image(p), Text(t)]) for p, t in zip(photos, texts, strict=True)]

    def check() -> dict[str, object]:
        photos = setting.photos.take(0, NUM_PROMPTS)
        replies = generator.generate(
            docs(0), max_new_tokens=NUM_COMPARED, min_new_tokens=NUM_COMPARED
        )
        prompts = list(zip(photos, texts, strict=True))
        return agree.greedy(peer, prompts, replies, setting.args.dtype)

    def theirs(turn: int) -> object:
        inputs = peer.inputs(setting.photos.take(turn, NUM_PROMPTS), texts)
        return peer.generate(inputs, num_tokens=num_tokens)

    lengths = [len(generator.encode(doc)) for doc in docs(0)]
    mean = sum(lengths) // NUM_PROMPTS
    return Case(
        ours=lambda turn: generator.generate(
            docs(turn), max_new_tokens=num_tokens, min_new_tokens=num_tokens
        ),
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(
            tokens=mean,
            batch=NUM_PROMPTS,
            images=NUM_PROMPTS,
            steps=num_tokens - 1,
            rows=NUM_PROMPTS,
        ),
        unit="tokens",
        count=NUM_PROMPTS * num_tokens,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
