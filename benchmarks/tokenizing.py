"""Tokenizing: a thousand texts to ids, half of them with phrases and boxes.

What it costs the peer: a regular expression over every text before the tokenizer, a search of all
added tokens in it, and an attention mask and offsets that nobody asked for.
"""

import sys

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import captions
from benchmarks.harness.measure import Target

NUM_TEXTS = 1000
BENCHMARK = Benchmark(
    name="tokenizing",
    title="tokenizing",
    workload=f"{NUM_TEXTS:,} texts, half with boxes",
    peer="HF processor",
    targets=[Target(name=RATIO, bound=5.0)],
    size="medium",
    rounds=7,
    on_cuda=False,
)


def prepare(setting: Setting) -> Case:
    """The ids of a document of one text, ``<s>`` included."""
    tokenizer, processor = setting.generator().tokenizer, setting.peer.processor
    texts = captions(setting.count(NUM_TEXTS, 100))
    bos = tokenizer.vocabulary.bos_id

    def ours(turn: int) -> list[list[int]]:
        del turn
        return [[bos, *row] for row in map(tokenizer.encode_markup, texts)]

    def theirs(turn: int) -> list[list[int]]:
        del turn
        rows: list[list[int]] = processor(text=texts)["input_ids"]
        return rows

    def check() -> dict[str, object]:
        agree.rows(ours(0), theirs(0), "text")
        return {"tokens": sum(map(len, ours(0)))}

    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        unit="tokens",
        count=sum(map(len, ours(0))),
        loops=3,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
