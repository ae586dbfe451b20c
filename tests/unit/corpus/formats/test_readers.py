"""Readers turn records into documents, name what they leave out, and never stop at a bad row."""

import json
from pathlib import Path

import pytest

from kosmos.boxes import Box
from kosmos.corpus.formats.config import FolderConfig
from kosmos.corpus.formats.table import FORMATS
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError
from kosmos.image.config import ImageConfig
from tests.unit.corpus.formats.sources import (
    PNG,
    grounded,
    outline,
    photos,
    png,
    read,
    write_rows,
    write_tar,
)

# --- text


def test_wikitext_article_is_a_document_without_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "wiki.txt"
    path.write_text(
        " \n = Crab = \n \n A crab walks . \n\n = = Legs = = \n Ten . \n = Eel = \n Wet . \n"
    )
    docs, _ = read("wikitext", path)
    assert [doc.text for doc in docs] == [
        "= Crab =\nA crab walks .\n= = Legs = =\nTen .",
        "= Eel =\nWet .",
    ]


def test_stretches_between_blank_lines_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "play.txt"
    path.write_bytes("All:\nSpeak.\n\n\nFirst:\nNo.\n\xff bad".encode("latin-1"))
    docs, tally = read("text", path)
    assert [doc.text for doc in docs] == ["All:\nSpeak.", "First:\nNo."]
    assert tally.counts("bad") == {"line that is not UTF-8": 1}


def test_jsonl_rows_without_text_are_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"text": "One.", "n": 3}, {"text": " "}, "{", "[1]")
    docs, tally = read("jsonl", path)
    assert [(doc.text, dict(doc.meta)) for doc in docs] == [("One.", {"n": 3})]
    assert tally.counts("bad") == {"no text": 1, "not JSON": 1, "not a JSON object": 1}
    assert [loss.where for loss in tally.losses] == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]


def test_folder_is_read_file_by_file_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_rows(tmp_path / f"{name}.jsonl", {"text": name})
    docs, _ = read("jsonl", tmp_path)
    assert [doc.text for doc in docs] == ["a", "b"]


@pytest.mark.parametrize("format_name", sorted(set(FORMATS) - {"vqa"}))
def test_missing_source_is_an_error_naming_it(format_name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read(format_name, tmp_path / "nowhere.json")


# --- pairs


def test_pairs_take_the_caption_from_either_member(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "s.tar",
        {
            "0.jpg": PNG,
            "0.txt": b"a dog\n",
            "1.png": PNG,
            "1.json": json.dumps({"caption": "a cat", "url": "u"}).encode(),
        },
    )
    docs, _ = read("pairs", path)
    assert [doc.text for doc in docs] == ["a dog", "a cat"]
    assert docs[1].meta == {"source": "1", "url": "u"}
    assert all(doc.images[0].source == PNG for doc in docs)


def test_broken_pairs_are_counted_by_reason(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "s.tar",
        {
            "a.png": PNG[: len(PNG) // 2],
            "a.txt": b"cut short",
            "b.txt": b"no picture",
            "c.png": PNG,
            "d.png": PNG,
            "d.json": b'{"caption": "x", "status": "failed_to_download"}',
            "e.png": PNG,
            "e.json": b"{",
            "f.png": PNG,
            "f.txt": b"good",
        },
    )
    docs, tally = read("pairs", path)
    assert [doc.text for doc in docs] == ["good"]
    assert tally.counts("bad") == {
        "picture does not decode": 1,
        "no picture": 1,
        "no caption": 1,
        "not JSON": 1,
    }
    assert tally.counts("left out") == {"not fetched by img2dataset": 1}


def test_tar_that_is_cut_is_an_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", {"a.png": PNG * 3})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"s\.tar: expected a whole tar"):
        read("pairs", path)


def test_coco_gives_a_document_per_caption_in_both_layouts(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    official = tmp_path / "captions.json"
    official.write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "p.png"}, {"id": 8, "file_name": "gone.png"}],
                "annotations": [
                    {"image_id": 7, "caption": "one"},
                    {"image_id": 7, "caption": "two "},
                    {"image_id": 8, "caption": "three"},
                ],
            }
        )
    )
    rows = write_rows(tmp_path / "rows.jsonl", {"file": "p.png", "captions": ["one", "two"]})
    docs, tally = read("coco", official)
    assert [(doc.id, doc.text, doc.meta["source"]) for doc in docs] == [
        ("p#0", "one", "p.png"),
        ("p#1", "two", "p.png"),
    ]
    assert tally.counts("left out") == {"no file of the picture": 1}
    assert [doc.text for doc in read("coco", rows)[0]] == ["one", "two"]
    references, _ = read("coco-references", official)
    assert references[0].meta["references"] == ["one", "two"]
    assert references[0].parts == (Image(tmp_path / "p.png"),)


