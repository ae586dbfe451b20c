"""VQA answers have their official normal form and their official accuracy."""

import json
from pathlib import Path

import pytest

from kosmos.evaluate.metrics.vqa import normalize_answer, vqa_accuracy

NORMAL = {
    "The two dogs, obviously!": "2 dogs obviously",
    "1,000 people/day": "1000 peopleday",  # a comma between digits: marks vanish
    "t-shirt/top": "t shirt top",
    "red , blue": "red blue",
    "none": "0",
    "dont": "don't",
    "couldnt've": "couldn't've",
    "3.5 km.": "3.5 km",
    " An apple\n": "apple",
    "a the": "",
}


@pytest.mark.parametrize("raw", NORMAL)
def test_normal_form(raw: str) -> None:
    assert normalize_answer(raw) == NORMAL[raw]


def test_three_of_ten_people_make_an_answer_right() -> None:
    people = ["red"] * 3 + ["blue"] * 6 + ["green"]
    assert vqa_accuracy("blue", people) == pytest.approx(1.0)
    # leaving each person out in turn: 7 times 3 agree, 3 times 2
    assert vqa_accuracy("Red.", people) == pytest.approx((7 * 1.0 + 3 * 2 / 3) / 10)
    assert vqa_accuracy("green", people) == pytest.approx((9 * 1 / 3 + 0) / 10)
    assert vqa_accuracy("pink", people) == 0.0


def test_nothing_is_normalized_where_all_people_agree() -> None:
    assert vqa_accuracy("a subway!", ["subway"] * 10) == 0.0
    assert vqa_accuracy("subway", ["subway"] * 10) == 1.0


def test_one_right_answer_is_exact_match_in_normal_form() -> None:
    assert vqa_accuracy(" Two. ", ["2"]) == 1.0
    assert vqa_accuracy("three", ["2"]) == 0.0


def test_official_normal_forms(shared_data: Path) -> None:
    lines = (shared_data / "vqa/golden/normalisation_dev.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) > 100
    assert [normalize_answer(row["raw"]) for row in rows] == [row["norm"] for row in rows]


@pytest.mark.parametrize("name", ["textvqa", "vizwiz"])
def test_official_accuracies(shared_data: Path, name: str) -> None:
    golden = json.loads((shared_data / f"vqa/golden/{name}_dev.json").read_text())
    answers = {}
    for line in (shared_data / f"vqa/{name}_val_dev.jsonl").read_text().splitlines():
        row = json.loads(line)
        answers[str(row["question_id"])] = row["answers"]
    for question, said in golden["predictions"].items():
        found = 100 * vqa_accuracy(said, answers[question])
        assert found == pytest.approx(golden["per_question"][question], abs=0.006), question
