"""Boxes that others write into conversations become boxes of phrases, or are counted."""

from pathlib import Path

import pytest

from kosmos.document.encode import encode
from kosmos.document.layout import TRAINING
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.image.config import ImageConfig
from tests.tiny import tiny_tokenizer
from tests.unit.corpus.formats.sources import png, read, write_rows

PADDED = "fractions of the picture padded to a square"
SWIFT = {
    "messages": [
        {"role": "user", "content": "<image>Where is the <ref-object>?"},
        {"role": "assistant", "content": "<bbox>"},
    ],
    "images": ["000.jpg"],
    "objects": {"ref": ["blue tile"], "bbox": [[4, 5, 40, 30]]},
}


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path) -> None:
    """Pictures of 64 x 48 pixels."""
    for name in ("000.jpg", "001.jpg"):
        (tmp_path / name).write_bytes(png(64, 48))


def talk(*turns: str, **fields: object) -> dict[str, object]:
    """A conversation of a question, an answer, and so on."""
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(turns)]
    return {"image": "000.jpg", "conversations": said, **fields}


def imported(
    tmp_path: Path, *rows: dict[str, object]
) -> tuple[list[Document], dict[str, int], dict[str, int]]:
    docs, tally = read("llava", write_rows(tmp_path / "l.jsonl", *rows))
    return docs, tally.counts("bad"), tally.counts("changed")


def told(doc: Document) -> list[str]:
    """Parts in short: pictures as ``*``, phrases with their boxes in pixels of 64 x 48."""
    found = []
    for part in doc.parts:
        if isinstance(part, Grounded):
            boxes = [[round(v, 1) for v in b.to_pixels(width=64, height=48)] for b in part.boxes]
            found.append(f"{part.text} {boxes}")
        else:
            found.append("*" if isinstance(part, Image) else part.text)
    return found


# --- ms-swift


def test_a_row_of_ms_swift_is_a_phrase_and_its_box(tmp_path: Path) -> None:
    (doc,), bad, changed = imported(tmp_path, SWIFT)
    assert (bad, changed) == ({}, {})
    picture, asked, answer = doc.parts
    assert isinstance(picture, Image)
    assert asked == Text("Where is the blue tile?", role="user", loss=False)
    assert isinstance(answer, Grounded)
    assert (answer.text, answer.role, answer.loss) == ("blue tile", "assistant", True)
    (box,) = answer.boxes
    assert (box.x0, box.y0, box.x1, box.y1) == (4 / 64, 5 / 48, 40 / 64, 30 / 48)
    encode(doc, tiny_tokenizer(), layout=TRAINING, image=ImageConfig(size=28), complete=True)


@pytest.mark.parametrize(
    ("asked", "answer", "refs", "boxes", "expected"),
    [
        (
            "Describe it.",
            "<ref-object><bbox> and <ref-object><bbox><bbox> play.",
            ["A dog", "two cats"],
            [[0, 0, 8, 8], [8, 8, 16, 16], [16, 16, 32, 32]],
            [
                "A dog [[0.0, 0.0, 8.0, 8.0]]",
                " and ",
                "two cats [[8.0, 8.0, 16.0, 16.0], [16.0, 16.0, 32.0, 32.0]]",
                " play.",
            ],
        ),
        (
            "Find <ref-object> and <ref-object>.",
            "<bbox><bbox>",
            ["a dog", "a cat"],
            [[0, 0, 8, 8], [8, 8, 16, 16]],
            ["a dog [[0.0, 0.0, 8.0, 8.0]]", ", ", "a cat [[8.0, 8.0, 16.0, 16.0]]"],
        ),
        (
            "Find <ref-object>.",
            "<bbox>, <bbox>",
            ["sheep"],
            [[0, 0, 8, 8], [8, 8, 16, 16]],
            ["sheep [[0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 16.0, 16.0]]"],
        ),
        ("Where?", "At <bbox>.", [], [[0, 0, 8, 8]], ["At ", "it [[0.0, 0.0, 8.0, 8.0]]", "."]),
        (
            "What is in <bbox>?",
            "A <ref-object>.",
            ["dog"],
            [[0, 0, 8, 8]],
            ["What is in ", "this [[0.0, 0.0, 8.0, 8.0]]", "?", "A dog."],
        ),
    ],
)
def test_references_and_boxes_are_taken_in_order(
    tmp_path: Path,
    asked: str,
    answer: str,
    refs: list[str],
    boxes: list[list[int]],
    expected: list[str],
) -> None:
    row = talk(f"<image>{asked}", answer, objects={"ref": refs, "bbox": boxes})
    (doc,), bad, changed = imported(tmp_path, row)
    assert (bad, changed) == ({}, {})
    assert told(doc)[-len(expected) :] == expected