# --- grit

CAPTION = "a red dog on a mat"


def grit(tmp_path: Path, spans: list[list[float]], **options: object) -> tuple[Document, Tally]:
    (tmp_path / "p.png").write_bytes(png(200, 100))
    row = {"file": "p.png", "caption": CAPTION, "id": 5, "noun_chunks": spans, "ref_exps": spans}
    path = write_rows(tmp_path / "g.jsonl", row)
    docs, tally = read("grit", path, **options)
    return docs[0], tally


def test_grit_spans_become_phrases_in_reading_order_and_offsets_may_be_floats(
    tmp_path: Path,
) -> None:
    mat, dog = [13.0, 18.0, 0.1, 0.6, 0.9, 0.9, 0.9], [0.0, 9.0, 0.2, 0.2, 0.5, 0.8, 0.7]
    doc, tally = grit(tmp_path, [mat, dog, dog])
    assert doc.parts[1:] == (
        Grounded("a red dog", [Box(0.2, 0.2, 0.5, 0.8)] * 2),
        Text(" on "),
        Grounded("a mat", [Box(0.1, 0.6, 0.9, 0.9)]),
    )
    assert not tally.losses


def test_grit_boxes_scored_low_or_outside_are_dropped_and_counted(tmp_path: Path) -> None:
    low, edge = [0, 9, 0.1, 0.1, 0.5, 0.5, 0.6499], [13, 18, -0.2, 0.5, 0.5, 1.2, 0.65]
    doc, tally = grit(tmp_path, [low, edge, [0, 9, 1.1, 0, 1.2, 1, 0.9]])
    assert doc.parts[-1] == Grounded("a mat", [Box(0.0, 0.5, 0.5, 1.0)])
    assert tally.counts("changed") == {
        "box scored under 0.65": 1,
        "box without area in the picture": 1,
    }


def test_grit_row_without_phrases_stays_a_plain_caption(tmp_path: Path) -> None:
    doc, tally = grit(tmp_path, [])
    assert doc.parts[1:] == (Text(CAPTION),)
    assert tally.counts("changed") == {"no phrase with a box": 1}


def test_grit_expressions_inside_others_go_but_not_those_in_a_hidden_one(tmp_path: Path) -> None:
    outer, inner = [0, 18, 0.0, 0.1, 0.1, 0.9, 1.0], [0, 9, 0.4, 0.4, 0.6, 0.6, 1.0]
    doc, tally = grit(tmp_path, [inner, outer])
    assert grounded(doc) == [(CAPTION, 1)]
    assert not tally.losses
    crop = ImageConfig(geometry="center-crop")  # the outer box lies in the left tenth: cropped away
    doc, tally = grit(tmp_path, [inner, outer], image=crop)
    assert grounded(doc) == [("a red dog", 1)]
    assert tally.counts("changed") == {"box outside the center crop": 1}


