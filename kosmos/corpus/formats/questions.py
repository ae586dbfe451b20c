"""Questions about pictures, with their answers.

- :func:`read_questions`: documents to train on; the answer carries loss, the question none
- :func:`question_samples`: questions as their source has them

A row of JSON Lines, or a folder with VQAv2's official ``questions.json`` and ``annotations.json``::

    {"file": "kite.jpg", "question": "what color is the kite?", "answer": "red"}
    {"image_id": 42, "question_id": 7, "question": "...", "answers": ["red", "red", "pink"]}

A picture is named by ``file`` (or ``image``), or by COCO's number in ``image_id``. Of several
answers the most frequent one is learned, the first of equals.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.pictures import Picture, PictureFolder, find_usable
from kosmos.corpus.formats.records import Row, read_rows, read_whole, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.remote import AnyPath
from kosmos.text import prompts

# how COCO's files are named in VQAv2, by split, and in later releases
_IMAGE_NAMES = (
    "{}.jpg",
    "{}.png",
    "{:0>12}.jpg",
    "COCO_val2014_{:0>12}.jpg",
    "COCO_train2014_{:0>12}.jpg",
    "COCO_test2015_{:0>12}.jpg",
)


class QuestionSample(NamedTuple):
    """A question that can be used."""

    id: str
    question: str
    answers: list[str]
    picture: Picture


def read_questions(source: AnyPath, config: FolderConfig, tally: Tally) -> Iterator[Document]:
    """A document per question, in the words in which `kosmos ask` asks: its answer carries loss."""
    for sample in question_samples(source, config, tally):
        counts = Counter(answer.strip() for answer in sample.answers if answer.strip())
        if not counts:
            tally.bad("no answer with words", sample.id)
            continue
        answer = counts.most_common(1)[0][0]
        tally.keep()
        yield Document(
            [
                Image(sample.picture.source),
                Text(prompts.question(sample.question), loss=False),
                Text(f" {answer}"),
            ],
            id=sample.id,
            meta={"source": sample.picture.name},
        )


def question_samples(
    source: AnyPath, config: FolderConfig, tally: Tally
) -> Iterator[QuestionSample]:
    """Questions with an answer and a picture."""
    is_official = source.is_dir() and (source / "questions.json").is_file()
    if is_official:
        rows = _official_rows(source)
    else:
        rows = read_rows(source, config, tally, suffixes=frozenset({".jsonl"}))
    beside = source / "questions.json" if source.is_dir() else source
    folder = PictureFolder(beside, config, tally)
    for row in rows:
        question, answers = text_field(row.fields, "question"), _answers(row.fields)
        if question is None or not answers:
            tally.bad("no question or answers", row.where)
            continue
        picture = find_usable(folder, _names(row.fields), config, tally, row.where)
        if picture is not None:
            number = row.fields.get("question_id")
            yield QuestionSample(
                row.where if number is None else str(number), question, answers, picture
            )


def _answers(fields: dict[str, Json]) -> list[str]:
    """In a list, each a text or an object that holds one; or alone. Blank ones are answers too."""
    given = fields.get("answers", fields.get("answer"))
    values = given if isinstance(given, list) else [given]
    said = [value.get("answer") if isinstance(value, dict) else value for value in values]
    return [str(v) for v in said if isinstance(v, str | int | float) and not isinstance(v, bool)]


def _names(fields: dict[str, Json]) -> list[str]:
    name = text_field(fields, "file", "image")
    return [name] if name else [form.format(fields.get("image_id")) for form in _IMAGE_NAMES]


def _official_rows(source: AnyPath) -> Iterator[Row]:
    """Questions joined with their answers."""
    answers_of = {
        str(row.get("question_id")): row.get("answers")
        for row in _list(source / "annotations.json", "annotations")
    }
    for row in _list(source / "questions.json", "questions"):
        question_id = str(row.get("question_id"))
        fields: dict[str, Json] = {**row, "answers": answers_of.get(question_id)}
        yield Row(f"question {question_id}", fields)


def _list(path: AnyPath, name: str) -> list[dict[str, Json]]:
    """The objects of a list in a JSON file."""
    value = read_whole(path)
    rows = value.get(name) if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected an object with a list {name!r}, found none")
    return [row for row in rows if isinstance(row, dict)]
