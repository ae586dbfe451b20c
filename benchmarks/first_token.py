"""First token: a photograph and sixteen tokens, from the file to the next token.

What it costs the peer: products of a hundred rows reach half the rate of a large one, because the
weights are laid out anew for the kernel in every call.
"""

import sys

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import prompt_of
from benchmarks.harness.measure import Target
from kosmos.document.types import Document, Image, Text

BENCHMARK = Benchmark(
    name="first_token",
    title="first token",
    workload="1 photo + 16 tokens",
    peer="HF forward",
    targets=[Target(name=RATIO, bound=1.3)],
    rounds=5,
)


def prepare(setting: Setting) -> Case:
    """A new photograph in every round."""
    generator, peer = setting.generator(), setting.peer
    text = prompt_of(generator.tokenizer, 16)

    def ours(turn: int) -> object:
        (photo,) = setting.photos.take(turn, 1)
        return generator.generate(Document([Image(photo), Text(text)]), max_new_tokens=1)

    def theirs(turn: int) -> object:
        return peer.logits(peer.inputs(setting.photos.take(turn, 1), [text])).argmax()

    def check() -> dict[str, object]:
        (photo,) = setting.photos.take(0, 1)
        doc = Document([Image(photo), Text(text)])
        reply = generator.generate(doc, max_new_tokens=1, min_new_tokens=1)
        return agree.greedy(peer, [(photo, text)], [reply], setting.args.dtype)

    num_tokens = len(generator.encode(Document([Image(setting.photos.take(0, 1)[0]), Text(text)])))
    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(tokens=num_tokens, images=1),
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
