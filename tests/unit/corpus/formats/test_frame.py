"""Boxes lie where the thing is seen, or are counted; and no box costs another."""

import io
import json
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.corpus.formats.frame import OTHER_SIZE, Frame, numbers, whole_number
from kosmos.corpus.formats.pictures import Picture
from kosmos.document.types import Document, Grounded, Image
from kosmos.image.codec import decode, image_size
from tests.strategies import boxes
from tests.unit.corpus.formats.sources import PNG, read, write_rows

SQUARE = (35, 5, 45, 15)
"""What is red in the stored picture, in its pixels."""


def lying(turn: int, size: tuple[int, int] = (100, 40)) -> bytes:
    """A JPEG that EXIF turns, with a red square."""
    picture = PIL.Image.new("RGB", size, "white")
    picture.paste("red", SQUARE)
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


def red_share(box: Box, data: bytes) -> float:
    """How much of what a box shows of the picture as it is seen is red."""
    picture = decode(data, max_pixels=10**6)
    corners = [round(v) for v in box.to_pixels(width=picture.width, height=picture.height)]
    red, green, _ = np.moveaxis(np.asarray(picture.crop(corners)).astype(int), -1, 0)
    return float((red - green > 100).mean())


def boxes_of(docs: list[Document]) -> list[Box]:
    gold = [doc.meta["box"] for doc in docs if "box" in doc.meta]
    parts = [part for doc in docs for part in doc.parts if isinstance(part, Grounded)]
    return [box for part in parts for box in part.boxes] + [Box(*box) for box in gold]  # type: ignore[misc]


def row(format_name: str, box: tuple[float, ...], **size: object) -> dict[str, object]:
    """A row of a format that states the size of its picture."""
    if format_name == "refcoco":
        return {"file": "p.jpg", "expression": "it", "bbox_xyxy": list(box), **size}
    if format_name == "boxes":
        said = {"phrase": "it", "box": list(box), "convention": "xyxy-pixels"}
        return {"file": "p.jpg", **said, **size}
    width, height = (float(str(size[name])) for name in ("width", "height"))
    parts = [n / side for n, side in zip(box, (width, height) * 2, strict=True)]
    return {"file": "p.jpg", "caption": "it", "ref_exps": [[0, 2, *parts, 1.0]], **size}


FORMATS = ("boxes", "grit", "refcoco")


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format_name", FORMATS)
def test_boxes_of_a_picture_as_it_is_stored_are_turned_with_it(
    tmp_path: Path, format_name: str, turn: int
) -> None:
    data = lying(turn)
    (tmp_path / "p.jpg").write_bytes(data)
    source = write_rows(tmp_path / "a.jsonl", row(format_name, SQUARE, width=100, height=40))
    docs, tally = read(format_name, source)
    (box,) = boxes_of(docs)
    assert red_share(box, data) > 0.9
    if turn == 6:
        assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((0.625, 0.35, 0.875, 0.45))
    assert sum(tally.counts("changed").values()) == (turn != 1)


@pytest.mark.parametrize("format_name", FORMATS)
def test_boxes_of_a_picture_as_it_is_seen_stay(tmp_path: Path, format_name: str) -> None:
    (tmp_path / "p.jpg").write_bytes(lying(6))
    seen = (25, 35, 35, 45)
    source = write_rows(tmp_path / "a.jsonl", row(format_name, seen, width=40, height=100))
    docs, tally = read(format_name, source)
    (box,) = boxes_of(docs)
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((0.625, 0.35, 0.875, 0.45))
    assert not tally.losses


@pytest.mark.parametrize(
    "size", [(90, 40), (100, 100), (0, 40), (100.5, 40), ("x", 40), (None, 40)]
)
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_size_that_is_not_the_pictures_makes_the_row_bad(
    tmp_path: Path, format_name: str, size: tuple[object, object]
) -> None:
    (tmp_path / "p.jpg").write_bytes(lying(1))
    stated = row(format_name, SQUARE, width=100, height=40)
    stated |= {"width": size[0], "height": size[1]}
    docs, tally = read(format_name, write_rows(tmp_path / "a.jsonl", stated))
    assert not docs
    assert tally.counts("bad") == {OTHER_SIZE: 1}


@pytest.mark.parametrize("write", [float, str, int])
def test_whole_numbers_may_be_written_as_floats_or_text(tmp_path: Path, write: type) -> None:
    (tmp_path / "p.jpg").write_bytes(lying(1, (80, 20)))
    stated = row("boxes", (40, 10, 120, 20), width=write(160), height=write(40))
    docs, tally = read("boxes", write_rows(tmp_path / "a.jsonl", stated))
    assert boxes_of(docs) == [Box(0.25, 0.25, 0.75, 0.5)]
    assert not tally.losses


