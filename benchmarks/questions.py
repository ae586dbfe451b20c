"""Ten questions about one photograph, ten tokens of answer each.

What it costs the peer: the picture is encoded and its 64 slots are read again for every question,
and each answer is decoded alone, reading all weights for one token.
"""

import sys

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import QUESTIONS
from benchmarks.harness.measure import Target
from kosmos.document.types import Document, Image, Text
from kosmos.text.prompts import question

NUM_TOKENS = 10
BENCHMARK = Benchmark(
    name="questions",
    title="ten questions about one photo",
    workload=f"{len(QUESTIONS)} questions, {NUM_TOKENS} tokens each",
    peer="HF, one call each",
    targets=[Target(name=RATIO, bound=3.0)],
)


def prepare(setting: Setting) -> Case:
    """A new photograph in every round, the same for all questions."""
    generator, peer = setting.generator(), setting.peer
    num_tokens = setting.count(NUM_TOKENS, 4)
    texts = [question(text) for text in QUESTIONS]

    def docs(turn: int) -> list[Document]:
        (photo,) = setting.photos.take(turn, 1)
        return [Document([Image(photo), Text(text)]) for text in texts]

    def ours(turn: int) -> list[object]:
        return list(
            generator.generate(docs(turn), max_new_tokens=num_tokens, min_new_tokens=num_tokens)
        )

    def theirs(turn: int) -> object:
        photos = setting.photos.take(turn, 1)
        return [peer.generate(peer.inputs(photos, [t]), num_tokens=num_tokens) for t in texts]

    def check() -> dict[str, object]:
        (photo,) = setting.photos.take(0, 1)
        return agree.greedy(peer, [(photo, t) for t in texts], ours(0), setting.args.dtype)

    lengths = [len(generator.encode(doc)) for doc in docs(0)]
    shared = generator.layout.num_image_tokens + 3
    mean = sum(lengths) // len(lengths)
    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(
            tokens=shared + sum(lengths) - shared * len(lengths),
            images=1,
            head_tokens=len(lengths),
            steps=num_tokens - 1,
            rows=len(lengths),
            past=mean,
        ),
        unit="answers",
        count=len(texts),
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
