"""Ask a model a suite of tasks, keep what it said, and score it.

::

    OUT/results.json                all numbers
    OUT/predictions/TASK.jsonl      a header, then a row per example: gold, prompt and reply
    OUT/pictures/TASK/              the first pictures of each task, for the report

Replies are written as they come, so that a killed run goes on where it was. The header names all
that the replies depend on; an OUT whose header says otherwise is refused, never mixed.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kosmos import config as configs
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document, Image
from kosmos.errors import ConfigError, DataError, ImageError
from kosmos.evaluate.results import Results, TaskResult, score_task
from kosmos.evaluate.task import CandidateScore, Example, FoundPhrase, Prediction, Task
from kosmos.files import Json, atomic_file, read_jsonl, write_json
from kosmos.generate.config import Decoding
from kosmos.generate.reply import CandidateScore as EngineScore
from kosmos.generate.reply import Failure, Reply
from kosmos.generate.request import Answer, Generate, Score
from kosmos.image.codec import decode, encode_jpeg, encode_png
from kosmos.lines import Lines
from kosmos.logs import Progress
from kosmos.runtime import generator

if TYPE_CHECKING:
    # its file imports torch
    from kosmos.generate.generator import Generator

_log = logging.getLogger(__name__)

NUM_PICTURES = 64
"""Pictures of each task that are kept for the report."""
PICTURE_SIDE_PX = 448
SMALL_SIDE_PX = 160
POOL = 32
"""With demonstrations: examples they are drawn from, which are then not asked."""
MAX_PICTURE_PIXELS = 178_956_970
_IMPORTED_AS = {"captions": "coco-references", "vqa": "vqa", "referring": "refcoco"}
"""Formats of `kosmos data import` by the data set that they make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How a suite is asked."""

    data: Path
    """Folder with a folder of shards for each task's dataset."""
    out: Path
    """Where results go."""
    limit: int | None = None
    """Examples of each task, at most; the first."""
    shots: int = 0
    """Demonstrations before each example, for the tasks whose paper has them."""
    batch_size: int = 16
    """Examples asked at once."""
    num_beams: int | None = None
    """Instead of the task's own number of beams."""
    seed: int = 0
    """Of demonstrations, intervals and chance."""
    model: str = ""
    """The model's folder, recorded."""
    model_digest: str = ""
    """SHA-256 of its weights: replies of other weights are not continued."""
    force: bool = False
    """Throw away replies that something else made."""
    facts: dict[str, str] = field(default_factory=dict)
    """Recorded in the results."""


def evaluate(engine: "Generator", tasks: Sequence[Task], config: EvaluateConfig) -> Results:
    """Run tasks one after the other.

    Raises:
        ConfigError: If the out folder holds replies that something else made, or a task has no
            demonstrations and some were asked for.
        DataError: If a dataset is missing, empty, or its gold is not what the task reads.
    """
    opened = [(task, _dataset(task, config.data)) for task in tasks]  # fail before the first reply
    done = [_run_task(engine, task, reader, config) for task, reader in opened]
    beams = {} if config.num_beams is None else {"Beams": f"{config.num_beams}"}
    results = Results(
        model=config.model,
        model_digest=config.model_digest,
        seed=config.seed,
        tasks=tuple(done),
        facts={**config.facts, **beams},
    )
    write_json(config.out / "results.json", configs.to_json(results))
    return results


def read_predictions(path: Path) -> Iterator[tuple[Example, Prediction]]:
    """Examples (without pictures) and predictions of a file, in order.

    Raises:
        DataError: If the file or a row is not what the runner writes.
    """
    rows = read_jsonl(path)
    first = next(rows, None)
    if not isinstance(first, dict) or "header" not in first:
        raise DataError(f"{path}: expected a header in the first line, found none")
    for row in rows:
        gold = row.get("gold") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(gold, dict):
            raise DataError(f"{path}: expected an object with the gold, found {row!r:.100}")
        name = str(row.get("id"))
        yield Example(name, Document([], id=name, meta=gold)), _prediction_of(row, path)