def test_a_start_is_a_whole_number_or_the_row_is_bad(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    rows = [
        {
            "file": "p.png",
            "caption": "a kite and a kite",
            "objects": [{"phrase": "a kite", "start": start, "box": [0, 0, 1, 1]}],
            "boxes": "xyxy-fractions",
        }
        for start in (11.0, "11", 11, 11.5, [11], "eleven", True)
    ]
    docs, tally = read("boxes", write_rows(tmp_path / "a.jsonl", *rows))
    assert [[getattr(part, "text", "") for part in doc.parts[1:]] for doc in docs] == [
        ["a kite and ", "a kite"]
    ] * 3
    assert tally.counts("bad") == {"start that is no whole number": 4}


def test_copies_of_another_size_have_the_same_shape() -> None:
    data = lying(6, (1024, 693))
    picture = Picture("p", data, image_size(data))
    assert picture.size == (693, 1024)
    for stated, turn in {(1024, 693): 6, (512, 347): 6, (2048, 1386): 6, (347, 512): 1}.items():
        frame = Frame.stated({"width": stated[0], "height": stated[1]}, picture)
        assert frame == (stated, turn)
    assert Frame.stated({"width": 500, "height": 500}, picture) is None
    assert Frame.stated({}, picture) == ((693, 1024), 1)


@given(st.integers(1, 8), boxes())
def test_turning_keeps_the_area_and_stays_inside(turn: int, box: Box) -> None:
    turned = Frame((100, 40), turn).upright(box)
    assert turned.checked("it").area == pytest.approx(box.area)


@pytest.mark.parametrize(
    ("value", "found"),
    [(160, 160), (160.0, 160), ("160", 160), (" 7 ", 7), (-3, -3), (0, 0)]
    + [
        (v, None)
        for v in (160.5, "1.5", "", "x", None, True, [1], {}, math.nan, math.inf, "9" * 40)
    ],
)
def test_whole_numbers_are_told_from_what_is_none(value: object, found: int | None) -> None:
    assert whole_number(value) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [None, [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, math.nan], [1, 2, 3, 10**400], [True] * 4, 4],
)
def test_four_numbers_are_told_from_what_is_none(value: object) -> None:
    assert numbers(value, 4) is None  # type: ignore[arg-type]
    assert numbers([1, 2.5, -3, 4], 4) == [1.0, 2.5, -3.0, 4.0]


# --- a box costs only itself


NOT_BOXES = ([10, 10, 0, 12.5], [10, 10, 12.5, 0], [10, 10, -3, 4], [10, 10, 1000, 4], [1, 2, 3])


@pytest.mark.parametrize("not_a_box", NOT_BOXES)
@pytest.mark.parametrize("layout", ["coco", "objects", "one object", "caption"])
def test_a_box_that_is_none_costs_only_itself(
    tmp_path: Path, layout: str, not_a_box: list[float]
) -> None:
    # cocoapi#355: two boxes of the real COCO have no height
    good = [[n, n, 20 + n, 30] for n in range(5)]
    rows: list[dict[str, object]] = []
    images, annotations = [], []
    for number in range(24):
        name = f"{number}.png"
        (tmp_path / name).write_bytes(PNG)
        given = [*good[:2], not_a_box, *good[2:]] if number in (3, 17) else good
        objects = [{"phrase": f"thing {n}", "box": box} for n, box in enumerate(given)]
        caption = {"caption": " and ".join(str(item["phrase"]) for item in objects)}
        if layout == "one object":
            objects = [{"phrase": "things", "boxes": given}]  # type: ignore[dict-item]
        more = caption if layout == "caption" else {}
        rows.append({"file": name, "boxes": "xywh-pixels", "objects": objects, **more})
        images.append({"id": number, "file_name": name})
        annotations += [
            {"image_id": number, "category_id": n % 3, "bbox": b} for n, b in enumerate(given)
        ]
    source = tmp_path / "instances.json"
    categories = [{"id": n, "name": f"kind {n}"} for n in range(3)]
    source.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    if layout != "coco":
        source = write_rows(tmp_path / "rows.jsonl", *rows)
    docs, tally = read("boxes", source)
    assert len(boxes_of(docs)) == 120
    assert (tally.num_bad, len(tally.losses)) == (2, 2)


def test_a_box_of_grit_or_refcoco_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    spans = [[2 * n, 2 * n + 1, 0.1, 0.1, 0.5, 0.5, 1.0] for n in range(5)]
    flat = [11, 12, 0.1, 0.1, 0.1, 0.5, 1.0]
    rows = [
        {"file": "p.png", "caption": "a b c d e ff", "ref_exps": [*spans, flat][: 6 - n % 2]}
        for n in range(4)
    ]
    docs, tally = read("grit", write_rows(tmp_path / "g.jsonl", *rows))
    assert (len(docs), len(boxes_of(docs)), len(tally.losses)) == (4, 20, 2)
    boxes = [[1, 1, 9, 9], [10, 10, 10, 22.5], [2, 2, 9, 9], [10, 10, 22.5, 10]]
    rows = [{"file": "p.png", "expression": "it", "bbox_xyxy": box} for box in boxes]
    docs, tally = read("refcoco", write_rows(tmp_path / "r.jsonl", *rows))
    assert (len(docs), tally.num_bad) == (2, 2)


def test_an_object_whose_boxes_are_none_stays_as_words_of_the_caption(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    objects = [{"phrase": "a kite", "box": [1, 1, 9, 9]}, {"phrase": "trees", "box": [5, 5, 5, 9]}]
    said = {"caption": "a kite over trees", "convention": "xyxy-pixels", "objects": objects}
    source = write_rows(tmp_path / "b.jsonl", {"file": "p.png", **said})
    (doc,), tally = read("boxes", source)
    assert isinstance(doc.parts[0], Image)
    assert [getattr(part, "text", "") for part in doc.parts[1:]] == ["a kite", " over trees"]
    assert tally.num_bad == 1
