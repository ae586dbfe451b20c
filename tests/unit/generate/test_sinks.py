"""What takes answers: words, JSON, drawings, COCO, a page; whatever is in the answers."""

import base64
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from kosmos.boxes import Box
from kosmos.generate.export import reply_to_json, scores_to_json
from kosmos.generate.reply import CandidateScore, GroundedSpan, Reply
from kosmos.generate.request_file import Entry, Problem, named_pictures
from kosmos.generate.sinks.boxes import Coco, Drawings
from kosmos.generate.sinks.page import Page
from kosmos.generate.sinks.sink import Row, Sink
from kosmos.generate.sinks.words import (
    Told,
    box_lines,
    grounded_lines,
    reply_lines,
    score_lines,
)
from kosmos.image.codec import encode_png

SIZE = (200, 100)
BAD = Problem("picture", "a\x1b[31m.png: expected a picture", "open it")


def row_of(text: str, *phrases: str, dropped: tuple[str, ...] = ()) -> Row:
    box = Box(0.1, 0.2, 0.5, 0.6)
    spans = [
        GroundedSpan(
            text=phrase,
            boxes=(box,),
            start=0,
            end=len(phrase),
            image_index=0,
            boxes_px=(box.to_pixels(width=SIZE[0], height=SIZE[1]),),
            locations=((0, 10),),
            logprobs=(-1.0,),
            confidence=(0.5,),
            guaranteed_ious=(0.25,),
        )
        for phrase in phrases
    ]
    reply = Reply(
        text=text,
        grounded=spans,
        token_ids=(1,),
        logprob=-1.0,
        token_logprobs=(-1.0,),
        markup=text,
        dropped=dropped,
        finish="stop",
    )
    return reply_to_json(reply)


def pictures(folder: Path, *names: str) -> list[Entry]:
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        (folder / name).write_bytes(encode_png(PIL.Image.fromarray(pixels)))
    return named_pictures([(name, folder / name) for name in names])


def told(**options: object) -> tuple[Told, list[str], list[str]]:
    said: list[str] = []
    warned: list[str] = []
    return Told(said.append, warned.append, **options), said, warned


def test_words_of_replies_and_names_of_files_do_not_reach_a_terminal_as_commands():
    sink, said, warned = told(lines=grounded_lines, several=True)
    (entry,) = named_pictures([("a\x1b]0;x\x07\nb\t.png", b"")])
    sink.put(0, entry, row_of("red\x1b[2J\nblue\x9b", "\x1b[31mit", dropped=("\x1b[0m",)))
    sink.put(1, entry, BAD)
    name = r"a\x1b]0;x\x07\nb\t.png"
    assert said == [
        f"{name}\tred\\x1b[2J\n{name}\tblue\\x9b\n{name}\t\\x1b[31mit\t20.0 20.0 100.0 60.0\t0.50"
    ]
    assert warned == [
        f"{name}: left out of the reply: \\x1b[0m",
        r"error: a\x1b[31m.png: expected a picture",
        "hint: open it",
    ]


def test_json_says_all_there_is_in_ascii_and_where_the_drawing_is():
    (entry,) = named_pictures([("caf\udce9.png", b"")])
    drawings = Drawings(Path("out"), several=True)
    sink, said, _ = told(lines=None, ids=True, drawn=drawings.target)
    row = row_of("h\u00e9\x1b", "it")
    sink.put(3, entry, row)
    (line,) = said
    assert line.isascii()
    assert json.loads(line) == {
        "id": "caf\\udce9.png",
        "image": "caf\\udce9.png",
        **row,
        "drawn": "out/0003-caf\\udce9.png",
    }


def test_an_answer_without_lines_is_told_and_leaves_an_empty_one():
    sink, said, warned = told(lines=box_lines)
    sink.put(0, Entry(id="a"), row_of("a dog"))
    assert (said, warned) == ([""], ["not found: the reply has no box"])


def test_what_people_read():
    row = row_of("a dog\nruns", "a dog")
    box = "a dog\t20.0 20.0 100.0 60.0\t0.50"
    assert reply_lines(row) == ["a dog", "runs"]
    assert box_lines(row) == [box]
    assert grounded_lines(row) == ["a dog", "runs", box]
    scores = [
        CandidateScore(logprob=-3.0, num_tokens=2),
        CandidateScore(logprob=-2.0, num_tokens=1),
    ]
    scored = scores_to_json(["a dog", "it"], scores)
    assert score_lines(scored) == ["-3.0000\t-1.5000\t2\ta dog", "-2.0000\t-2.0000\t1\tit"]
    assert (scored["best_by_sum"], scored["best_by_mean"]) == ("it", "a dog")


