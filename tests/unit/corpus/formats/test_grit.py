"""GRIT: the same targets from every container, every filter counted, and the original's results."""

import json
from pathlib import Path

import numpy as np
import pytest

from kosmos.corpus.formats.config import GritInstructionsConfig
from kosmos.corpus.formats.grounded_instructions import read_grounded_instructions
from kosmos.corpus.formats.tally import Tally
from kosmos.document.encode import Encoded, encode
from kosmos.document.layout import TRAINING
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform
from kosmos.text.locations import box_to_locations
from kosmos.text.tokenizer import Tokenizer
from tests.unit.corpus.formats.sources import (
    PNG,
    grounded,
    png,
    read,
    tsv_line,
    write_parquet,
    write_rows,
    write_tar,
)

CAPTION = "a red dog on a mat"
DOG, MAT = [0, 9, 0.2, 0.2, 0.5, 0.8, 0.7], [13, 18, 0.1, 0.6, 0.9, 0.9, 0.9]
CROP = ImageConfig(geometry="center-crop")
ROW: dict[str, object] = {"key": "000000007", "caption": CAPTION, "ref_exps": [DOG, MAT]}


def test_every_container_gives_the_same_targets(tmp_path: Path) -> None:
    floats = [[float(value) for value in span] for span in (DOG, MAT)]
    (tmp_path / "000000007.jpg").write_bytes(PNG)
    sources = [
        write_rows(tmp_path / "a.jsonl", ROW),
        write_parquet(tmp_path / "b.parquet", [{**ROW, "ref_exps": floats}]),
        write_parquet(tmp_path / "c.parquet", [{**ROW, "ref_exps": floats, "jpg": PNG}]),
        write_tar(tmp_path / "d.tar", {"7.jpg": PNG, "7.json": json.dumps(ROW).encode()}),
        tmp_path / "e.tsv",
    ]
    sources[-1].write_text(tsv_line("0a", CAPTION, PNG, repr({"expression_v1": [DOG, MAT]})))
    for source in sources:
        docs, tally = read("grit", source)
        assert [grounded(doc) for doc in docs] == [[("a red dog", 1), ("a mat", 1)]]
        assert docs[0].parts[1:] == read("grit", sources[0])[0][0].parts[1:]
        assert not tally.losses
    assert len(read("grit", tmp_path)[0]) == 5


def one(tmp_path: Path, spans: list[list[float]], **options: object) -> tuple[Document, Tally]:
    row = {"caption": CAPTION, "ref_exps": spans, "noun_chunks": spans, "jpg": png(200, 100)}
    path = write_parquet(tmp_path / "g.parquet", [row])
    docs, tally = read("grit", path, **options)
    assert len(docs) + tally.num_bad == 1
    return docs[0] if docs else Document([]), tally


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([0.5, 0.2, 0.2, 0.8], "box with reversed corners"),
        ([0.2, 0.8, 0.5, 0.2], "box with reversed corners"),
        ([0.2, 0.2, 0.2, 0.8], "box without area in the picture"),
        ([1.2, 0.2, 1.5, 0.8], "box without area in the picture"),
        ([20.0, 20.0, 50.0, 80.0], "box without area in the picture"),
    ],
)
def test_boxes_that_are_none_are_left_out_under_a_reason(
    tmp_path: Path, box: list[float], reason: str
) -> None:
    doc, tally = one(tmp_path, [[0.0, 9.0, *box, 0.9], [*MAT]])
    assert grounded(doc) == [("a mat", 1)]
    assert tally.counts("changed") == {reason: 1}


def test_offsets_between_two_characters_make_the_row_bad(tmp_path: Path) -> None:
    _, tally = one(tmp_path, [[0.5, 9.0, *DOG[2:]]])
    assert tally.counts("bad") == {"span that is not [start, end, x0, y0, x1, y1, score]": 1}


@pytest.mark.parametrize("mode", ["phrase", "expression"])
def test_the_crop_leaves_out_boxes_of_which_too_little_is_seen(tmp_path: Path, mode: str) -> None:
    # of 200 x 100, the middle half of the width
    seen_19, seen_21 = [0, 9, 0.06, 0, 0.295, 1, 1], [13, 18, 0.06, 0, 0.301, 1, 1]
    doc, tally = one(tmp_path, [seen_19, seen_21], image=CROP, grit_mode=mode)
    assert grounded(doc) == [("a mat", 1)]
    assert tally.counts("changed") == {"box outside the center crop": 1}


