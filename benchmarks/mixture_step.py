"""A training step on the papers' mixture: texts, captions and pages in KOSMOS-1's token shares.

Five parts of text, five of captions, two of interleaved pages; a small model with its vision tower,
all of which learns. Documents are packed so that none sees another, and the loss looks at words
only. What it costs the peer: batches of eight documents padded to the longest, logits of padding
and of picture slots, and a mask that keeps its attention off the fast path. Both sides have the
same documents, and the same loss. What is counted are tokens of documents, not padding.
"""

import sys
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.harness import corpus
from benchmarks.harness.bench import OF_LIMIT, RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.corpus import PAD, Pictures, Shape, batches_of, pictures_of, rows_of
from benchmarks.harness.machine import Calibration
from benchmarks.harness.measure import Target
from benchmarks.harness.models import SIZES
from benchmarks.harness.training import Ours, Theirs, same_steps
from kosmos.data.batch import Batch
from kosmos.data.index import Row
from kosmos.runtime import generator

SHARES = {"text": 5 / 12, "captions": 5 / 12, "interleaved": 2 / 12}
NUM_TOKENS, THEIR_BATCH, MAX_TOKENS, MICRO_BATCH_TOKENS = 6000, 8, 2048, 4096
BENCHMARK = Benchmark(
    name="mixture_step",
    title="the papers' mixture",
    workload="a step of text, captions and pages, 5 : 5 : 2 in tokens, small model, fp32",
    peer=f"HF on padded batches of {THEIR_BATCH}, fused AdamW",
    targets=[Target(name=RATIO, bound=3.0), Target(name=OF_LIMIT, bound=0.7)],
    size="small",
    rounds=3,
    on_cuda=False,
    is_apart=True,
)


def prepare(setting: Setting) -> Case:
    """The same documents in every round; the weights go on from where they were."""
    config = SIZES[setting.size]
    assert config.vision is not None
    assert config.connector is not None
    shape = Shape(
        vocab_size=setting.vocab_size,
        num_slots=config.connector.num_queries,
        image_size=config.vision.image_size,
        max_tokens=setting.count(MAX_TOKENS, 128),
    )
    rng = generator(setting.args.seed, "documents")
    num_tokens = setting.count(NUM_TOKENS, 600)
    draws = {
        "text": lambda tokens: corpus.texts(rng, shape, tokens, mean=setting.count(600, 40)),
        "captions": lambda tokens: corpus.captions(rng, shape, tokens),
        "interleaved": lambda tokens: corpus.pages(rng, shape, tokens),
    }
    batches: list[Batch] = []
    inputs: list[dict[str, Tensor]] = []
    num_real = 0
    for stream, share in SHARES.items():
        documents = draws[stream](round(share * num_tokens))
        num_real += sum(len(document.token_ids) for document in documents)
        pictures = pictures_of(documents, shape, rng)
        batches += batches_of(
            rows_of(documents, shape.max_tokens),
            pictures,
            stream=stream,
            isolated=True,
            max_tokens=MICRO_BATCH_TOKENS,
        )
        for start in range(0, len(documents), THEIR_BATCH):
            inputs.append(_padded(documents[start : start + THEIR_BATCH], pictures))
    num_targets = sum(int((batch["labels"] != -100).sum()) for batch in inputs)

    @cache
    def ours() -> Ours:
        return Ours(setting.folder, vision=True)

    @cache
    def theirs() -> Theirs:
        return Theirs(setting.folder, vision=True)

    def check() -> dict[str, object]:
        facts = same_steps(lambda: ours().step(batches), lambda: theirs().step(inputs, num_targets))
        positions = sum(batch.num_positions for batch in batches)
        padded = sum(batch["input_ids"].numel() for batch in inputs)
        return facts | {
            "documents": len({(b.stream, name) for b in batches for name in b.document_ids}),
            "pictures": sum(len(pixels) for b in batches if (pixels := b.pixels) is not None),
            "real tokens ÷ our positions": round(num_real / positions, 3),
            "real tokens ÷ the peer's positions": round(num_real / padded, 3),
            "targets ÷ real tokens": round(num_targets / num_real, 3),
        }

    def limit_s(rates: Calibration) -> float:
        return sum(map(ours().objective.flops, batches)) / rates.flops_per_s

    return Case(
        ours=lambda turn: ours().step(batches),
        peer=lambda turn: theirs().step(inputs, num_targets),
        check=check,
        limit_s=limit_s,
        unit="real tokens",
        count=num_real,
    )


def _padded(documents: Sequence[Row], pictures: Pictures) -> dict[str, Tensor]:
    """What a collator of the peer's makes of a few documents."""
    ids = [torch.tensor(document.token_ids) for document in documents]
    labels = [
        torch.tensor(document.token_ids).masked_fill(~torch.tensor(document.loss_mask), -100)
        for document in documents
    ]
    made = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=PAD),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
    }
    images = [torch.tensor(pictures[image]) for document in documents for image in document.images]
    slots = [torch.tensor(document.image_slots) for document in documents]
    if images:
        made["image_embeds_position_mask"] = pad_sequence(slots, batch_first=True)
        made["pixel_values"] = torch.stack(images)
    return made


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
