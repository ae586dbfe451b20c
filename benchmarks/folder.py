"""A folder: 64 photographs to captions and boxes, from JPEG files to a JSON Lines file.

What it costs the peer: decoding pictures on its slower path, prompts read with all positions kept,
keys and values concatenated in every step, and repeated regular expressions over every caption.
"""

import json
import sys
from pathlib import Path

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.measure import Target
from kosmos.document.types import Document, Image, Text
from kosmos.files import write_jsonl
from kosmos.text.prompts import GROUNDED_CAPTION

NUM_PHOTOS, NUM_TOKENS, THEIR_BATCH, NUM_COMPARED = 64, 32, 8, 4
BENCHMARK = Benchmark(
    name="folder",
    title="a folder",
    workload=f"{NUM_PHOTOS} photos to captions and boxes, {NUM_TOKENS} tokens each",
    peer=f"HF processor + generate in batches of {THEIR_BATCH}",
    targets=[Target(name=RATIO, bound=2.0)],
    size="medium",
    is_apart=True,
)


def prepare(setting: Setting) -> Case:
    """New photographs in every round; the prompt is the same, so the peer has nothing to pad."""
    generator, peer = setting.generator(), setting.peer
    count, num_tokens = setting.count(NUM_PHOTOS, 12), setting.count(NUM_TOKENS, 6)
    out = setting.args.work / "folder.jsonl"

    def docs(photos: list[Path]) -> list[Document]:
        return [Document([Image(photo), Text(GROUNDED_CAPTION)]) for photo in photos]

    def ours(turn: int) -> object:
        photos = setting.photos.take(turn, count)
        replies = generator.generate(
            docs(photos), max_new_tokens=num_tokens, min_new_tokens=num_tokens
        )
        write_jsonl(
            out,
            (
                {
                    "image": photo.name,
                    "caption": reply.text,
                    "boxes": [[span.text, *map(list, span.boxes_px)] for span in reply.grounded],
                }
                for photo, reply in zip(photos, replies, strict=True)
            ),
        )
        return replies

    def theirs(turn: int) -> object:
        photos = setting.photos.take(turn, count)
        with open(out, "w", encoding="utf-8") as file:
            for first in range(0, count, THEIR_BATCH):
                batch = photos[first : first + THEIR_BATCH]
                inputs = peer.inputs(batch, [GROUNDED_CAPTION] * len(batch))
                found = peer.captions_and_boxes(peer.generate(inputs, num_tokens=num_tokens))
                for photo, (caption, boxes) in zip(batch, found, strict=True):
                    row = {"image": photo.name, "caption": caption, "boxes": boxes}
                    file.write(json.dumps(row) + "\n")
        return None

    def check() -> dict[str, object]:
        photos = setting.photos.take(0, count)
        replies = generator.generate(
            docs(photos), max_new_tokens=num_tokens, min_new_tokens=num_tokens
        )
        some = [(photo, GROUNDED_CAPTION) for photo in photos[:NUM_COMPARED]]
        return agree.greedy(peer, some, replies[:NUM_COMPARED], setting.args.dtype)

    num_prompt = len(generator.encode(docs(setting.photos.take(0, 1))[0]))
    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(
            tokens=num_prompt, batch=count, images=count, steps=num_tokens - 1, rows=count
        ),
        unit="photos",
        count=count,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
