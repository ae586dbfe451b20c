"""Raven's matrices: six candidates for the missing picture, eight pictures before each.

The candidate whose "Yes" is likeliest behind "Is it correct?" is the answer, as in KOSMOS-1. What
it costs the peer: a forward pass of nine pictures for each candidate, 54 encodings of 14 pictures,
and the eight shared ones read six times.
"""

import sys

import PIL.Image
import torch

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.measure import Target
from kosmos.document.types import Document, Image, Text
from kosmos.text.prompts import RAVEN_CANDIDATE, RAVEN_QUESTION, raven

NUM_SHARED, NUM_CANDIDATES = 8, 6
TOLERANCE = {"float32": 2e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Difference of log-probabilities as a fraction, at least in nats. Seen in float32, tiny model:
2e-6; larger models round more. 16 bits: not yet seen, so what their rounding could add up to."""
BENCHMARK = Benchmark(
    name="raven",
    title="Raven scoring",
    workload=f"{NUM_CANDIDATES} candidates × {NUM_SHARED + 1} images",
    peer="HF forward per candidate",
    targets=[Target(name=RATIO, bound=3.5)],
)


def prepare(setting: Setting) -> Case:
    """A new puzzle in every round."""
    generator, peer = setting.generator(), setting.peer
    total = NUM_SHARED + NUM_CANDIDATES

    def puzzle(turn: int) -> tuple[Document, list[Document]]:
        photos = setting.photos.take(turn, total)
        before = [Text(raven(NUM_SHARED)), *map(Image, photos[:NUM_SHARED])]
        candidates = [
            Document(
                [
                    Text(RAVEN_CANDIDATE, loss=False),
                    Image(photo),
                    Text(RAVEN_QUESTION, loss=False),
                    Text("Yes"),
                ]
            )
            for photo in photos[NUM_SHARED:]
        ]
        return Document(before), candidates

    def ours(turn: int) -> list[float]:
        return [score.logprob for score in generator.score(*puzzle(turn))]

    rows = [
        generator.encode(Document([*doc.parts, *candidate.parts]))
        for doc, candidates in [puzzle(0)]
        for candidate in candidates
    ]
    num_counted = len(generator.tokenizer.encode("Yes"))

    @torch.inference_mode()
    def theirs(turn: int) -> list[float]:
        photos = setting.photos.take(turn, total)
        scores = []
        for index, row in enumerate(rows):
            shown = [*photos[:NUM_SHARED], photos[NUM_SHARED + index]]
            pictures = [PIL.Image.open(photo) for photo in shown]
            pixels = peer.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
            token_ids = torch.from_numpy(row.token_ids)[None].to(peer.device)
            logits = peer.logits(
                {
                    "pixel_values": pixels.to(peer.device, peer.dtype),
                    "input_ids": token_ids,
                    "image_embeds_position_mask": torch.from_numpy(row.image_slots)[None].to(
                        peer.device
                    ),
                },
                last=num_counted + 1,
            )
            log_probs = logits[0, :-1].float().log_softmax(-1)
            chosen = log_probs.gather(1, token_ids[0, -num_counted:, None])
            scores.append(chosen.sum().item())
        return scores

    def check() -> dict[str, object]:
        found = agree.numbers(ours(0), theirs(0), "candidate", TOLERANCE[setting.args.dtype])
        return {"largest difference, nats": found}

    shared = len(generator.encode(puzzle(0)[0]))
    own = sum(len(row) - shared for row in rows)
    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        limit_s=setting.limit_s(
            tokens=shared + own, images=total, head_tokens=NUM_CANDIDATES * num_counted
        ),
        unit="puzzles",
        count=1,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
