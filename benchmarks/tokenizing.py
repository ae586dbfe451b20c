"""Tokenizing: a thousand texts to ids, half of them with phrases and boxes.

One time is ten such calls, each with other texts, of which none is kept: one alone is over in
milliseconds, many of which go to whatever the other side has left running.

What it costs the peer: a regular expression over every text before the tokenizer, a search of all
added tokens in it, and an attention mask and offsets that nobody asked for.
"""

import argparse
import sys
from functools import lru_cache, partial
from pathlib import Path

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import captions
from benchmarks.harness.measure import Target

NUM_TEXTS, NUM_CALLS = 1000, 10
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
    """The ids of a document of one text, ``<s>`` included; other texts in every round."""
    tokenizer, processor = setting.generator().tokenizer, setting.peer.processor
    count = setting.count(NUM_TEXTS, 100)
    texts = lru_cache(maxsize=None)(partial(captions, setting.args.texts, count=count))
    bos = tokenizer.vocabulary.bos_id

    def calls(turn: int) -> list[list[str]]:
        return [texts(turn * NUM_CALLS + call) for call in range(NUM_CALLS)]

    def ours(turn: int) -> list[list[int]]:
        rows: list[list[int]] = []
        for call in calls(turn):
            rows = [[bos, *row] for row in tokenizer.encode_markup_batch(call)]
        return rows

    def theirs(turn: int) -> list[list[int]]:
        rows: list[list[int]] = []
        for call in calls(turn):
            rows = processor(text=call)["input_ids"]
        return rows

    def check() -> dict[str, object]:
        agree.rows(ours(0), theirs(0), "text")
        for turn in range(setting.args.warmups + setting.args.rounds + 1):
            calls(turn)  # made before the clock runs
        return {"tokens": sum(map(len, ours(0)))}

    return Case(ours=ours, peer=theirs, check=check, unit="texts", count=NUM_CALLS * count)


def options(parser: argparse.ArgumentParser) -> None:
    """Real text, whose words are many."""
    parser.add_argument("--texts", type=Path, help="a file of lines; default: made-up ones")


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare, options))
