"""One bad record costs itself: good records with anything in them changed never end an import."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.corpus.formats.table import FORMATS, make_config
from kosmos.corpus.formats.tally import Tally
from kosmos.document.shards import ShardWriter
from tests.unit.corpus.formats.sources import PNG, read, write_rows, write_tar

NAME = "kite.png"
SPANS = [[0, 5, 0.1, 0.1, 0.5, 0.5, 1.0]]
GRIT = {"file": NAME, "caption": "a dog", "width": 80, "height": 70, "ref_exps": SPANS, "id": 3}
ASKED = {"file": NAME, "question": "What?", "question_id": 7, "answers": [{"answer": "a dog"}, "x"]}
BOX = {"phrase": "a dog", "start": 0, "box": [1, 2, 30, 40]}
CAPTIONS = {"file": NAME, "captions": ["a dog", "a cat"]}
SWIFT = {
    "messages": [
        {"role": "user", "content": "<image>Where is the <ref-object>?"},
        {"role": "assistant", "content": "<bbox>"},
    ],
    "images": [NAME],
    "width": 80,
    "height": 70,
    "objects": {"ref": ["blue tile"], "bbox": [[4, 5, 40, 30]], "image_id": [0]},
}
ROWS: dict[str, dict[str, Any]] = {
    "jsonl": {"text": "One.", "n": 3},
    "coco": CAPTIONS,
    "coco-references": CAPTIONS,
    "grit": GRIT,
    "grit-instructions": GRIT,
    "boxes": {
        "file": NAME,
        "boxes": "xyxy-pixels",
        "caption": "a dog",
        "width": 80,
        "height": 70,
        "objects": [BOX],
    },
    "questions": ASKED,
    "vqa": {**ASKED, "image_id": 42},
    "refcoco": {
        "file": NAME,
        "expression": "a dog",
        "width": 80,
        "height": 70,
        "bbox_xyxy": [1, 2, 30, 40],
    },
    "mmc4": {
        "url": "https://host/page",
        "text_list": ["A dog."],
        "image_info": [{"image_name": NAME, "matched_text_index": 0}],
    },
    "obelics": {
        "images": [f"https://host/{NAME}", None],
        "texts": [None, "A dog."],
        "general_metadata": '{"url": "https://host/page"}',
    },
    "instructions": {
        "instruction": "Name it {INPUT}.",
        "instances": [{"input": "1", "output": "2", "instruction_with_input": "x"}],
        "reformulations": [{"instruction": "Of {INPUT}", "input": "1", "output": "2"}],
    },
    "llava": SWIFT,
}
VALUES = st.sampled_from(
    [
        *(None, math.nan, math.inf, -1, 0, 0.5, True, "", "x", [], {}, ["x"], {"x": 1}, [[None]]),
        *(10**400, -(10**300), 1e308, "9" * 400, "y" * 5000, "\ud800", "a\0b", "../a.png", "/"),
        *("http://[x", "[", "{", "<bbox>", "<image>", "[0.1, 0.2, 0.3, 0.4]", "[" * 50_000),
    ]
)
DEEP = "[" * 50_000 + "]" * 50_000


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to every value in a value."""
    items: list[tuple[object, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(p for key, inner in items for p in places(inner, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn, row: dict[str, Any]) -> str:
    """A row with one or two values changed or gone, as a line of JSON."""
    row = copy.deepcopy(row)
    deep = False
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.sampled_from(places(row)[1:]))
        holder: Any = row
        for key in way[:-1]:
            holder = holder[key]
        kind = draw(st.sampled_from(["drop", "deep", "value", "value", "value"]))
        if kind == "drop":
            del holder[way[-1]]
        else:
            deep = deep or kind == "deep"
            holder[way[-1]] = "DEEP" if kind == "deep" else copy.deepcopy(draw(VALUES))
        if len(places(row)) == 1:
            break
    return json.dumps(row).replace('"DEEP"', DEEP) if deep else json.dumps(row)


@pytest.mark.parametrize("format_name", ROWS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_changed_record_is_kept_or_counted_and_its_neighbors_stay(
    format_name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("m")
    (folder / NAME).write_bytes(PNG)
    good = json.dumps(ROWS[format_name])
    lines = [good, *data.draw(st.lists(mutated(ROWS[format_name]), min_size=1, max_size=4)), good]
    source = write_rows(folder / "a.jsonl", *lines)
    values = {"single_image_share": 1.0} if format_name in ("mmc4", "obelics") else {}
    tally = Tally()
    docs = list(FORMATS[format_name].read(source, make_config(format_name, values=values), tally))
    assert tally.num_documents == len(docs)
    of_one = len(read(format_name, write_rows(folder / "b.jsonl", good), **values)[0])
    assert of_one > 0
    # the first and the last are there, whatever stands between them
    assert len(docs) >= 2 * of_one
    if len(docs) == 2 * of_one:
        assert tally.losses


def test_the_values_of_the_fault_list_are_counted_each(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(PNG)
    cases: dict[str, list[str]] = {
        "obelics": [json.dumps({**ROWS["obelics"], "images": ["http://[x", None]})],
        "mmc4": [
            json.dumps(
                {**ROWS["mmc4"], "image_info": [{"image_name": NAME, "matched_text_index": v}]}
            )
            for v in (math.nan, None, 10**300, 0.5)
        ],
        "questions": [
            json.dumps({"image_id": v, "question": "a", "answer": "b"}) for v in (None, 10**300)
        ],
        "coco": [json.dumps({"file": "x" * 300, "caption": "a"}), DEEP, '{"file": "\\ud800"}'],
    }
    for format_name, lines in cases.items():
        source = write_rows(tmp_path / "a.jsonl", *lines)
        docs, tally = read(format_name, source)
        assert not docs
        lost = len({loss.where.partition(": ")[0] for loss in tally.losses})
        assert lost == len(lines), format_name


def test_one_bad_entry_of_an_official_file_costs_itself(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(PNG)
    images: list[object] = [{"id": 1, "file_name": NAME}, {"id": None}, "x", {"id": [2]}]
    annotations: list[object] = [
        {"image_id": 1, "caption": "a dog"},
        {"image_id": None, "caption": "x"},
        {"image_id": {"x": 1}, "caption": "x"},
        {"image_id": 9, "caption": "x"},
        None,
    ]
    source = tmp_path / "captions.json"
    source.write_text(json.dumps({"images": images, "annotations": annotations}))
    docs, tally = read("coco", source)
    assert [doc.text for doc in docs] == ["a dog"]
    assert tally.counts("bad") == {"not a JSON object": 2, "no image_id": 2, "no id": 2}
    assert tally.counts("left out") == {"image_id that no entry has": 1}


def test_members_of_tars_that_hold_anything_cost_themselves(tmp_path: Path) -> None:
    members: dict[str, bytes] = {"good.png": PNG, "good.json": json.dumps(GRIT).encode()}
    for number, value in enumerate((math.nan, None, ["x"], 10**400, "\ud800", {"x": 1})):
        members[f"{number}.png"] = PNG
        members[f"{number}.json"] = json.dumps({**GRIT, "ref_exps": value}).encode()
    source = write_tar(tmp_path / "a.tar", members)
    docs, tally = read("grit", source)
    assert (len(docs), tally.num_bad) == (1, 6)


def test_what_readers_make_of_changed_records_can_be_stored(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(PNG)
    rows = [{**GRIT, "id": value} for value in (None, math.nan, ["x"], 10**300, "", True, 5.0)]
    docs, _ = read("grit", write_rows(tmp_path / "a.jsonl", *rows))
    assert len(docs) == len(rows)
    with ShardWriter(tmp_path / "out", provenance={}) as writer:
        for doc in docs:
            writer.write(doc)
