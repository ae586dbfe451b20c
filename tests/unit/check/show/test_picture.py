"""The picture of a row: who sees whom in colors, words on the diagonal, bands beside it."""

import xml.etree.ElementTree as ET
from itertools import pairwise, product

import numpy as np
import PIL.Image
import PIL.ImageColor
import pytest

from kosmos.check.show.page import NamedRow, page
from kosmos.check.show.picture import draw_row
from kosmos.check.show.words import ShownDocument, ShownImage, ShownRow
from kosmos.image.canvas import Bitmap, Canvas, Polygon, Rectangle, Words, words_width
from kosmos.image.labels import PALETTE

PAPER = (251, 250, 246)
PICTURE = PIL.Image.new("RGB", (8, 8), "#ff00ff")


def make_row(lengths: list[int], *, isolated: bool, num_padding: int = 0) -> ShownRow:
    """Documents of words, a picture of four slots in each that is long enough."""
    count = sum(lengths)
    bounds = np.cumsum([0, *lengths]).tolist()
    slots = np.zeros(count, dtype=bool)
    texts = [" word"] * count
    learned = np.ones(count, dtype=np.float32)
    images = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        texts[start], learned[start] = "<s>", 0
        if stop - start >= 8:
            slots[start + 2 : start + 6] = True
            texts[start + 1 : start + 7] = ["<image>"] * 5 + ["</image>"]
            learned[start + 1 : start + 7] = 0
            images.append(ShownImage(start + 2, start + 6, number, PICTURE))
    positions = np.arange(count)
    if isolated:
        positions -= np.repeat(bounds[:-1], lengths)
    return ShownRow(
        stream="captions",
        packing="isolated" if isolated else "full-sentence",
        token_ids=np.arange(count),
        texts=tuple(texts),
        names=tuple(texts),
        learned=learned,
        positions=positions[:-1],
        image_slots=slots,
        documents=tuple(
            ShownDocument(f"doc-{n}", start, stop)
            for n, (start, stop) in enumerate(pairwise(bounds))
        ),
        images=tuple(images),
        num_padding=num_padding,
        capacity=count - 1 + num_padding,
    )


def sees(row: ShownRow) -> np.ndarray:
    size = row.num_positions + row.num_padding
    numbers = np.full(size, -1)
    numbers[: row.num_positions] = row.token_documents()[:-1]
    allowed = np.tri(size, dtype=bool)
    return allowed & (numbers[:, None] == numbers) if row.packing == "isolated" else allowed


def matrix(canvas: Canvas) -> Bitmap:
    return next(s for s in canvas.shapes if isinstance(s, Bitmap) and s.title == "who sees whom")


def words(canvas: Canvas) -> str:
    return "\n".join(
        "".join(run.text for run in s.runs) for s in canvas.shapes if isinstance(s, Words)
    )


def test_a_small_row_has_the_shapes_it_should() -> None:
    row = make_row([12, 9], isolated=True)
    canvas = draw_row(row, sees(row), name="captions, row 3")
    text = words(canvas)
    assert text.startswith("captions, row 3\nisolated \u00b7 2 documents \u00b7 2 pictures")
    assert "[image 1: 4 slots]" in text
    assert "[image 2: 4 slots]" in text
    assert {"doc-0", "doc-1", "position", "loss", "document"} <= set(text.split("\n"))
    # a wedge for each document, a band for each, a black one where loss falls on what follows
    assert sum(isinstance(s, Polygon) for s in canvas.shapes) == 2
    bands = [s for s in canvas.shapes if isinstance(s, Rectangle) and s.title]
    assert [(s.title, s.fill, s.height) for s in bands] == [
        ("doc-0", PALETTE[0], 12 * 20),
        ("doc-1", PALETTE[1], 8 * 20),  # its last token takes no position
    ]
    loss = [s for s in canvas.shapes if isinstance(s, Rectangle) and s.x > bands[0].x + 40]
    loss = [(s.y - bands[0].y, s.height) for s in loss if s.fill == "#1c2027" and s.width == 12]
    assert loss == [(6 * 20, 5 * 20), (18 * 20, 2 * 20)]
    thumbnails = [s for s in canvas.shapes if isinstance(s, Bitmap) and s.image is PICTURE]
    assert [s.title for s in thumbnails] == ["image 1", "image 2"]


