"""Beam search with five beams: a caption of 32 tokens for one photograph.

What it costs the peer: the prompt is read once for each beam, and every step copies all keys and
values to their new order before it concatenates them.
"""

import sys

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.measure import Target
from kosmos.document.types import Document, Image, Text
from kosmos.text.prompts import CAPTION

NUM_BEAMS, NUM_TOKENS = 5, 32
BENCHMARK = Benchmark(
    name="beam",
    title="beam 5",
    workload=f"1 photo, {NUM_TOKENS} tokens",
    peer="HF generate",
    targets=[Target(name=RATIO, bound=1.5)],
)


def prepare(setting: Setting) -> Case:
    """A new photograph in every round."""
    generator, peer = setting.generator(), setting.peer
    num_tokens = setting.count(NUM_TOKENS, 8)

    def doc(turn: int) -> Document:
        return Document([Image(setting.photos.take(turn, 1)[0]), Text(CAPTION)])

    def ours(turn: int) -> object:
        return generator.generate(
            doc(turn), num_beams=NUM_BEAMS, max_new_tokens=num_tokens, min_new_tokens=num_tokens
        )

    def theirs(turn: int, **options: object) -> object:
        inputs = peer.inputs(setting.photos.take(turn, 1), [CAPTION])
        return peer.generate(inputs, num_tokens=num_tokens, num_beams=NUM_BEAMS, **options)

    def check() -> dict[str, object]:
        found = theirs(0, return_dict_in_generate=True, output_scores=True)
        return agree.beams(ours(0), found, num_tokens=num_tokens, dtype=setting.args.dtype)

    num_prompt = len(generator.encode(doc(0)))
    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(tokens=num_prompt, images=1, steps=num_tokens - 1, rows=NUM_BEAMS),
        unit="tokens",
        count=num_tokens,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
