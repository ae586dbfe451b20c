"""Answers as others read them: JSON, COCO as pycocotools reads it, SVG."""

import contextlib
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.generate.export import (
    NO_PHRASE,
    Pictured,
    coco_results,
    located_span,
    replies_to_coco,
    reply_marks,
    reply_to_json,
    reply_to_svg,
)
from kosmos.generate.reply import GroundedSpan, Reply
from kosmos.image.labels import Mark
from tests.strategies import boxes

PICTURE = PIL.Image.new("RGB", (200, 100), "#446688")


def span_of(text: str, *found: Box, sure: float = 0.5, size=(200, 100)) -> GroundedSpan:
    width, height = size
    return GroundedSpan(
        text=text,
        boxes=found,
        start=0,
        end=len(text),
        image_index=0,
        boxes_px=tuple(box.to_pixels(width=width, height=height) for box in found),
        locations=((0, 10),) * len(found),
        logprobs=(-1.0,) * len(found),
        confidence=(sure,) * len(found),
        guaranteed_ious=(0.25,) * len(found),
    )


def coco_of(dataset: dict) -> COCO:
    """What pycocotools makes of it."""
    read = COCO()
    read.dataset = json.loads(json.dumps(dataset))
    with contextlib.redirect_stdout(io.StringIO()):
        read.createIndex()
    return read


A, B = Box(0.1, 0.2, 0.5, 0.6), Box(0.0, 0.0, 1.0, 1.0)


def test_a_reply_is_json_with_all_that_is_known_of_its_boxes():
    reply = Reply(
        text="a dog",
        grounded=(span_of("a dog", A, B),),
        token_ids=(5, 2),
        logprob=-1.5,
        token_logprobs=(-1.0, -0.5),
        markup="<phrase> a dog</phrase>",
        dropped=("why",),
        finish="stop",
    )
    found = json.loads(json.dumps(reply_to_json(reply)))
    (row,) = found.pop("grounded")
    assert found == {
        "text": "a dog",
        "markup": "<phrase> a dog</phrase>",
        "token_ids": [5, 2],
        "logprob": -1.5,
        "token_logprobs": [-1.0, -0.5],
        "finish": "stop",
        "dropped": ["why"],
    }
    assert row["boxes"] == [[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0]]
    assert row["boxes_px"] == [[20.0, 20.0, 100.0, 60.0], [0.0, 0.0, 200.0, 100.0]]
    lists = ("boxes", "boxes_px", "confidence", "logprobs", "locations", "guaranteed_ious")
    assert {len(row[name]) for name in lists} == {2}


# --- COCO


def test_a_data_set_has_images_categories_and_boxes_in_pixels():
    dataset = replies_to_coco(
        [
            Pictured("a.jpg", 200, 100, [span_of("a dog", A, B), span_of("it", A)]),
            Pictured("b.jpg", 400, 300, [span_of("a dog", B, size=(400, 300))]),
            Pictured("a.jpg", 200, 100, [span_of("", B)]),
        ]
    )
    assert [row["file_name"] for row in dataset["images"]] == ["a.jpg", "b.jpg"]
    assert [row["name"] for row in dataset["categories"]] == ["a dog", "it", NO_PHRASE]
    first = dataset["annotations"][0]
    assert first["bbox"] == [20.0, 20.0, 80.0, 40.0]
    assert first["area"] == 3200.0
    assert first["score"] == 0.5
    assert [row["image_id"] for row in dataset["annotations"]] == [1, 1, 1, 2, 1]
    assert [row["category_id"] for row in dataset["annotations"]] == [1, 1, 2, 1, 3]


@st.composite
def pictured(draw: st.DrawFn) -> list[Pictured]:
    rows = []
    for index in range(draw(st.integers(1, 3))):
        size = (draw(st.integers(100, 500)), draw(st.integers(100, 500)))
        spans = [
            span_of(
                draw(st.sampled_from(["a dog", "it", "\u72d7", ""])),
                *draw(st.lists(boxes(min_side=0.1), max_size=3)),
                sure=draw(st.floats(0.01, 1.0)),
                size=size,
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        rows.append(Pictured(f"{index}.jpg", *size, spans))
    return rows


@given(pictured())
def test_pycocotools_reads_the_data_set_and_every_id_leads_somewhere(rows: list[Pictured]) -> None:
    coco = coco_of(replies_to_coco(rows))
    assert len(coco.anns) == sum(len(span.boxes) for row in rows for span in row.spans)
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        assert annotation["category_id"] in coco.cats
        x, y, width, height = annotation["bbox"]
        assert annotation["area"] == pytest.approx(width * height)
        assert width > 0
        assert height > 0
        assert -1e-9 <= x <= x + width <= image["width"] + 1e-9
        assert -1e-9 <= y <= y + height <= image["height"] + 1e-9


def test_results_score_full_marks_against_the_same_boxes():
    rows = [
        Pictured("a.jpg", 200, 100, [span_of("a dog", A, sure=0.9), span_of("it", B)]),
        Pictured("b.jpg", 400, 300, [span_of("a dog", B, size=(400, 300))]),
    ]
    truth = coco_of(replies_to_coco(rows))
    results = coco_results(
        rows,
        image_ids={row["file_name"]: row["id"] for row in truth.imgs.values()},
        category_ids={row["name"]: row["id"] for row in truth.cats.values()},
    )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_results_keep_what_the_truths_know():
    rows = [Pictured("a.jpg", 200, 100, [span_of("a dog", A), span_of("it", B)])]
    found = coco_results(rows, image_ids={"a.jpg": 42}, category_ids={"it": 7})
    assert found == [
        {"image_id": 42, "category_id": 7, "bbox": [0.0, 0.0, 200.0, 100.0], "score": 0.5}
    ]
    with pytest.raises(DataError, match=r"a\.jpg"):
        coco_results(rows, image_ids={}, category_ids={})


# --- drawing


def test_a_box_said_twice_is_drawn_once():
    spans = [span_of("a dog", A), span_of("a dog", A), span_of("it", A)]
    assert list(reply_marks(spans)) == [Mark(A, "a dog"), Mark(A, "it")]
    shown = reply_marks([span_of("a dog", A, sure=0.4), span_of("", B)], show_confidence=True)
    assert shown == {
        Mark(A, "a dog 0.40"): "a dog, 40% sure",
        Mark(B, "0.50"): f"{NO_PHRASE}, 50% sure",
    }


def test_an_svg_tells_each_box_and_how_sure_it_is():
    said = reply_to_svg([span_of("a <dog>", A, sure=0.413)], PICTURE, title="a <dog> & it")
    root = ET.fromstring(said)
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["a <dog> & it", "a <dog>, 41% sure", "a <dog>, 41% sure"]


def test_located_boxes_are_exported_as_a_phrase_is(generator, pictures):
    found = generator.locate(pictures[0], "a dog", k=3)
    span = located_span("a dog", found)
    assert span.boxes == tuple(item.box for item in found)
    assert span.confidence == tuple(item.confidence for item in found)
    width, height = pictures[0].size
    (row,) = [replies_to_coco([Pictured("a", width, height, [span])])["annotations"][:1]]
    assert row[0]["score"] == found[0].confidence
    assert np.allclose(row[0]["bbox"][:2], found[0].box_px[:2])
    with pytest.raises(DataError, match="'a dog'"):
        located_span("a dog", [])
