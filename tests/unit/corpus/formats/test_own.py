"""What people have of their own: captions, questions, and boxes in a convention that is named."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.corpus.formats.frame import CONVENTIONS, Frame
from kosmos.corpus.formats.table import make_config
from kosmos.corpus.formats.tally import Tally
from kosmos.document.encode import encode
from kosmos.document.layout import INFERENCE
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError
from kosmos.image.config import ImageConfig
from kosmos.text import prompts
from tests.strategies import boxes
from tests.tiny import tiny_tokenizer
from tests.unit.corpus.formats.sources import PNG, grounded, png, read, write_rows

KITE = {"file": "kite.png"}


@pytest.fixture(autouse=True)
def kite(tmp_path: Path) -> None:
    """A picture of 80 x 70 pixels."""
    (tmp_path / "kite.png").write_bytes(PNG)


def located(doc: Document) -> list[tuple[str, list[tuple[float, ...]]]]:
    """Phrases and the corners of their boxes, in pixels of the picture."""
    return [
        (part.text, [box.to_pixels(width=80, height=70) for box in part.boxes])
        for part in doc.parts
        if isinstance(part, Grounded)
    ]


def words(doc: Document) -> list[tuple[str, bool]]:
    return [(part.text, part.loss) for part in doc.parts if isinstance(part, Text)]


# --- captions


def test_a_row_may_have_one_caption_and_a_picture_several_rows(tmp_path: Path) -> None:
    rows = [{**KITE, "caption": "a kite"}, {**KITE, "caption": "red"}, {**KITE, "caption": None}]
    docs, tally = read("coco", write_rows(tmp_path / "a.jsonl", *rows))
    assert [(doc.id, doc.text) for doc in docs] == [("kite#0", "a kite"), ("kite#1", "red")]
    assert tally.counts("bad") == {"no caption": 1}


def test_a_caption_may_follow_words_that_carry_no_loss(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.jsonl", {**KITE, "caption": "a kite"})
    (doc,), _ = read("coco", source, prompt="An image of")
    assert words(doc) == [("An image of", False), (" a kite", True)]
    (plain,), _ = read("coco", source)
    assert words(plain) == [("a kite", True)]


# --- questions


def test_the_answer_alone_carries_loss_behind_the_prompt_of_asking(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "q.jsonl", {**KITE, "question": "Color?", "answer": "red"})
    (doc,), _ = read("questions", source)
    assert words(doc) == [("Question: Color? Answer:", False), (" red", True)]
    tokenizer, image = tiny_tokenizer(), ImageConfig(size=28)
    asked = Document([Image(PNG), Text(prompts.question("Color?"))])
    prompt, whole = (
        encode(d, tokenizer, layout=INFERENCE, image=image, complete=complete)
        for d, complete in ((asked, False), (doc, True))
    )
    assert whole.token_ids[: len(prompt)].tolist() == prompt.token_ids.tolist()
    assert not whole.loss_mask[: len(prompt)].any()
    assert whole.loss_mask[len(prompt) :].all()


def test_of_several_answers_the_most_frequent_is_learned(tmp_path: Path) -> None:
    rows = [
        {**KITE, "question": "a?", "answers": ["pink", "red", "red"], "question_id": 7},
        {**KITE, "question": "b?", "answers": ["pink", "red"]},
        {**KITE, "question": "c?", "answers": [3]},
        {**KITE, "question": "d?", "answers": [" "]},
        {**KITE, "question": "e?"},
        {"file": "lost.png", "question": "f?", "answer": "x"},
    ]
    docs, tally = read("questions", write_rows(tmp_path / "q.jsonl", *rows))
    assert [(doc.id, words(doc)[1][0]) for doc in docs] == [
        ("7", " red"),
        ("q.jsonl:2", " pink"),
        ("q.jsonl:3", " 3"),
    ]
    assert tally.counts("bad") == {"no answer with words": 1, "no question or answers": 1}
    assert tally.counts("left out") == {"no file of the picture": 1}


def test_the_official_files_of_vqa_can_be_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "vqa"
    folder.mkdir()
    (folder / "COCO_train2014_000000000042.jpg").write_bytes(PNG)
    asked = {"questions": [{"question_id": 1, "image_id": 42, "question": "What?"}]}
    given = [{"answer": "a kite"}, {"answer": "kite"}, {"answer": "kite"}]
    answered = {"annotations": [{"question_id": 1, "answers": given}]}
    (folder / "questions.json").write_text(json.dumps(asked))
    (folder / "annotations.json").write_text(json.dumps(answered))
    (doc,), _ = read("questions", folder)
    assert words(doc) == [("Question: What? Answer:", False), (" kite", True)]


# --- boxes


@given(boxes(), st.sampled_from(CONVENTIONS), st.integers(1, 999), st.integers(1, 999))
def test_every_convention_says_the_same_box(
    box: Box, convention: str, width: int, height: int
) -> None:
    scale = (width, height) * 2 if convention.endswith("pixels") else (1, 1, 1, 1)
    numbers = [box.x0, box.y0, box.x1, box.y1]
    if convention.startswith("xywh"):
        numbers[2:] = [box.x1 - box.x0, box.y1 - box.y0]
    given = [n * s for n, s in zip(numbers, scale, strict=True)]
    tally = Tally()
    (read_back,) = Frame((width, height)).boxes([given], convention, tally, phrase="it", where="a")
    assert not tally.losses
    corners = (read_back.x0, read_back.y0, read_back.x1, read_back.y1)
    assert corners == pytest.approx((box.x0, box.y0, box.x1, box.y1), abs=1e-9)


def test_a_phrase_and_its_boxes_are_a_document(tmp_path: Path) -> None:
    row = {
        **KITE,
        "boxes": "xyxy-pixels",
        "objects": [
            {"phrase": "a red kite", "box": [20, 14, 60, 56]},
            {"phrase": "trees", "boxes": [[0, 35, 8, 70], [40, 35, 80, 70]]},
        ],
    }
    docs, _ = read("boxes", write_rows(tmp_path / "b.jsonl", row))
    assert [located(doc) for doc in docs] == [
        [("a red kite", [pytest.approx((20, 14, 60, 56))])],
        [("trees", [pytest.approx((0, 35, 8, 70)), pytest.approx((40, 35, 80, 70))])],
    ]
    assert [doc.id for doc in docs] == ["b.jsonl:1#0", "b.jsonl:1#1"]
    assert {doc.meta["source"] for doc in docs} == {"kite.png"}


def test_phrases_of_a_caption_stand_in_it(tmp_path: Path) -> None:
    caption = "a kite and a kite over trees"
    objects = [
        {"phrase": "trees", "box": [0, 0.5, 1, 1]},
        {"phrase": "a kite", "start": 11, "box": [0.1, 0.1, 0.3, 0.3]},
        {"phrase": "a kite", "box": [0.5, 0.1, 0.8, 0.3]},
    ]
    rows = [
        {**KITE, "convention": "xyxy-fractions", "caption": caption, "objects": objects},
        {**KITE, "caption": caption, "phrase": "a dog", "box": [0, 0, 1, 1]},
        {**KITE, "caption": caption, "phrase": "kite", "start": 3, "box": [0, 0, 1, 1]},
        {**KITE, "caption": " ", "phrase": "kite", "box": [0, 0, 1, 1]},
    ]
    rows.append({**rows[0], "objects": [*objects, {"phrase": "over trees", "box": [0, 0, 1, 1]}]})
    source = write_rows(tmp_path / "b.jsonl", *rows)
    (doc,), tally = read("boxes", source, boxes="xyxy-fractions")
    assert doc.text == caption
    assert grounded(doc) == [("a kite", 1), ("a kite", 1), ("trees", 1)]
    assert [part.boxes[0].x0 for part in doc.parts if isinstance(part, Grounded)] == [0.5, 0.1, 0]
    assert tally.counts("bad") == {
        "phrase that does not stand in the caption": 2,
        "no caption": 1,
        "phrases that overlap": 1,
    }


def test_a_convention_is_named_by_the_row_or_by_the_user_and_never_guessed(tmp_path: Path) -> None:
    flat = {**KITE, "phrase": "a kite", "box": [20, 14, 40, 42]}
    source = write_rows(tmp_path / "b.jsonl", flat, {**flat, "convention": "xyxy-pixels"})
    docs, tally = read("boxes", source)
    assert [located(doc) for doc in docs] == [[("a kite", [pytest.approx((20, 14, 40, 42))])]]
    assert tally.counts("bad") == {"nothing says what the numbers of a box mean": 1}
    assert "b.jsonl:1: expected one of xyxy-pixels, " in tally.losses[0].where
    (named, of_row), _ = read("boxes", source, boxes="xywh-pixels")
    assert located(named) == [("a kite", [pytest.approx((20, 14, 60, 56))])]
    assert located(of_row) == located(docs[0])


def test_boxes_that_cannot_be_in_the_convention_make_a_row_bad(tmp_path: Path) -> None:
    def row(*numbers: object) -> dict[str, object]:
        return {**KITE, "phrase": "a kite", "box": list(numbers)}

    source = write_rows(
        tmp_path / "b.jsonl",
        row(60, 14, 20, 56),  # a size read as a corner
        row(20, 14, 100, 56),  # of a larger picture
        row(20, 14, 81, 70),  # a pixel too far, which detectors do
        row(20, 14, 60),
        row(20, 14, 60, True),
        {**KITE, "box": [1, 1, 2, 2]},
        {**KITE, "objects": []},
        {"phrase": "a kite", "box": [1, 1, 2, 2]},
    )
    (doc,), tally = read("boxes", source, boxes="xyxy-pixels")
    assert located(doc) == [("a kite", [pytest.approx((20, 14, 80, 70))])]
    assert tally.counts("bad") == {
        "box that is not four numbers": 2,
        "box without area, or reversed, read as xyxy-pixels": 1,
        "box outside the picture, read as xyxy-pixels": 1,
        "object without a phrase": 1,
        "no objects": 1,
        "no file": 1,
    }


def test_pixels_are_those_of_the_size_a_row_states(tmp_path: Path) -> None:
    row = {**KITE, "width": 160, "height": 140, "phrase": "a kite", "box": [40, 28, 120, 112]}
    source = write_rows(tmp_path / "b.jsonl", row)
    (doc,), _ = read("boxes", source, boxes="xyxy-pixels")
    assert located(doc) == [("a kite", [pytest.approx((20, 14, 60, 56))])]


def test_a_detection_file_of_coco_says_its_convention_by_being_one(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(png())
    value = {
        "images": [
            {"id": 1, "file_name": "kite.png", "width": 80, "height": 70},
            {"id": 2, "file_name": "empty.png", "width": 80, "height": 70},
        ],
        "categories": [{"id": 38, "name": "kite"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 38, "bbox": [20, 14, 40, 42], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 7], "iscrowd": 0},
            {"id": 3, "image_id": 1, "category_id": 38, "bbox": [0, 0, 8, 7]},
            {"id": 4, "image_id": 1, "category_id": 1, "bbox": [0, 0, 80, 70], "iscrowd": 1},
        ],
    }
    source = tmp_path / "instances.json"
    source.write_text(json.dumps(value))
    docs, tally = read("boxes", source)
    assert [located(doc) for doc in docs] == [
        [("kite", [pytest.approx((20, 14, 60, 56)), pytest.approx((0, 0, 8, 7))])],
        [("person", [pytest.approx((0, 0, 8, 7))])],
    ]
    assert tally.counts("left out") == {"crowd": 1, "picture without boxes": 1}
    with pytest.raises(DataError, match="expected boxes=xywh-pixels"):
        read("boxes", source, boxes="xyxy-pixels")
    source.write_text('{"images": []}')
    with pytest.raises(DataError, match="lists images, annotations and categories"):
        read("boxes", source)


def test_an_unknown_convention_is_refused_where_it_is_set() -> None:
    with pytest.raises(ConfigError, match="expected one of '', 'xyxy-pixels'"):
        make_config("boxes", ["boxes=cxcywh"])
