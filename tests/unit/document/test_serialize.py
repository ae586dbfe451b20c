"""Documents as JSON: inverses, and a name for everything that is not one."""

import json

import pytest
from hypothesis import given

from kosmos.document.serialize import (
    ImageFile,
    checked_json,
    document_from_json,
    document_to_json,
    image_files,
)
from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from tests.strategies import documents, json_values


@given(documents())
def test_json_text_gives_the_document_back(doc: Document) -> None:
    images = {f"{i}.png": image.source for i, image in enumerate(doc.images)}
    files = [ImageFile(name, len(data)) for name, data in images.items()]
    value = json.loads(json.dumps(document_to_json(doc, files, where="it")))
    assert image_files(value, where="it") == files
    assert document_from_json(value, images, where="it") == doc


@given(json_values())
def test_json_values_are_checked_into_themselves(value: object) -> None:
    assert checked_json(value, "it") == value


def test_the_usual_role_and_loss_are_not_written() -> None:
    doc = Document([Text("a"), Text("b", role="user", loss=False)])
    assert document_to_json(doc, [], where="it")["parts"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "role": "user", "loss": False},
    ]


WRONG = {
    "not an object": ([], "expected a document's id, parts and meta"),
    "no id": ({"parts": [], "meta": {}}, r"expected a document's id, parts and meta"),
    "an id of another type": ({"id": 3, "parts": [], "meta": {}}, "expected a text id"),
    "an unknown part": ({"type": "sound"}, "part 0: expected a part of type text, grounded, image"),
    "a part that is none": (7, "part 0: expected a part of type"),
    "an unknown field": ({"type": "text", "text": "a", "boxes": []}, r"found also \['boxes'\]"),
    "no text": ({"type": "text"}, "part 0: expected a text, found None"),
    "an unknown role": ({"type": "text", "text": "", "role": "robot"}, "part 0: expected a role"),
    "a loss of another type": ({"type": "text", "text": "", "loss": 1}, "true or false for loss"),
    "no boxes": ({"type": "grounded", "text": ""}, "part 0: expected a list of boxes"),
    "three corners": (
        {"type": "grounded", "text": "", "boxes": [[0, 0, 1]]},
        "part 0: expected the four corners",
    ),
    "corners that are no numbers": (
        {"type": "grounded", "text": "", "boxes": [[0, 0, 1, True]]},
        "part 0: expected the four corners",
    ),
    "an image that is not there": (
        {"type": "image", "file": "9.png", "bytes": 1},
        r"part 0: expected one of the images \['0.png'\], found '9.png'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_json_that_is_no_document_is_refused(name: str) -> None:
    value, message = WRONG[name]
    is_part = value == 7 or (isinstance(value, dict) and "type" in value)
    whole = {"id": "", "parts": [value], "meta": {}} if is_part else value
    with pytest.raises(DataError, match=message) as caught:
        document_from_json(whole, {"0.png": b""}, where="shard 3")
    assert str(caught.value).startswith("shard 3")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "file": "0.png"},
        {"type": "image", "bytes": 4},
        {"type": "image", "file": "0.png", "bytes": -1},
        {"type": "image", "file": "0.png", "bytes": "4"},
    ],
)
def test_images_without_a_name_and_a_size_are_refused(part: dict) -> None:
    with pytest.raises(DataError, match="it, part 0: expected the file and bytes"):
        image_files({"parts": [part]}, where="it")


def test_every_image_needs_a_file() -> None:
    with pytest.raises(DataError, match="it: expected a file for each of 2 images, found 1"):
        document_to_json(Document([Image(b"a"), Image(b"b")]), [ImageFile("0.png", 1)], where="it")