def test_grit_phrases_that_overlap_are_resolved_for_the_longer(tmp_path: Path) -> None:
    box = [0.1, 0.1, 0.5, 0.5, 1.0]
    doc, tally = grit(tmp_path, [[2, 9, *box], [6, 18, *box], [0, 5, *box]], grit_mode="phrase")
    assert grounded(doc) == [("a red", 1), ("dog on a mat", 1)]
    assert tally.counts("changed") == {"phrase that overlaps another": 1}


@pytest.mark.parametrize(
    "span", [[0, 99, 0, 0, 1, 1, 1], [3, 3, 0, 0, 1, 1, 1], [0, 1, 0, 0, 1, 1], [0, 1] + ["x"] * 5]
)
def test_grit_span_that_is_none_makes_the_row_bad(tmp_path: Path, span: list[float]) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    row = {"file": "p.png", "caption": CAPTION, "ref_exps": [span]}
    docs, tally = read("grit", write_rows(tmp_path / "g.jsonl", row))
    assert not docs
    assert tally.num_bad == 1


def test_grit_is_read_from_img2dataset_tars(tmp_path: Path) -> None:
    row = {"caption": CAPTION, "ref_exps": [[0, 9, 0.1, 0.1, 0.5, 0.5, 0.9]], "key": "1"}
    path = write_tar(tmp_path / "g.tar", {"1.jpg": PNG, "1.json": json.dumps(row).encode()})
    docs, _ = read("grit", path)
    assert grounded(docs[0]) == [("a red dog", 1)]


# --- mmc4


def page(matches: list[int], *, url: str = "u", num_sentences: int = 4) -> dict[str, object]:
    infos = [
        {"image_name": f"{number}.png", "matched_text_index": index}
        for number, index in enumerate(matches)
    ]
    sentences = [f"Sentence {index}." for index in range(num_sentences)]
    return {"url": url, "text_list": sentences, "image_info": infos}


def test_pictures_stand_before_the_sentence_they_were_matched_to(tmp_path: Path) -> None:
    config = {"images": photos(tmp_path / "p", 3)}
    docs, _ = read("mmc4", write_rows(tmp_path / "m.jsonl", page([2, 0, 2])), **config)
    assert outline(docs[0]) == ["1", "Sentence 0. Sentence 1.", "0", "2", "Sentence 2. Sentence 3."]


def test_edge_sentences_limit_the_text_outside_the_pictures(tmp_path: Path) -> None:
    config = {"images": photos(tmp_path / "p", 2), "edge_sentences": 1}
    row = page([2, 3], num_sentences=7)
    docs, _ = read("mmc4", write_rows(tmp_path / "m.jsonl", row), **config)
    assert outline(docs[0]) == ["Sentence 1.", "0", "Sentence 2.", "1", "Sentence 3."]


def test_pages_keep_five_pictures_of_those_that_are_there(tmp_path: Path) -> None:
    config = {"images": photos(tmp_path / "p", 8)}
    (tmp_path / "p" / "0.png").write_bytes(png(63, 80))
    (tmp_path / "p" / "1.png").write_bytes(png(flat=True))
    (tmp_path / "p" / "2.png").unlink()
    rows = write_rows(tmp_path / "m.jsonl", page([0] * 9), page([0] * 3, url="v"))
    docs, tally = read("mmc4", rows, **config)
    assert outline(docs[0])[:5] == ["3", "4", "5", "6", "7"]
    assert tally.counts("changed") == {
        "picture with a side under 64 px": 2,
        "picture of a single color": 2,
        "no file of the picture": 2,
        "picture behind the first 5": 1,
    }
    assert tally.counts("left out") == {"page without a picture": 1}


def test_half_of_the_single_picture_pages_stay_and_always_the_same(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "m.jsonl", *(page([1], url=f"u{n}") for n in range(200)))
    config = {"images": photos(tmp_path / "p", 1), "seed": 3}
    first, tally = read("mmc4", rows, **config)
    assert 75 < len(first) < 125
    assert len(first) + len(tally.losses) == 200
    assert [doc.id for doc in read("mmc4", rows, **config)[0]] == [doc.id for doc in first]
    everything = {"images": str(tmp_path / "p"), "single_image_share": 1.0}
    assert len(read("mmc4", rows, **everything)[0]) == 200


