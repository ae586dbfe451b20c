"""Conversations about pictures, as LLaVA and ms-swift have them, into documents.

The layouts of a row, as a JSON list, JSON Lines or Parquet::

    conversations   {"image": "a.jpg", "conversations": [
                        {"from": "human", "value": "<image> What is it?"},
                        {"from": "gpt", "value": "A kite."}, ...]}
    messages        the same with "messages", "role" and "content"
    question        {"image": "a.jpg", "instruction": ..., "output": ...}
                    or "question" and "answer"
    two files       {"question_id": 7, "image": "a.jpg", "text": ...}   the question
                    {"question_id": 7, "text": ...}                     its answer

``image`` (or ``images``) is a name, several in a list, or missing in conversations about nothing to
be seen; a table may hold the bytes. A picture stands where ``<image>`` does, or first where nothing
says so. Every answer of a conversation carries loss, and nothing that is asked does. Boxes may be
written among the words (written_boxes.py).

Source: LLaVA (arXiv:2304.08485), LLaVA-Instruct-150K; KOSMOS-2 (arXiv:2306.14824) tunes on it, with
the pictures of RefCOCO's, RefCOCO+'s and RefCOCOg's test sets left out (``exclude_images``).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.pictures import Missing, Picture, PictureFolder, usable
from kosmos.corpus.formats.records import Row, read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.written_boxes import UnusableError, WrittenBoxes
from kosmos.document.types import Document, Image, Part, Role
from kosmos.files import Json
from kosmos.remote import AnyPath

_PLACE = "<image>"
_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


class _Turn(NamedTuple):
    role: Role
    text: str


def read_llava(source: AnyPath, config: FolderConfig, tally: Tally) -> Iterator[Document]:
    """A document per conversation; its answers carry loss."""
    folder = PictureFolder(source, config, tally)
    for row in _joined(read_rows(source, config, tally), tally):
        turns = _turns(row.fields)
        if isinstance(turns, str):
            tally.bad(turns, row.where)
            continue
        pictures = _pictures(row, folder, config, tally)
        if pictures is None:
            continue
        while turns[-1].role != "assistant":
            turns.pop()
            tally.change("question without an answer at the end", row.where)
        written = WrittenBoxes(row.fields, pictures, tally, row.where)
        try:
            parts = _parts(turns, pictures, written)
        except UnusableError as error:
            tally.bad(str(error), row.where)
            continue
        if any(part.role == "assistant" for part in parts):
            tally.keep()
            origin = pictures[0].name if pictures else row.where
            yield Document(parts, id=row.where, meta={"source": origin})


def _joined(rows: Iterator[Row], tally: Tally) -> Iterator[Row]:
    """Rows, questions and answers of two files brought together by their number."""
    waiting: dict[str, Row] = {}
    for row in rows:
        number = row.fields.get("question_id")
        if number is None or text_field(row.fields, "text") is None:
            yield row
            continue
        other = waiting.pop(str(number), None)
        if other is None:
            waiting[str(number)] = row
            continue
        asked, answered = (row, other) if "image" in row.fields else (other, row)
        text, answer = (text_field(one.fields, "text") for one in (asked, answered))
        yield Row(asked.where, {**asked.fields, "question": text, "answer": answer})
    for row in waiting.values():
        has_picture = "image" in row.fields
        tally.bad(f"{'question' if has_picture else 'answer'} without its other half", row.where)


def _turns(fields: dict[str, Json]) -> list[_Turn] | str:
    """What is said, at least one answer among it; or in few words why there is nothing."""
    said = fields.get("conversations", fields.get("messages"))
    if said is None:
        asked = text_field(fields, "instruction", "question")
        answer = text_field(fields, "output", "answer")
        if asked is None or answer is None:
            return "no conversation"
        return [_Turn("user", asked), _Turn("assistant", answer)]
    if not isinstance(said, list):
        return "no conversation"
    turns: list[_Turn] = []
    for turn in said:
        if not isinstance(turn, dict):
            return "turn that is not an object"
        speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        role = _ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            return "turn by an unknown speaker"
        if not isinstance(text, str) or not text.strip():
            return "turn without text"
        turns.append(_Turn(role, text))
    if all(turn.role != "assistant" for turn in turns):
        return "conversation without an answer"
    return turns


def _pictures(
    row: Row, folder: PictureFolder, config: FolderConfig, tally: Tally
) -> list[Picture] | None:
    """The pictures of a row in order, if any; None, counted, if one is of no use."""
    value = row.fields.get("image", row.fields.get("images"))
    values = value if isinstance(value, list) else [value]
    names = [name for name in values if isinstance(name, str) and name]
    held = [data for column in row.files.values() for data in column if data]
    found: list[Picture | Missing] = [
        Picture(f"{row.where}/{number}", data) for number, data in enumerate(held)
    ]
    if not held or any(name in folder.excluded for name in names):
        found = [folder.find(name, name.rpartition("/")[2]) for name in names]
    pictures: list[Picture] = []
    for each in found:
        picture = usable(each, config, tally, row.where)
        if picture is None:
            return None
        pictures.append(picture)
    return pictures


def _parts(
    turns: Sequence[_Turn], pictures: Sequence[Picture], written: WrittenBoxes
) -> list[Part]:
    """Turns with pictures in their places.

    A question and its answer go if nothing is left of one of them.

    Raises:
        UnusableError: If there are not as many pictures as places, or boxes that belong to nothing.
    """
    num_places = sum(turn.text.count(_PLACE) for turn in turns)
    if num_places not in (0, len(pictures)):
        raise UnusableError("as many <image> as pictures expected, found others")
    first = [Image(picture.source, role="user") for picture in pictures if num_places == 0]
    num_seen = len(first)
    spoken: list[list[Part]] = [[*first]]
    lost: set[int] = set()
    for number, (role, text) in enumerate(turns, start=1):
        spoken.append([])
        for place, words in enumerate(text.split(_PLACE)):
            if place:
                spoken[-1].append(Image(pictures[num_seen].source, role=role))
                num_seen += 1
            if words.strip():
                parts = written.parts(words.strip(), role, num_seen - 1)
                spoken[-1] += parts or []
                if parts is None:
                    lost |= {number, number - 1 if role == "assistant" else number + 1}
    written.finish()
    return [
        part
        for number, parts in enumerate(spoken)
        for part in parts
        if number not in lost or isinstance(part, Image)
    ]