def test_containment_is_the_expression_modes_alone(tmp_path: Path) -> None:
    spans: list[list[float]] = [[2, 5, *DOG[2:]], [0, 9, *DOG[2:]]]
    doc, tally = one(tmp_path, spans)
    assert (grounded(doc), tally.losses) == ([("a red dog", 1)], [])
    doc, tally = one(tmp_path, spans, grit_mode="phrase")
    assert grounded(doc) == [("a red dog", 1)]
    assert tally.counts("changed") == {"phrase that overlaps another": 1}


def test_a_share_of_the_rows_goes_on_as_plain_captions(tmp_path: Path) -> None:
    rows = [{**ROW, "id": n, "jpg": PNG} for n in range(60)]
    path = write_parquet(tmp_path / "g.parquet", rows)
    config = {"grounded_share": 0.5, "seed": 4}
    docs, tally = read("grit", path, **config)
    plain = [doc for doc in docs if not doc.is_grounded]
    assert 15 < len(plain) < 45
    assert all(doc.text == CAPTION for doc in docs)
    assert tally.counts("changed") == {
        "phrases left out, by the share that is grounded": len(plain)
    }
    assert [doc.is_grounded for doc in read("grit", path, **config)[0]] == [
        doc.is_grounded for doc in docs
    ]


# --- against the original


@pytest.mark.parametrize(("key", "geometry"), [("square", "square"), ("centercrop", "center-crop")])
@pytest.mark.parametrize("container", ["jsonl", "parquet", "tsv"])
def test_official_target_builder_finds_the_same_spans_and_boxes(
    shared_data: Path, tmp_path: Path, container: str, key: str, geometry: str
) -> None:
    golden = json.loads((shared_data / "grounding/golden/grit_to_tokens_dev.json").read_text())
    source = staged(shared_data, tmp_path, container)
    # the golden file was made with the original function's default of dropping no visible box
    image = ImageConfig(geometry=geometry, min_visible=0.0)  # type: ignore[arg-type]
    config = {"images": str(shared_data / "coco"), "grit_mode": "phrase", "image": image}
    docs, tally = read("grit", source, **config)
    assert tally.num_bad == 0
    assert len(docs) == len(golden)
    transform = ImageTransform(image)
    for doc, want in zip(docs, golden, strict=True):
        assert doc.text == want["caption"]
        found = []
        cursor = 0
        for part in doc.parts[1:]:
            assert isinstance(part, Text | Grounded)
            if isinstance(part, Grounded):
                moved = [
                    transform.box_in(box, width=want["width"], height=want["height"])
                    for box in part.boxes
                ]
                pairs = [list(box_to_locations(box)) for box in moved if box is not None]
                corners = [[b.x0, b.y0, b.x1, b.y1] for b in moved if b is not None]
                found.append(([cursor, cursor + len(part.text)], pairs, corners))
            cursor += len(part.text)
        entries = sorted(want[key], key=lambda entry: entry["span"])
        assert [row[:2] for row in found] == [(e["span"], e["pairs"]) for e in entries]
        for (_, _, corners), entry in zip(found, entries, strict=True):
            assert np.abs(np.array(corners) - np.array(entry["boxes"])).max() < 1e-6


def staged(shared_data: Path, tmp_path: Path, container: str) -> Path:
    """The staged rows, in another container."""
    source = shared_data / "grounding/coco_grit_schema_dev.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    path = tmp_path / f"rows.{container}"
    if container == "jsonl":
        return source
    if container == "parquet":
        for row in rows:
            for name in ("noun_chunks", "ref_exps"):
                row[name] = [[float(value) for value in span] for span in row[name]]
        return write_parquet(path, rows, group=100)
    lines = []
    for number, row in enumerate(rows):
        picture = (shared_data / "coco" / row["file"]).read_bytes()
        names = {"phrase": row["noun_chunks"], "expression_v1": row["ref_exps"]}
        size = (row["width"], row["height"])
        lines.append(tsv_line(f"{number:032x}", row["caption"], picture, repr(names), size=size))
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def released(shared_data: Path) -> Tokenizer:
    return Tokenizer.load(shared_data / "kosmos2/sentencepiece.bpe.model", num_cells=32)