def test_boxes_of_ms_swift_may_be_fractions_and_of_the_second_picture(tmp_path: Path) -> None:
    objects = {"ref": ["it"], "bbox": [[0.5, 0.25, 1.0, 0.5]], "bbox_type": "norm1"}
    rows = [
        talk("<image>Where?", "<ref-object><bbox>", objects=objects),
        talk(
            "<image><image>Where?",
            "<ref-object><bbox>",
            image=["000.jpg", "001.jpg"],
            objects={**objects, "image_id": [1]},
        ),
    ]
    docs, bad, _ = imported(tmp_path, *rows)
    assert not bad
    assert [told(doc)[-1] for doc in docs] == ["it [[32.0, 12.0, 64.0, 24.0]]"] * 2


@pytest.mark.parametrize(
    ("answer", "objects", "reason"),
    [
        ("<bbox>", {}, "more places than objects.bbox"),
        ("<bbox>", {"bbox": "x"}, "more places than objects.bbox"),
        ("<bbox><bbox>", {"bbox": [[0, 0, 8, 8]]}, "more places than objects.bbox"),
        ("A <ref-object>.", {"ref": []}, "more places than objects.ref"),
        ("A <ref-object>.", {"ref": [None]}, "reference without words"),
        ("<bbox>", {"bbox": [[0, 0, 8, 8]], "bbox_type": ["x"]}, "nothing says what the numbers"),
        ("<bbox>", {"bbox": [[0, 0, 8, 8]], "image_id": [1]}, "box of another picture"),
        ("<bbox>", {"bbox": [[0, 0, 8]]}, "box that is not four numbers"),
        ("<bbox>", {"bbox": [[0, 0, 0, 8]]}, "box without area, or reversed, read as xyxy-pixels"),
    ],
)
def test_rows_that_do_not_hold_together_are_bad(
    tmp_path: Path, answer: str, objects: dict[str, object], reason: str
) -> None:
    docs, bad, _ = imported(tmp_path, talk("<image>Where?", answer, objects=objects))
    assert not docs
    assert [(name.startswith(reason), count) for name, count in bad.items()] == [(True, 1)]


def test_a_box_before_any_picture_and_one_that_nobody_names_are_counted(tmp_path: Path) -> None:
    objects = {"bbox": [[0, 0, 8, 8]]}
    early = talk("At <bbox> of <image>?", "A dog.", objects=objects)
    docs, bad, changed = imported(tmp_path, early, talk("<image>What?", "A dog.", objects=objects))
    assert len(docs) == 1
    assert bad == {"box of another picture than the last one before it": 1}
    assert changed == {"object that the conversation does not name": 1}


def test_the_size_that_a_row_states_tells_how_its_boxes_lie(tmp_path: Path) -> None:
    rows = [{**SWIFT, "width": 128, "height": 96}, {**SWIFT, "width": 50, "height": 50}]
    docs, bad, _ = imported(tmp_path, *rows)
    assert [told(doc)[-1] for doc in docs] == ["blue tile [[2.0, 2.5, 20.0, 15.0]]"]
    assert bad == {"size that is not the picture's": 1}


def test_a_box_of_a_conversation_costs_only_itself(tmp_path: Path) -> None:
    asked = ["<image>Where is the <ref-object>?"] + ["Where is the <ref-object>?"] * 5
    turns = [text for question in asked for text in (question, "<bbox>")]
    good = [[n, n, n + 9, n + 9] for n in range(5)]
    rows = []
    for number in range(24):
        boxes = [[10, 10, 10, 22.5], *good] if number in (3, 17) else good
        num = 2 * len(boxes)
        objects = {"ref": [f"thing {n}" for n in range(len(boxes))], "bbox": boxes}
        rows.append(talk(*turns[:num], objects=objects))
    docs, bad, changed = imported(tmp_path, *rows)
    kept = [part for doc in docs for part in doc.parts if isinstance(part, Grounded)]
    assert len(kept) == 120
    assert (bad, changed) == ({"box without area, or reversed, read as xyxy-pixels": 2}, {})
    # the picture stays where the first question was
    assert all(isinstance(doc.parts[0], Image) and len(doc.images) == 1 for doc in docs)
    assert told(docs[3])[1] == "Where is the thing 1?"


# --- known by their form


def test_four_fractions_are_of_the_picture_padded_to_a_square(tmp_path: Path) -> None:
    asked = (
        "<image>Please provide the bounding box coordinate of the region this sentence describes: "
    )
    rows = [
        talk(f"{asked}white shirt.", "[0.42, 0.43, 0.72, 0.63]"),
        talk("<image>\nWhere is the red kite?", "[0.42,0.43,0.72,0.63]"),
        talk("<image>\nWhat do you see?", "[0.42, 0.43, 0.72, 0.63]."),
    ]
    docs, bad, changed = imported(tmp_path, *rows)
    assert not bad
    assert changed == {f"box written as words, read as {PADDED}": 3}
    phrases = [part for doc in docs for part in doc.parts if isinstance(part, Grounded)]
    assert [phrase.text for phrase in phrases] == ["white shirt", "the red kite", "it"]
    for phrase in phrases:
        (box,) = phrase.boxes
        corners = (box.x0, box.y0, box.x1, box.y1)
        assert corners == pytest.approx((0.42, 0.4067, 0.72, 0.6733), abs=1e-4)
        assert (phrase.role, phrase.loss) == ("assistant", True)