def kept_picture(out: Path, task: Task, example_id: str) -> Path | None:
    """The file of the picture of an example, if it was kept."""
    stem = _picture_stem(out, task, example_id)
    found = (stem.with_suffix(suffix) for suffix in (".png", ".jpg"))
    return next((path for path in found if path.is_file()), None)


def _dataset(task: Task, data: Path) -> ShardReader:
    # as such, as the microcosm has them, as an import leaves them, and the import itself
    name = task.dataset
    named = (data / name, data / "eval" / name, data / name / "heldout")
    for folder in (*named, data / "heldout", data):
        if (folder / "manifest.json").exists():
            reader = ShardReader(folder)
            made = reader.manifest["provenance"]
            form = made.get("format") if isinstance(made, dict) else None
            if folder not in named and form != _IMPORTED_AS.get(name):
                continue
            if len(reader) == 0:
                raise DataError(f"{folder}: expected examples of {task.name}, found none")
            return reader
    raise DataError(
        f"{data / task.dataset}: expected a folder of shards for {task.name}, found none",
        hint="kosmos microcosm make DIR makes them; kosmos data import makes them of real sets",
    )


def _run_task(
    engine: "Generator", task: Task, reader: ShardReader, config: EvaluateConfig
) -> TaskResult:
    first = POOL if config.shots else 0
    count = min(len(reader) - first, config.limit or len(reader))
    if count < 1 or config.shots > POOL:
        raise DataError(
            f"{reader.folder}: expected more than the {POOL} examples that demonstrations are "
            f"drawn from (at most {POOL} each), found {len(reader)} for {config.shots} shots"
        )
    docs = ((index, reader[index]) for index in range(first + count))
    asked = [Example(doc.id or str(index), doc) for index, doc in docs]
    pool, examples = asked[:first], asked[first:]
    began_s = time.monotonic()
    with _open(task, reader, config) as lines:
        predictions, spent_s = _kept(lines, examples)
        start = len(predictions)
        with Progress(task.name, total=count, unit="examples", start=start) as progress:
            while len(predictions) < count:
                batch = examples[len(predictions) : len(predictions) + config.batch_size]
                prompts = [task.prompt(e, _shots(e, pool, config)) for e in batch]
                answers = _ask(engine, task, batch, prompts, config)
                for example, prompt, answer in zip(batch, prompts, answers, strict=True):
                    seconds = spent_s + time.monotonic() - began_s
                    lines.write(_row(example, prompt, answer, seconds))
                    _keep_picture(config.out, task, example, number=len(predictions))
                    predictions.append(answer)
                progress.advance(len(batch))
    failed = [answer.failure for answer in predictions if answer.failure]
    if failed:
        told = "%s: %d of %d examples could not be answered and count as wrong; the first: %s"
        _log.warning(told, task.name, len(failed), count, failed[0])
    return replace(
        score_task(task, examples, predictions, seed=config.seed),
        dataset=str(reader.folder),
        dataset_digest=reader.digest,
        seconds=round(spent_s + time.monotonic() - began_s, 3),
        shots=config.shots,
    )


def _shots(example: Example, pool: Sequence[Example], config: EvaluateConfig) -> list[Example]:
    order = generator(config.seed, "shots", example.id).permutation(len(pool))
    return [pool[int(index)] for index in order[: config.shots]]


def _ask(
    engine: "Generator",
    task: Task,
    batch: Sequence[Example],
    prompts: Sequence[Document],
    config: EvaluateConfig,
) -> list[Prediction]:
    decoding = _decoding(task, config)
    given = [task.candidates(example) for example in batch]
    requests = [
        Generate(doc=doc, decoding=decoding) if decoding else Score(doc=doc, candidates=candidates)
        for doc, candidates in zip(prompts, given, strict=True)
    ]
    found = dict(engine.answer(requests, batch_size=config.batch_size))
    return [_prediction(found[str(i)], candidates) for i, candidates in enumerate(given)]


def _decoding(task: Task, config: EvaluateConfig) -> Decoding | None:
    if task.decoding is None or config.num_beams is None:
        return task.decoding
    return configs.replace(task.decoding, {"num_beams": config.num_beams})


