"""What is no text never becomes text to train on, nor gold to measure with."""

import json
import math
from pathlib import Path

import pytest

from tests.unit.corpus.formats.sources import PNG, read, write_parquet, write_rows, write_tar

NO_TEXT = (None, math.nan, ["x"], {"x": "y"}, True, " ")
KITE = {"file": "kite.png"}


@pytest.fixture(autouse=True)
def kite(tmp_path: Path) -> None:
    (tmp_path / "kite.png").write_bytes(PNG)


@pytest.mark.parametrize("format_name", ["coco", "coco-references"])
def test_captions_that_are_no_text_are_bad_each(tmp_path: Path, format_name: str) -> None:
    rows = [{**KITE, "captions": ["a kite", *NO_TEXT]}, {**KITE, "captions": [None, math.nan]}]
    docs, tally = read(format_name, write_rows(tmp_path / "a.jsonl", *rows))
    said = [doc.meta.get("references", [doc.text]) for doc in docs]
    assert said == [["a kite"]]
    assert tally.counts("bad") == {"no caption": 8}
    official = {
        "images": [{"id": 1, "file_name": "kite.png"}],
        "annotations": [{"image_id": 1, "caption": value} for value in ("a kite", *NO_TEXT)],
    }
    (tmp_path / "captions.json").write_text(json.dumps(official))
    docs, tally = read(format_name, tmp_path / "captions.json")
    assert [doc.meta.get("references", [doc.text]) for doc in docs] == [["a kite"]]
    assert tally.counts("bad") == {"no caption": 6}


def test_answers_that_are_no_text_are_bad_each(tmp_path: Path) -> None:
    asked = {**KITE, "question": "How many?"}
    rows = [
        {**asked, "answers": [2, 2.0, "2", 2.5, math.nan, math.inf, None, ["x"], True]},
        {**asked, "answers": [{"answer": "two"}, {"answer": math.nan}, {"said": "x"}]},
        {**asked, "answer": math.nan},
        {**asked, "answer": None},
    ]
    source = write_rows(tmp_path / "q.jsonl", *rows)
    docs, tally = read("vqa", source)
    assert [doc.meta["answers"] for doc in docs] == [["2", "2", "2", "2.5"], ["two"]]
    lost = {"answer that is no text": 8, "no question or answers": 1}
    assert tally.counts("bad") == lost
    docs, tally = read("questions", source)
    assert [doc.text.rpartition(" ")[2] for doc in docs] == ["2", "two"]
    assert tally.counts("bad") == lost


def test_names_of_categories_that_are_no_text_are_no_phrases(tmp_path: Path) -> None:
    names = ["kite", *NO_TEXT]
    annotations = [
        {"image_id": 1, "category_id": n, "bbox": [1, 1, 9, 9]} for n in range(len(names) + 1)
    ]
    value = {
        "images": [{"id": 1, "file_name": "kite.png"}],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
    }
    (tmp_path / "instances.json").write_text(json.dumps(value))
    docs, tally = read("boxes", tmp_path / "instances.json")
    assert [doc.text for doc in docs] == ["kite"]
    assert tally.counts("bad") == {"box of no category": 7}


def test_captions_of_tars_and_tables_that_are_no_text_are_bad(tmp_path: Path) -> None:
    members = {
        "a.png": PNG,
        "a.txt": b"\xff\xfe\x00 caf\xe9",
        "b.png": PNG,
        "b.txt": b"caf\xc3\xa9",
    }
    for number, value in enumerate(NO_TEXT):
        members[f"{number}.png"] = PNG
        members[f"{number}.json"] = json.dumps({"caption": value}).encode()
    docs, tally = read("pairs", write_tar(tmp_path / "a.tar", members))
    assert [doc.text for doc in docs] == ["café"]
    assert tally.num_bad == 7
    rows: list[dict[str, object]] = [{"jpg": PNG, "caption": value} for value in (1.5, math.nan)]
    docs, tally = read("pairs", write_parquet(tmp_path / "a.parquet", rows))
    assert (docs, tally.num_bad) == ([], 2)


@pytest.mark.parametrize("value", NO_TEXT)
def test_rows_whose_words_are_no_text_are_bad_in_every_format(
    tmp_path: Path, value: object
) -> None:
    spans = [[0, 1, 0.1, 0.1, 0.5, 0.5, 1.0]]
    rows: dict[str, list[dict[str, object]]] = {
        "jsonl": [{"text": value}],
        "instructions": [
            {"instruction": value, "output": "x"},
            {"instruction": "x", "output": value},
            {"inputs": "x", "targets": value},
        ],
        "llava": [
            {"instruction": "What?", "output": value},
            {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": value}]},
        ],
        "grit": [{**KITE, "caption": value, "ref_exps": spans}],
        "refcoco": [{**KITE, "expression": value, "bbox_xyxy": [1, 1, 9, 9]}],
        "boxes": [{**KITE, "phrase": value, "box": [1, 1, 9, 9], "boxes": "xyxy-pixels"}],
        "questions": [{**KITE, "question": value, "answer": "x"}],
        "mmc4": [{"text_list": ["One.", value], "image_info": []}],
        "obelics": [{"texts": [value], "images": [None], "metadata": "[null]"}],
    }
    for format_name, of_format in rows.items():
        source = write_rows(tmp_path / f"{format_name}.jsonl", *of_format)
        docs, tally = read(format_name, source)
        assert not docs
        if value != " " or format_name not in ("mmc4", "obelics"):
            is_page = format_name in ("mmc4", "obelics") and value is None
            assert tally.num_bad == len(of_format) or is_page, format_name