@pytest.mark.parametrize(
    ("path", "several", "names"),
    [
        ("one.png", False, ["one.png", "one.png"]),
        ("dir", True, ["dir/0000-a.png", "dir/0001-b.png"]),
        ("x/all.svg", True, ["x/all-0000-a.svg", "x/all-0001-b.svg"]),
    ],
)
def test_drawings_are_named_by_the_place_in_the_list(tmp_path, path, several, names):
    entries = pictures(tmp_path, "a.png", "b.png")
    sink = Drawings(tmp_path / path, several=several)
    for place, (entry, name) in enumerate(zip(entries, names, strict=True)):
        assert sink.target(place, entry) == tmp_path / name
        sink.put(place, entry, row_of("a dog", "a dog"))
        assert (tmp_path / name).stat().st_size > 100
    assert sink.target(0, Entry(id="words only")) is None
    sink.put(0, Entry(id="words only"), row_of("a dog"))
    sink.put(0, entries[0], BAD)


def test_a_drawing_that_people_hear_says_what_the_reply_says(tmp_path):
    (entry,) = pictures(tmp_path, "a.png")
    Drawings(tmp_path / "a.svg", several=False, show_confidence=True).put(
        0, entry, row_of("a dog runs", "a dog")
    )
    tree = ET.parse(tmp_path / "a.svg")
    titles = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[:2] == ["a dog runs", "a dog, 50% sure"]
    labels = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert labels == ["a dog 0.50"]


def test_a_data_set_is_in_the_order_of_the_list_whatever_came_first(tmp_path):
    entries = pictures(tmp_path, "a.png", "b.png", "c.png")
    sink = Coco(tmp_path / "coco.json")
    sink.put(2, entries[2], row_of("it", "it"))
    sink.put(1, entries[1], BAD)
    sink.put(0, entries[0], row_of("a dog", "a dog", "it"))
    sink.put(3, Entry(id="words only"), row_of("a dog"))
    sink.finish()
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [(row["file_name"], row["width"], row["height"]) for row in found["images"]] == [
        ("a.png", 200, 100),
        ("c.png", 200, 100),
    ]
    assert [row["name"] for row in found["categories"]] == ["a dog", "it"]
    assert [(r["image_id"], r["category_id"]) for r in found["annotations"]] == [
        (1, 1), (1, 2), (2, 2),
    ]  # fmt: skip


def page_of(path: Path, *put: tuple[int, Entry, Row | Problem]) -> str:
    sink: Sink = Page(path, title="kosmos <ground>", facts={"Prompt": "a & b", "Empty": ""})
    for place, entry, found in put:
        sink.put(place, entry, found)
    sink.finish()
    return path.read_text(encoding="utf-8")


def test_a_page_has_each_answer_once_in_order_with_its_picture_inside(tmp_path):
    first, second, third = pictures(tmp_path, "a.png", "<b>&.png", "c.png")
    page = page_of(
        tmp_path / "page.html",
        (2, third, row_of("c dog")),
        (0, first, row_of("<script>alert(1)</script>\x1b[31m", "a \u00e9 <dog>")),
        (1, second, BAD),
    )
    assert page.count("<figure>") == page.count("</figure>") == 3
    names = [html.unescape(name) for name in re.findall("<p class=name>(.*?)</p>", page)]
    assert names == ["a.png", "<b>&.png", "c.png"]
    assert "<script" not in page
    assert "\x1b" not in page
    assert r"a\x1b[31m.png: expected a picture" in page
    assert "<li><b>a \u00e9 &lt;dog&gt;</b> 20 20 100 60, 50% sure</li>" in page
    assert "<dt>Prompt</dt><dd>a &amp; b</dd></dl>" in page
    shown = re.findall(r'xlink:href="data:image/\w+;base64,(.*?)"', page)
    assert len(shown) == 2
    assert "src=" not in page
    for data in shown:
        # made larger, since the pixels are few
        assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).size == (400, 200)
    # the same picture is well-formed by itself, boxes and all
    drawn = page[page.index("<svg") : page.index("</svg>") + 6]
    assert len(list(ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}rect"))) == 3


def test_a_page_shows_a_large_photo_small_and_what_a_line_asked(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.jpg")
    entry = Entry(
        id="q1",
        images=(tmp_path / "a.jpg",),
        names=("a.jpg",),
        asked={"image": "a.jpg", "question": "what?"},
    )
    page = page_of(tmp_path / "page.html", (0, entry, row_of("a dog")))
    (data,) = re.findall(r'xlink:href="data:image/\w+;base64,(.*?)"', page)
    assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).size == (480, 360)
    assert "<p class=name>q1</p><p class=asked>what?</p><p>a dog</p>" in page


def test_a_page_of_nothing_is_a_page(tmp_path):
    assert "<figure>" not in page_of(tmp_path / "page.html")