def _prediction(answer: Answer | Failure, candidates: Sequence[str]) -> Prediction:
    if isinstance(answer, Failure):
        return Prediction(failure=str(answer.error))
    reply = answer[0]
    if isinstance(reply, Reply):
        return Prediction(
            text=reply.text,
            markup=reply.markup,
            phrases=tuple(FoundPhrase(span.text, tuple(span.boxes)) for span in reply.grounded),
            dropped=tuple(reply.dropped),
            logprob=reply.logprob,
            num_tokens=len(reply.token_ids),
            finish=reply.finish,
        )
    rows = tuple(
        CandidateScore(candidate, score.logprob, score.num_tokens)
        for candidate, score in zip(candidates, answer, strict=True)
        if isinstance(score, EngineScore)
    )
    best = max(rows, key=lambda row: row.logprob)
    return Prediction(text=best.candidate, logprob=best.logprob, scores=rows)


# --- what is on disk


def _open(task: Task, reader: ShardReader, config: EvaluateConfig) -> Lines:
    """The replies to a task, to be continued; those of something else only give way to force."""
    path = config.out / "predictions" / f"{task.name}.jsonl"
    # all that a reply depends on; the number of examples is left out: more can be asked later
    header: Json = {
        "task": task.name,
        "version": task.version,
        "dataset_digest": reader.digest,
        "model_digest": config.model_digest,
        "shots": config.shots,
        "seed": config.seed if config.shots else None,
        "decoding": configs.to_json(_decoding(task, config)),
    }
    try:
        return Lines(path, header, header="first")
    except ConfigError:
        if not config.force:
            raise
        return Lines(path, header, header="first", force=True)


def _kept(lines: Lines, examples: Sequence[Example]) -> tuple[list[Prediction], float]:
    """Replies of an earlier run, cut to what is asked, and the seconds that they took."""
    lines.cut(len(examples))
    rows = list(lines.records())
    for row, example in zip(rows, examples, strict=False):
        if row.get("id") != example.id:
            raise DataError(
                f"{lines.path}: expected a reply to {example.id!r}, found {row.get('id')!r}"
            )
    seconds = rows[-1].get("seconds") if rows else None
    spent_s = float(seconds) if isinstance(seconds, int | float) else 0.0
    return [_prediction_of(row, lines.path) for row in rows], spent_s


def _row(example: Example, prompt: Document, answer: Prediction, seconds: float) -> dict[str, Json]:
    shown = ("<image>" if isinstance(part, Image) else part.text for part in prompt.parts)
    return {
        "id": example.id,
        "prompt": "".join(shown),
        "gold": configs.to_json(example.doc.meta),
        "reply": configs.to_json(answer),
        "seconds": round(seconds, 3),
    }


def _prediction_of(row: dict[str, Json], path: Path) -> Prediction:
    try:
        return configs.from_json(Prediction, row.get("reply"), "reply")
    except ConfigError as error:
        raise DataError(f"{path}: {error.message}") from error


def _keep_picture(out: Path, task: Task, example: Example, *, number: int) -> None:
    is_shown = number < NUM_PICTURES and example.doc.images
    if not is_shown or kept_picture(out, task, example.id) is not None:
        return
    try:
        image = decode(example.doc.images[-1].source, max_pixels=MAX_PICTURE_PIXELS).copy()
    except ImageError:
        return  # the row says that it could not be answered, and why
    # drawings of the microcosm stay as they are; photos get small
    is_small = max(image.size) <= SMALL_SIDE_PX
    image.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX))
    stem = _picture_stem(out, task, example.id)
    with atomic_file(stem.with_suffix(".png" if is_small else ".jpg")) as file:
        file.write(encode_png(image) if is_small else encode_jpeg(image))


def _picture_stem(out: Path, task: Task, example_id: str) -> Path:
    # ids may hold anything
    name = hashlib.sha256(example_id.encode("utf-8")).hexdigest()[:16]
    return out / "pictures" / task.name / name
