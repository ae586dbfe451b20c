"""Both published extractions, quirks included."""

import json
from pathlib import Path

import pytest

from kosmos.boxes import Box
from kosmos.text.entities import hf_entities, release_entities

OBJECT = "<object><patch_index_0001><patch_index_0034></object>"
CORNERS = (0.046875, 0.015625, 0.078125, 0.046875)
PSEUDO = "<patch_index_1><patch_index_34>"

# computed with the Hugging Face processor; one case for each quirk
PUBLISHED = [
    ("<phrase> a</phrase><phrase> b</phrase>" + OBJECT, "a b", [("b", (2, 3), [CORNERS])]),
    ("<phrase> a</phrase> " + OBJECT, "a", [(PSEUDO, (2, 2), [CORNERS])]),
    ("see" + OBJECT + " here", "see here", [(PSEUDO, (3, 3), [CORNERS])]),
    ("<phrase> a</phrase><object><patch_index_0001></object> x", "a x", []),
    ("<phrase> a</phrase><object></object> x", "a x", []),
    ("<phrase> </phrase>" + OBJECT + "z", "z", [("", (0, -1), [CORNERS])]),
    ("<phrase></phrase>" + OBJECT, "", [(PSEUDO, (0, 0), [CORNERS])]),
    ("I <3 you<phrase> a</phrase>" + OBJECT, "I  a", [("a", (3, 4), [CORNERS])]),
    ("a < b<phrase> a</phrase>" + OBJECT, "a  a", [("a", (3, 4), [CORNERS])]),
    ("line1\n<phrase> a\nb</phrase>" + OBJECT, "line1\n a\nb", [("a\nb", (7, 10), [CORNERS])]),
    (
        "  <grounding>  two spaces<phrase>  a dog </phrase>" + OBJECT + "  ",
        "two spaces  a dog",
        [("a dog", (12, 17), [CORNERS])],
    ),
    (
        "x</image><image>y</image>  <grounding> Hi<phrase> a</phrase>" + OBJECT,
        "Hi a",
        [("a", (3, 4), [CORNERS])],
    ),
    (
        "<phrase> big box</phrase><object><patch_index_2000><patch_index_0010></object>",
        "big box",
        [("big box", (0, 7), [(0.515625, 1.953125, 0.328125, 0.015625)])],
    ),
    (
        "see<object><patch_index_0001><patch_index_0034></delimiter_of_multi_objects/>"
        "<patch_index_0100><patch_index_0200></object> here",
        "see here",
        [
            (PSEUDO, (3, 3), [CORNERS]),
            (
                "<patch_index_100><patch_index_200>",
                (3, 3),
                [(0.140625, 0.109375, 0.265625, 0.203125)],
            ),
        ],
    ),
]


@pytest.mark.parametrize(("text", "caption", "entities"), PUBLISHED)
def test_hugging_face_quirks_are_exact(text: str, caption: str, entities: list[object]) -> None:
    assert hf_entities(text) == (caption, entities)


def test_all_golden_entities_are_reproduced(shared_data: Path) -> None:
    path = shared_data.parent / "spec" / "golden" / "entities.json"
    if not path.exists():
        pytest.skip("golden entities are not staged")
    cases = json.loads(path.read_text())
    for case in cases:
        assert json.loads(json.dumps(hf_entities(case["text"]))) == case["hf"]
    assert len(cases) == 23


def test_the_published_decoding_is_reproduced(shared_data: Path) -> None:
    published = json.loads((shared_data / "kosmos2/golden/published_dev.json").read_text())
    for case in published["decode_cases"]:
        caption, entities = hf_entities(case["processed"])
        assert caption == case["final"]
        assert json.loads(json.dumps(entities)) == case["entities"]


def test_the_release_keeps_spaces_and_gives_a_row_for_each_box() -> None:
    text = (
        "a<phrase> dogs</phrase><object><patch_index_0044><patch_index_0863>"
        "</delimiter_of_multi_objects/><patch_index_0005><patch_index_0911></object> and" + OBJECT
    )
    assert release_entities(text) == [
        (" dogs", Box(0.390625, 0.046875, 0.984375, 0.828125)),
        (" dogs", Box(0.171875, 0.015625, 0.484375, 0.890625)),
        ("<0001><0034>", Box(*CORNERS)),
    ]


def test_real_expressions_decode_as_in_the_release(shared_data: Path) -> None:
    path = shared_data / "grounding" / "golden" / "boxes_dev.jsonl"
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows = [
            [name, box.x0, box.y0, box.x1, box.y1] for name, box in release_entities(row["text"])
        ]
        assert rows == row["official_decode"]
