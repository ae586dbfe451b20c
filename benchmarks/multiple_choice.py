"""Multiple choice: 200 rows of HellaSwag's shape, four endings behind each context.

The peer is lm-evaluation-harness on the language model of the Hugging Face folder. What it costs
it: the context is read again for every ending, rows are padded to the longest of their batch, and
all logits of all positions are computed and normalized, where only the endings' are asked for.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import rows_of_choices
from benchmarks.harness.lm_eval_twin import LmEvalTwin
from benchmarks.harness.measure import Target

NUM_ROWS, NUM_COMPARED = 200, 8
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Difference of log-probabilities as a fraction, at least in nats. Seen in float32: 2.4e-5 nats of
about 100. 16 bits: not yet seen, so what their rounding could add up to."""
BENCHMARK = Benchmark(
    name="multiple_choice",
    title="multiple choice",
    workload=f"{NUM_ROWS} HellaSwag rows, 4 candidates",
    peer="lm-evaluation-harness on the HF twin",
    targets=[Target(name=RATIO, bound=2.0)],
    size="medium",
    rounds=2,
)


def prepare(setting: Setting) -> Case:
    """The same rows in every round; neither side remembers any."""
    generator = setting.generator()
    twin = LmEvalTwin(setting.peer, batch_size=setting.args.their_batch)
    rows = rows_of_choices(setting.args.rows, setting.count(NUM_ROWS, 6))

    def ours(turn: int, some: int | None = None) -> list[float]:
        del turn
        found = generator.score_many(rows[:some])
        return [score.logprob for scores in found for score in scores]

    def theirs(turn: int, some: int | None = None) -> list[float]:
        del turn
        return twin.scores(rows[:some])

    def check() -> dict[str, object]:
        one, other = ours(0, NUM_COMPARED), theirs(0, NUM_COMPARED)
        tolerance = TOLERANCE[setting.args.dtype]
        return {"largest difference, nats": agree.numbers(one, other, "candidate", tolerance)}

    encode = generator.tokenizer.encode
    contexts = [1 + len(encode(context)) for context, _ in rows]
    endings = [len(encode(ending)) for _, given in rows for ending in given]
    positions = sum(contexts) + sum(endings)
    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(
            tokens=positions // len(rows), batch=len(rows), head_tokens=sum(endings)
        ),
        unit="rows",
        count=len(rows),
    )


def options(parser: argparse.ArgumentParser) -> None:
    """Rows of the real task, and how many of them the peer reads at once."""
    parser.add_argument("--rows", type=Path, help="JSON Lines with ctx and endings")
    parser.add_argument("--their-batch", type=int, default=16)


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare, options))
