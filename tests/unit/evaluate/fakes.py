"""Small test sets, and an engine that answers them from their gold."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from kosmos.boxes import Box
from kosmos.document.shards import ShardReader, ShardWriter
from kosmos.document.types import Document, Image
from kosmos.evaluate.task import Example, Prediction, Task
from kosmos.files import Json
from kosmos.generate.config import Decoding
from kosmos.generate.generator import Generator
from kosmos.generate.reply import CandidateScore as EngineScore
from kosmos.generate.reply import Failure, GroundedSpan, Reply
from kosmos.generate.request import Answer, Generate, Request, Score

COLORS = ["red", "green", "blue", "white"]
SHAPES = ["circle", "cross", "star"]


def write_sets(folder: Path, count: int = 24) -> Path:
    """Every dataset of the suite, its gold different from example to example."""
    rng = np.random.default_rng(0)
    writers = {name: [] for name in ("captions", "vqa", "referring")}
    for index in range(count):
        picture = Image(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8))
        color, shape = COLORS[index % 4], SHAPES[index % 3]
        x = 0.02 * index
        box: list[Json] = [x, 0.1, x + 0.3, 0.5]
        thing: dict[str, Json] = {"name": shape, "color": color, "shape": shape, "box": box}
        captions: dict[str, Json] = {
            "references": [f"a {color} {shape} number {index}.", f"one {shape} in {color} {index}"],
            "objects": [thing],
        }
        question: dict[str, Json] = {
            "question": f"What color is thing {index}?",
            "answers": [color],
            "choices": list(COLORS),
            "kind": "odd" if index % 2 else "even",
        }
        referring: dict[str, Json] = {"expression": f"the {color} {shape}", "box": box}
        for name, meta in (("captions", captions), ("vqa", question), ("referring", referring)):
            writers[name].append(Document([picture], id=f"{name}-{index}", meta=meta))
    writers["color-knowledge"] = [
        Document(
            [],
            id=f"color-{index}",
            meta={
                "object": f"kind{index}",
                "color": COLORS[index % 4],
                "choices": list(COLORS),
                "group": "seen" if index < count // 2 else "told",
            },
        )
        for index in range(count)
    ]
    writers["size-knowledge"] = [
        Document(
            [],
            id=f"size-{index}",
            meta={
                "first": f"a{index}",
                "second": f"b{index}",
                "answer": "Yes" if index % 2 else "No",
                "choices": ["Yes", "No"],
                "group": "told",
            },
        )
        for index in range(count)
    ]
    for name, docs in writers.items():
        with ShardWriter(folder / name) as writer:
            for doc in docs:
                writer.write(doc)
    return folder


def examples_of(task: Task, folder: Path) -> list[Example]:
    return [Example(doc.id, doc) for doc in ShardReader(folder / task.dataset)]


class Oracle(Generator):
    """Answers every prompt as ``answer`` says, given the task and the example."""

    def __init__(
        self, tasks: Sequence[Task], folder: Path, answer: Callable[[Task, Example], Prediction]
    ) -> None:
        self.answers = {}
        for task in tasks:
            for example in examples_of(task, folder):
                self.answers[example.id] = answer(task, example)
        self.asked: list[Document] = []
        self.fail_after: int | None = None
        self.decodings: list[Decoding] = []

    def answer(
        self, requests: Iterable[Request], *, batch_size: int = 16, batch_tokens: int = 2048
    ) -> Iterator[tuple[str, Answer | Failure]]:
        asked = list(requests)
        assert len(asked) <= batch_size
        for place, request in enumerate(asked):
            if isinstance(request, Score):
                yield str(place), self._scores(request.doc, request.candidates)
            elif isinstance(request, Generate):
                self.decodings.append(request.decoding)
                yield str(place), [self._reply(request.doc)]

    def _scores(self, doc: Document, candidates: Sequence[str | Document]) -> list[EngineScore]:
        self._note(doc)
        scores = {s.candidate: s for s in self.answers[doc.id].scores}
        return [
            EngineScore(logprob=scores[c].logprob, num_tokens=scores[c].num_tokens)
            for c in candidates
        ]

    def _note(self, doc: Document) -> None:
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        self.asked.append(doc)

    def _reply(self, doc: Document) -> Reply:
        self._note(doc)
        answer = self.answers[doc.id]
        spans = tuple(
            GroundedSpan(
                text=phrase.text,
                boxes=phrase.boxes,
                start=0,
                end=0,
                image_index=0,
                boxes_px=((0.0, 0.0, 1.0, 1.0),),
                locations=((0, 1023),),
                logprobs=(-1.0,),
                confidence=(0.6,),
                guaranteed_ious=(0.9,),
            )
            for phrase in answer.phrases
        )
        return Reply(
            text=answer.text,
            grounded=spans,
            token_ids=(5, 6, 2),
            logprob=-1.5,
            token_logprobs=(-0.5, -0.5, -0.5),
            markup=answer.text,
            dropped=answer.dropped,
            finish="stop",
        )


def perfect(task: Task, example: Example) -> Prediction:
    return task.perfect(example)


WRONG_BOX = Box(0.9, 0.9, 1.0, 1.0)