def test_assigned_pictures_are_taken_in_order_and_again_from_the_first(tmp_path: Path) -> None:
    config = {"images": photos(tmp_path / "p", 2), "assign_images": True}
    row = page([0, 1, 2])
    row["image_info"][0]["image_name"] = "anything.jpg"  # type: ignore[index]
    docs, _ = read("mmc4", write_rows(tmp_path / "m.jsonl", row), **config)
    assert [Path(str(image.source)).stem for image in docs[0].images] == ["0", "1", "0"]


def test_assigning_without_a_folder_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="assign_images"):
        FolderConfig(assign_images=True)


def test_malformed_pages_are_bad(tmp_path: Path) -> None:
    rows: list[object] = [page([9]), {"text_list": "x"}, {"text_list": ["x"]}]
    _, tally = read("mmc4", write_rows(tmp_path / "m.jsonl", *rows))
    assert tally.counts("bad") == {
        "picture matched to no sentence": 1,
        "no text_list": 1,
        "no image_info": 1,
    }


# --- instructions


def test_triplets_put_loss_on_outputs_alone(tmp_path: Path) -> None:
    rows = write_rows(
        tmp_path / "i.jsonl",
        {"instruction": "Add.", "instances": [{"input": "1 1", "output": "2"}, {"output": "?"}]},
        {"instruction": "Say hi.", "input": "", "output": "hi"},
        {"prompt": "Q", "completion": "A<|endoftext|>"},
        {"instruction": "Nothing.", "output": ""},
        {"output": "x"},
        {"instruction": "y", "instances": []},
    )
    docs, tally = read("instructions", rows)
    assert [[part.text for part in doc.parts if isinstance(part, Text)] for doc in docs] == [
        ["Add.\n1 1", "2"],
        ["Add.", "?"],
        ["Say hi.", "hi"],
        ["Q", "A"],
    ]
    for doc in docs:
        asked, answer = doc.parts
        assert isinstance(asked, Text)
        assert isinstance(answer, Text)
        assert (asked.role, asked.loss) == ("user", False)
        assert (answer.role, answer.loss) == ("assistant", True)
    assert tally.counts("bad") == {"no output": 1, "no instruction": 1, "no instances": 1}


def test_alpaca_is_one_json_list(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps([{"instruction": "a", "input": "b", "output": "c"}, 3]))
    docs, tally = read("instructions", path)
    assert docs[0].text == "a\nbc"
    assert tally.counts("bad") == {"not a JSON object": 1}


# --- test sets


def test_refcoco_boxes_become_fractions(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    row = {
        "file": "p.png",
        "expression": "left dog",
        "width": 80,
        "height": 70,
        "bbox_xyxy": [8, 7, 40, 77],
    }
    rows = write_rows(tmp_path / "r.jsonl", row, {**row, "bbox_xyxy": [9, 9, 9, 9]})
    docs, tally = read("refcoco", rows)
    assert docs[0].meta["box"] == pytest.approx([0.1, 0.1, 0.5, 1.0])
    assert tally.num_bad == 1


def test_vqa_joins_the_official_files(tmp_path: Path) -> None:
    (tmp_path / "COCO_val2014_000000000042.jpg").write_bytes(PNG)
    question = {"image_id": 42, "question": "Which?", "question_id": 420}
    (tmp_path / "questions.json").write_text(json.dumps({"questions": [question]}))
    answers = [{"answer": "yes", "answer_id": n} for n in range(1, 11)]
    annotation = {"question_id": 420, "answers": answers}
    (tmp_path / "annotations.json").write_text(json.dumps({"annotations": [annotation]}))
    docs, _ = read("vqa", tmp_path)
    assert docs[0].id == "420"
    assert docs[0].meta["answers"] == ["yes"] * 10
    assert docs[0].meta["question"] == "Which?"
