"""Grounded parsing: the ids of a reply with forty entities, to words, spans and boxes.

What it costs the peer: ids become text first, and then every entity searches, slices and strips
the whole text again, which is quadratic. It is timed from ids as ours is, and both give the same:
a caption and tuples of names, spans and corners. The engine's own form, with positions of the ids
and objects for spans and boxes, is checked to agree and timed beside.
"""

import sys
import time

import numpy as np

from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import grounded_markup
from benchmarks.harness.measure import DisagreementError, Target
from kosmos.text.spans import hf_entities_of_ids, parse_ids

NUM_ENTITIES = 40
TOLERANCE = 1e-9
LOOPS = 20
BENCHMARK = Benchmark(
    name="parsing",
    title="grounded parsing",
    workload=f"{NUM_ENTITIES} entities, from token ids",
    peer="HF post_process_generation",
    targets=[Target(name=RATIO, bound=20.0)],
    size="medium",
    rounds=7,
    on_cuda=False,
)


def prepare(setting: Setting) -> Case:
    """The same ids in every round; nothing is remembered between calls on either side."""
    tokenizer, processor = setting.generator().tokenizer, setting.peer.processor
    ids = tokenizer.encode_markup(grounded_markup(NUM_ENTITIES))

    def theirs(turn: int) -> tuple[str, list[tuple[str, tuple[int, int], list[tuple[float, ...]]]]]:
        del turn
        (text,) = processor.batch_decode([ids], skip_special_tokens=True)
        return processor.post_process_generation(text)  # type: ignore[no-any-return]

    def check() -> dict[str, object]:
        caption, entities = theirs(0)
        found = parse_ids(ids, tokenizer)
        ours = [
            (span.text, (span.start, span.end), [(b.x0, b.y0, b.x1, b.y1) for b in span.boxes])
            for span in found.spans
        ]
        if hf_entities_of_ids(ids, tokenizer) != (caption, entities):
            raise DisagreementError(f"expected {entities!r:.80}")
        if found.text != caption or len(ours) != len(entities):
            raise DisagreementError(f"expected {caption!r:.80}, found {found.text!r:.80}")
        for (text, place, boxes), (name, span, corners) in zip(ours, entities, strict=True):
            if (text, place) != (name, span) or not np.allclose(
                boxes, corners, rtol=0.0, atol=TOLERANCE
            ):
                raise DisagreementError(
                    f"expected {(name, span, corners)}, found {text, place, boxes}"
                )
        start = time.perf_counter()
        for _ in range(LOOPS):
            parse_ids(ids, tokenizer)
        return {
            "tokens": len(ids),
            "boxes": sum(len(boxes) for _, _, boxes in ours),
            "as spans and boxes, us": round((time.perf_counter() - start) / LOOPS * 1e6),
        }

    return Case(
        ours=lambda turn: hf_entities_of_ids(ids, tokenizer),
        peer=theirs,
        check=check,
        unit="replies",
        count=1,
        loops=LOOPS,
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
