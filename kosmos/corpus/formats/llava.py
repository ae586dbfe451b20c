"""Conversations about pictures, as LLaVA publishes them, into documents.

The layouts of a row, as a JSON list, JSON Lines or Parquet::

    conversations   {"image": "a.jpg", "conversations": [
                        {"from": "human", "value": "<image> What is it?"},
                        {"from": "gpt", "value": "A kite."}, ...]}
    messages        the same with "messages", "role" and "content"
    question        {"image": "a.jpg", "instruction": ..., "output": ...}
                    or "question" and "answer"
    two files       {"question_id": 7, "image": "a.jpg", "text": ...}   the question
                    {"question_id": 7, "text": ...}                     its answer

``image`` is a name, several in a list, or missing in conversations about nothing to be seen; a
table may hold the bytes. A picture stands where ``<image>`` does, or first where nothing says so.
Every answer of a conversation carries loss, and nothing that is asked does.

Source: LLaVA (arXiv:2304.08485), LLaVA-Instruct-150K; KOSMOS-2 (arXiv:2306.14824) tunes on it, with
the pictures of RefCOCO's, RefCOCO+'s and RefCOCOg's test sets left out (``exclude_images``).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.pictures import Missing, Picture, PictureFolder, check_picture
from kosmos.corpus.formats.records import Row, read_rows, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image, Part, Role, Text
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
        pictures = _pictures(row, folder)
        if isinstance(pictures, Missing):
            pictures.count(tally, row.where)
            continue
        found = (check_picture(picture.source, config) for picture in pictures)
        problem = next((p for p in found if isinstance(p, str)), None)
        if problem is not None:
            tally.bad(problem, row.where)
            continue
        while turns[-1].role != "assistant":
            turns.pop()
            tally.change("question without an answer at the end", row.where)
        parts = _parts(turns, pictures)
        if parts is None:
            tally.bad("as many <image> as pictures expected, found others", row.where)
            continue
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


def _names(row: Row) -> list[str]:
    value = row.fields.get("image", row.fields.get("images"))
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str) and name]


def _pictures(row: Row, folder: PictureFolder) -> list[Picture] | Missing:
    """The pictures of a row in order, none where it has none; or the first that is of no use."""
    held = [data for column in row.files.values() for data in column if data]
    if held and not any(name in folder.excluded for name in _names(row)):
        return [Picture(f"{row.where}/{number}", data) for number, data in enumerate(held)]
    found = [folder.find(name, name.rpartition("/")[2]) for name in _names(row)]
    missing = next((picture for picture in found if isinstance(picture, Missing)), None)
    return missing or [picture for picture in found if isinstance(picture, Picture)]


def _parts(turns: Sequence[_Turn], pictures: Sequence[Picture]) -> list[Part] | None:
    """Turns with pictures in their places; None if there are not as many of both."""
    num_places = sum(turn.text.count(_PLACE) for turn in turns)
    parts: list[Part] = []
    waiting = list(pictures)
    if num_places == 0:
        parts += [Image(picture.source, role="user") for picture in waiting]
    elif num_places != len(waiting):
        return None
    for role, text in turns:
        for number, words in enumerate(text.split(_PLACE)):
            if number:
                parts.append(Image(waiting.pop(0).source, role=role))
            if words.strip():
                parts.append(Text(words.strip(), role=role, loss=role == "assistant"))
    return parts