def laid_out(doc: Document, tokenizer: Tokenizer) -> Encoded:
    return encode(doc, tokenizer, layout=TRAINING, image=CROP, complete=True)


def words(encoded: Encoded, tokenizer: Tokenizer) -> list[int]:
    """Ids behind the picture."""
    return encoded.token_ids[int(np.flatnonzero(encoded.image_slots)[-1]) + 2 :].tolist()


def published_row(shared_data: Path, tmp_path: Path) -> Path:
    row = json.loads((shared_data / "grounding/grit_readme_row.json").read_text())
    picture = png(row["width"] // 8, row["height"] // 8)
    names = {"phrase": row["noun_chunks"], "expression_v1": row["ref_exps"]}
    path = tmp_path / "g.tsv"
    size = row["width"], row["height"]
    path.write_text(tsv_line("0a", row["caption"], picture, repr(names), size=size))
    return path


def test_the_published_row_has_the_releases_ids(
    shared_data: Path, tmp_path: Path, released: Tokenizer
) -> None:
    path = published_row(shared_data, tmp_path)
    (phrases,), _ = read("grit", path, grit_mode="phrase", image=CROP)
    # run through the released loader (spec 5.4)
    ids = (
        "64012 64007 10 6454 31772 64008 64009 64013 65036 64010 23 64007 10 1287 1285 64008 64009 "
        "64301 65004 64010 14 6372 46 689 84 1158 2"
    )
    assert words(laid_out(phrases, released), released) == [int(word) for word in ids.split()]
    (expressions,), _ = read("grit", path, image=CROP)
    assert grounded(expressions) == [(expressions.text, 1)]
    assert words(laid_out(expressions, released), released)[-5:] == [64009, 64013, 65036, 64010, 2]


# --- grounded instructions


def instructions(path: Path, **options: object) -> tuple[list[Document], Tally]:
    return read("grit-instructions", path, **options)


def test_phrases_become_questions_and_answers_of_both_kinds(tmp_path: Path) -> None:
    rows = [{**ROW, "id": n, "jpg": PNG} for n in range(200)]
    path = write_parquet(tmp_path / "g.parquet", rows, group=50)
    docs, tally = instructions(path, seed=1)
    assert (len(docs), tally.losses) == (400, [])
    asked: dict[str, int] = {}
    for doc in docs:
        picture, question, answer = doc.parts
        assert isinstance(picture, Image)
        assert isinstance(question, Text)
        assert isinstance(answer, Text)
        assert (question.role, question.loss) == ("user", False)
        assert (answer.role, answer.loss) == ("assistant", True)
        is_dog = "dog" in doc.text
        expression = "a red dog" if is_dog else "a mat"
        box = (
            "<object><patch_index_0198><patch_index_0816></object>"
            if is_dog
            else "<object><patch_index_0611><patch_index_0924></object>"
        )
        form = question.text.replace(expression, "E").replace(box, "X")
        asked[form] = asked.get(form, 0) + 1
        if form == "<grounding><phrase>E</phrase>":
            assert answer.text == box
        else:
            reply = {
                "<grounding>What is <phrase> it </phrase>X?": " It is E.",
                "<grounding>What is <phrase> this </phrase>X?": " This is E.",
                "<grounding>Describe <phrase> this object </phrase>X.": " This object is E.",
            }.get(form, " E.")
            assert answer.text == reply.replace("E", expression)
    assert set(asked) == {
        "<grounding><phrase>E</phrase>",
        "<grounding>What is <phrase> it </phrase>X?",
        "<grounding>What is <phrase> this </phrase>X?",
        "<grounding>Describe <phrase> this object </phrase>X.",
        "<grounding><phrase> It </phrase>X is",
        "<grounding><phrase> This </phrase>X is",
        "<grounding><phrase> The object </phrase>X is",
    }
    comprehension = asked.pop("<grounding><phrase>E</phrase>")
    assert 160 < comprehension < 240
    assert all(15 < count < 60 for count in asked.values())
    assert [doc.parts for doc in instructions(path, seed=1)[0]] == [doc.parts for doc in docs]
    assert [doc.parts for doc in instructions(path, seed=2)[0]] != [doc.parts for doc in docs]


def test_the_share_of_each_kind_can_be_chosen(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "g.parquet", [{**ROW, "id": n, "jpg": PNG} for n in range(20)])
    where, _ = instructions(path, comprehension_share=1.0)
    what, _ = instructions(path, comprehension_share=0.0)
    assert all(doc.parts[2].text.startswith("<object>") for doc in where)  # type: ignore[union-attr]
    assert all("<object>" in doc.parts[1].text for doc in what)  # type: ignore[union-attr]


def test_all_boxes_of_an_expression_are_the_answer_in_their_order(tmp_path: Path) -> None:
    spans = [DOG, [0, 9, 0.0, 0.0, 0.1, 0.1, 0.9]]
    path = write_parquet(tmp_path / "g.parquet", [{**ROW, "ref_exps": spans, "jpg": PNG}])
    (doc,), _ = instructions(path, comprehension_share=1.0)
    assert doc.parts[2].text == (  # type: ignore[union-attr]
        "<object><patch_index_0198><patch_index_0816></delimiter_of_multi_objects/>"
        "<patch_index_0000><patch_index_0099></object>"
    )


def test_locations_lie_on_the_picture_that_training_will_see(tmp_path: Path) -> None:
    row = {**ROW, "ref_exps": [[0, 9, 0.25, 0.0, 0.5, 0.5, 1.0]], "jpg": png(200, 100)}
    path = write_parquet(tmp_path / "g.parquet", [row])
    for image, num_cells, box in (
        (ImageConfig(geometry="square"), 32, "<patch_index_0008><patch_index_0528>"),
        (CROP, 32, "<patch_index_0000><patch_index_0528>"),
        (CROP, 16, "<patch_index_0000><patch_index_0136>"),
    ):
        (doc,), _ = instructions(path, comprehension_share=1.0, image=image, num_cells=num_cells)
        assert doc.parts[2].text == f"<object>{box}</object>"  # type: ignore[union-attr]
        assert doc.meta["num_cells"] == num_cells
        assert doc.meta["geometry"] == image.geometry


def test_rows_with_nothing_to_ask_about_are_counted(tmp_path: Path) -> None:
    marked = "see <phrase>a dog</phrase>"
    rows = [
        {**ROW, "ref_exps": [], "jpg": PNG},
        {"caption": marked, "ref_exps": [[4, len(marked), 0, 0, 1, 1, 1]], "jpg": PNG},
        {"caption": "a   dog", "ref_exps": [[1, 4, 0, 0, 1, 1, 1]], "jpg": PNG},
    ]
    for row in rows:
        row.pop("key", None)
    docs, tally = instructions(write_rows_as_table(tmp_path, rows))
    assert not docs
    assert tally.counts("left out") == {"row without a phrase to ask about": 1}
    assert tally.counts("bad") == {"expression without words, or with markup in it": 2}


def write_rows_as_table(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    spans = pyarrow.list_(pyarrow.list_(pyarrow.float64()))
    kinds = [("caption", pyarrow.string()), ("ref_exps", spans), ("jpg", pyarrow.binary())]
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(kinds))
    pyarrow.parquet.write_table(table, tmp_path / "g.parquet")
    return tmp_path / "g.parquet"


def test_only_answers_carry_loss_in_the_releases_ids(
    shared_data: Path, tmp_path: Path, released: Tokenizer
) -> None:
    path = published_row(shared_data, tmp_path)
    docs = list(
        read_grounded_instructions(
            path,
            GritInstructionsConfig(grit_mode="phrase", comprehension_share=1.0, image=CROP),
            Tally(),
        )
    )
    encoded = laid_out(docs[0], released)
    # <phrase> a wire hanger </phrase> is asked; <object> 0 1023 </object> </s> is answered
    assert words(encoded, released) == [
        *(64012, 64007, 10, 6454, 31772, 64008),
        *(64009, 64013, 65036, 64010, 2),
    ]
    assert encoded.token_ids[encoded.loss_mask].tolist() == [64009, 64013, 65036, 64010, 2]


def test_staged_rows_become_instructions(shared_data: Path) -> None:
    rows = shared_data / "grounding/coco_grit_schema_dev.jsonl"
    docs, tally = instructions(rows, images=str(shared_data / "coco"))
    assert tally.num_bad == 0
    assert len(docs) >= 296