def test_of_a_tall_picture_the_width_is_padded(tmp_path: Path) -> None:
    (tmp_path / "000.jpg").write_bytes(png(48, 64))
    (doc,), _, _ = imported(tmp_path, talk("<image>Where?", "[0.42, 0.43, 0.72, 0.63]"))
    part = doc.parts[-1]
    assert isinstance(part, Grounded)
    (box,) = part.boxes
    corners = (box.x0, box.y0, box.x1, box.y1)
    assert corners == pytest.approx(((0.42 * 64 - 8) / 48, 0.43, (0.72 * 64 - 8) / 48, 0.63))


def test_a_region_that_is_asked_about_is_a_phrase(tmp_path: Path) -> None:
    asked = "Please provide a short description for this region: [0.25, 0.25, 0.5, 0.5]."
    (doc,), _, changed = imported(tmp_path, talk(f"<image>{asked}", "A kite."))
    assert told(doc) == [
        "*",
        "Please provide a short description for ",
        "this region [[16.0, 8.0, 32.0, 24.0]]",
        ".",
        "A kite.",
    ]
    assert sum(changed.values()) == 1


@pytest.mark.parametrize(
    "written",
    [
        "<ref>a kite</ref><box>(100,200),(500,600)</box>",
        "<ref>a kite</ref><box>[[100, 200, 500, 600]]</box>",
        "<|object_ref_start|>a kite<|object_ref_end|><|box_start|>(100,200),(500,600)<|box_end|>",
    ],
)
def test_a_grid_is_known_by_its_tags(tmp_path: Path, written: str) -> None:
    (doc,), bad, changed = imported(tmp_path, talk("<image>What?", f"It is {written} there."))
    assert not bad
    assert changed == {"box written as words, read as a grid of 0 to 999": 1}
    _, before, phrase, behind = doc.parts[1:]
    assert isinstance(phrase, Grounded)
    assert (before, behind.text) == (Text("It is ", role="assistant"), " there.")  # type: ignore[union-attr]
    (box,) = phrase.boxes
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((0.1, 0.2, 0.5, 0.6), abs=1e-3)


def test_a_box_in_tags_alone_is_what_was_asked(tmp_path: Path) -> None:
    row = talk("<image>Locate the kite.", "<box>(0,0),(999,500)</box><box>(0,0),(10,20)</box>")
    (doc,), _, _ = imported(tmp_path, row)
    assert told(doc)[-1] == "the kite [[0.0, 0.0, 64.0, 24.0], [0.0, 0.0, 0.6, 1.0]]"


@pytest.mark.parametrize(
    ("answer", "guess"),
    [
        ("[40, 30, 60, 44]", "pixels or a grid of 1000, which does not show"),
        ('{"bbox_2d": [40, 30, 60, 44], "label": "kite"}', "pixels or a grid of 1000, which does"),
        ("[0.1, 0.01, 0.4, 0.5]", "no convention that is known"),
        ("[0.7, 0.5, 0.4, 0.4]", "no convention that is known"),
        ("<box>(40,30),(60,1044)</box>", "no convention that is known"),
        ("<box>kite</box>", "no convention that is known"),
        ("The kite flies [0.42, 0.43, 0.72, 0.63] high.", PADDED),
    ],
)
def test_what_cannot_be_told_stays_in_words_and_is_counted(
    tmp_path: Path, answer: str, guess: str
) -> None:
    (doc,), bad, changed = imported(tmp_path, talk("<image>What?", answer))
    assert not bad
    assert doc.parts[-1] == Text(answer, role="assistant")
    (reason,) = changed
    assert reason.startswith(f"box written as words, left as words: {guess}")


def test_numbers_of_conversations_about_nothing_to_be_seen_are_words(tmp_path: Path) -> None:
    row = talk("Four numbers?", "[0.42, 0.43, 0.72, 0.63]", image=None)
    (doc,), bad, changed = imported(tmp_path, row)
    assert doc.text.endswith("[0.42, 0.43, 0.72, 0.63]")
    assert (bad, changed) == ({}, {})


def test_hostile_words_take_no_time(tmp_path: Path) -> None:
    texts = [
        "<ref>" * 50_000,
        "[1,2,3," * 50_000,
        "find a: " * 50_000,
        "<box>" * 50_000,
        "[" * 99_999,
    ]
    rows = [talk("<image>What?", text) for text in texts] + [
        talk(f"<image>{t}", "x") for t in texts
    ]
    docs, bad, _ = imported(tmp_path, *rows)
    assert (len(docs), bad) == (10, {})
