"""Questions about pictures, with their answers.

- :func:`read_questions`: documents to train on; the answer carries loss, the question none
- :func:`question_samples`: questions as their source has them

A row of JSON Lines, or a folder with VQAv2's official ``questions.json`` and ``annotations.json``::

    {"file": "kite.jpg", "question": "what color is the kite?", "answer": "red"}
    {"image_id": 42, "question_id": 7, "question": "...", "answers": ["red", "red", "pink"]}

A picture is named by ``file`` (or ``image``), or by COCO's number in ``image_id``. Of several
answers the most frequent one is learned, the first of equals.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.frame import whole_number
from kosmos.corpus.formats.official import joined, read_lists
from kosmos.corpus.formats.pictures import Picture, PictureFolder, usable
from kosmos.corpus.formats.records import Row, read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image, Text
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
    if source.is_dir() and (source / "questions.json").is_file():
        rows = _official_rows(source, tally)
    else:
        rows = read_rows(source, config, tally, suffixes=frozenset({".jsonl"}))
    beside = source / "questions.json" if source.is_dir() else source
    folder = PictureFolder(beside, config, tally)
    for row in rows:
        question, names = text_field(row.fields, "question"), _names(row.fields)
        answers = _answers(row, tally)
        if question is None or answers is None:
            tally.bad("no question or answers", row.where)
        elif not names:
            tally.bad("no file or number of a picture", row.where)
        elif answers and (picture := usable(folder.find(*names), config, tally, row.where)):
            number = row.fields.get("question_id")
            name = str(number) if isinstance(number, int | str) else row.where
            yield QuestionSample(name, question, answers, picture)


def _answers(row: Row, tally: Tally) -> list[str] | None:
    """In a list, each a text, a number or an object that holds one; or alone. None without any.

    Blank ones are answers too, and what is neither text nor number is bad and none of them.
    """
    given = row.fields.get("answers", row.fields.get("answer"))
    answers: list[str] = []
    for value in given if isinstance(given, list) else [given]:
        said = value.get("answer") if isinstance(value, dict) else value
        if (isinstance(said, float) and math.isfinite(said)) or isinstance(said, int):
            whole = whole_number(said)
            said = None if isinstance(said, bool) else str(said if whole is None else whole)
        if isinstance(said, str):
            answers.append(said)
        elif given is not None:
            tally.bad("answer that is no text", row.where)
    return answers if given else None


def _names(fields: dict[str, Json]) -> list[str]:
    """What the picture of a row may be called."""
    if (name := text_field(fields, "file", "image")) is not None:
        return [name]
    number = whole_number(fields.get("image_id"))
    given = text_field(fields, "image_id") if number is None else number
    return [] if given is None else [form.format(given) for form in _IMAGE_NAMES]


def _official_rows(source: AnyPath, tally: Tally) -> Iterator[Row]:
    """Questions joined with their answers."""
    (questions,) = read_lists(source / "questions.json", tally, "questions")
    (annotations,) = read_lists(source / "annotations.json", tally, "annotations")
    for row, found in joined(questions, annotations, tally, on=("question_id", "question_id")):
        fields = {**row.fields, "answers": found[0].fields.get("answers") if found else None}
        yield Row(f"question {row.fields['question_id']}", fields)