def test_cells_have_the_color_of_the_document_that_is_seen() -> None:
    row = make_row([3, 3], isolated=False)
    pixels = np.asarray(matrix(draw_row(row, sees(row), name="x")).image)
    assert pixels.shape == (5, 5, 3)
    assert tuple(pixels[0, 1]) == PAPER  # nobody sees what follows
    own, other = pixels[1, 0], pixels[4, 0]
    full = np.array(PIL.ImageColor.getrgb(PALETTE[0]))
    assert np.abs(own - full).max() < 30
    assert tuple(own) != tuple(other) != PAPER
    assert np.abs(pixels[4, 4] - np.array(PIL.ImageColor.getrgb(PALETTE[1]))).max() < 30

    apart = make_row([3, 3], isolated=True)
    pixels = np.asarray(matrix(draw_row(apart, sees(apart), name="x")).image)
    assert tuple(pixels[4, 0]) == PAPER
    assert tuple(pixels[1, 0]) == tuple(own)


def test_a_mask_that_leaks_is_seen_in_the_picture() -> None:
    row = make_row([3, 3], isolated=True)
    broken = np.tri(5, dtype=bool)
    pixels = np.asarray(matrix(draw_row(row, broken, name="x")).image)
    assert tuple(pixels[4, 0]) != PAPER


@pytest.mark.parametrize(
    "lengths", [[2], [40], [12, 9, 19], [100, 7, 1, 30], [128] * 16, [30] * 68]
)
@pytest.mark.parametrize("isolated", [True, False])
def test_words_lie_within_the_canvas_and_not_over_each_other(
    lengths: list[int], isolated: bool
) -> None:
    row = make_row(lengths, isolated=isolated, num_padding=3)
    canvas = draw_row(row, sees(row), name="captions, row 3")
    area = matrix(canvas)
    diagonal = [
        s for s in canvas.shapes
        if isinstance(s, Words) and s.x > area.x and area.y < s.y < area.y + area.height + 12
    ]  # fmt: skip
    assert len(diagonal) >= 1
    for one, other in pairwise(diagonal):
        assert other.y == one.y or other.y - one.y >= one.size
    pictures = [s for s in canvas.shapes if isinstance(s, Bitmap) and s.image is PICTURE]
    assert len(pictures) == len(row.images)
    ends = [w.x + sum(words_width(run.text, w.size) for run in w.runs) for w in diagonal]
    for s, (word, end) in product(pictures, zip(diagonal, ends, strict=True)):
        beside = end <= s.x or word.x >= s.x + s.width
        assert beside or word.y <= s.y or word.y - 0.75 * word.size >= s.y + s.height
    for s in canvas.shapes:
        if isinstance(s, Rectangle | Bitmap):
            assert s.x >= 0
            assert s.x + s.width <= canvas.width
            assert s.y + s.height <= canvas.height
    said = "".join(run.text for s in diagonal for run in s.runs)
    assert said.count("word") == sum(text == " word" for text in row.texts)


def test_a_page_has_a_picture_and_the_words_of_each_row() -> None:
    row = make_row([12, 9], isolated=True)
    text = page([NamedRow("one & two", row, sees(row)), NamedRow("other", row, sees(row))])
    assert text.count("<svg") == text.count("</svg>") == 2
    assert "one &amp; two" in text
    assert "<span class=given>&lt;s&gt;" in text
    start = text.index("<svg")
    ET.fromstring(text[start : text.index("</svg>") + 6])
