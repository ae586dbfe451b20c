"""Constrained to a thousand names: a photograph, named with two beams.

What it costs the peer: the prompt is read once for each beam, the function that lists the allowed
tokens is called for each beam in each step and its list copied into a mask over the vocabulary,
and every step reads all weights though most have one token to choose from.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import class_names
from benchmarks.harness.measure import Target
from kosmos.document.types import Document, Image, Text
from kosmos.generate.choices import Choices
from kosmos.text.prompts import IMAGENET

NUM_NAMES, NUM_PHOTOS, NUM_BEAMS = 1000, 1, 2
BENCHMARK = Benchmark(
    name="constrained",
    title="constrained to 1,000 names",
    workload=f"{NUM_PHOTOS} photo, beam {NUM_BEAMS}",
    peer="HF with prefix_allowed_tokens_fn",
    targets=[Target(name=RATIO, bound=3.0)],
)


def prepare(setting: Setting) -> Case:
    """New photographs in every round; both sides get their trie made once."""
    generator, peer = setting.generator(), setting.peer
    tokenizer, eos = generator.tokenizer, generator.tokenizer.vocabulary.eos_id
    names = class_names(setting.args.names, setting.count(NUM_NAMES, 50))
    answers = [[*tokenizer.encode(name), eos] for name in names]
    longest = max(map(len, answers))
    choices = Choices(tokenizer, names)
    trie: dict[int, dict] = {}  # type: ignore[type-arg]
    for answer in answers:
        node = trie
        for token_id in answer:
            node = node.setdefault(token_id, {})

    def ours(turn: int) -> list[tuple[int, ...]]:
        photos = setting.photos.take(turn, NUM_PHOTOS)
        replies = generator.generate(
            [Document([Image(photo), Text(IMAGENET)]) for photo in photos],
            constraint=choices,
            num_beams=NUM_BEAMS,
            max_new_tokens=longest,
        )
        return [tuple(reply.token_ids) for reply in replies]

    def theirs(turn: int) -> list[tuple[int, ...]]:
        photos = setting.photos.take(turn, NUM_PHOTOS)
        inputs = peer.inputs(photos, [IMAGENET] * NUM_PHOTOS)
        num_prompt = inputs["input_ids"].shape[1]

        def allowed(row: int, token_ids: object) -> list[int]:
            del row
            node = trie
            for token_id in token_ids.tolist()[num_prompt:]:  # type: ignore[attr-defined]
                node = node.get(token_id, {})
            return list(node) or [eos]

        found = peer.generate(
            inputs,
            num_tokens=longest,
            stop=True,
            num_beams=NUM_BEAMS,
            prefix_allowed_tokens_fn=allowed,
        )
        return [tuple(row[: row.index(eos) + 1]) for row in found]

    def check() -> dict[str, object]:
        agree.rows(ours(0), theirs(0), "photo")
        return {"names": len(names), "tokens of the longest": longest}

    num_prompt = generator.layout.num_image_tokens + 3 + len(tokenizer.encode(IMAGENET))
    mean = round(sum(map(len, answers)) / len(answers))
    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(
            tokens=num_prompt,
            batch=NUM_PHOTOS,
            images=NUM_PHOTOS,
            steps=mean - 1,
            rows=NUM_PHOTOS * NUM_BEAMS,
        ),
        unit="photos",
        count=NUM_PHOTOS,
    )


def options(parser: argparse.ArgumentParser) -> None:
    """Names of real classes."""
    parser.add_argument("--names", type=Path, help="JSON list of names; default: made-up ones")


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare, options))
