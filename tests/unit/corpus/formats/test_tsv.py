"""The release's TSV: a row is read whole or is bad, whatever its caption holds."""

import base64
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.corpus.formats.records import SourceFile
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.tsv import read_objects, read_tsv
from kosmos.document.types import Grounded
from tests.unit.corpus.formats.sources import PNG, grounded, png, read, texts, tsv_line

HASH = "0cc175b9c0f1b6a831c399e269772661"
OTHER = "92eb5ffee6ae2fec3ad71c777531578f"


def test_pairs_are_read_from_tsv(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(tsv_line(HASH, " a dog ") + tsv_line(OTHER, "a cat", png(), "{'phrase': []}"))
    docs, tally = read("pairs", path)
    assert [(texts(doc), dict(doc.meta)) for doc in docs] == [
        (["a dog"], {"source": HASH}),
        (["a cat"], {"source": OTHER}),
    ]
    assert docs[0].images[0].source == PNG
    assert not tally.losses


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (tsv_line(HASH, "a\tdog"), "caption with a tab"),
        (tsv_line(HASH, "a\tdog\ton a mat", PNG, "{'phrase': []}"), "caption with a tab"),
        (tsv_line(HASH, "a\ndog"), "caption with a line break"),
        (tsv_line(HASH, "a\n\ndog\n", PNG, "{}"), "caption with a line break"),
        (tsv_line(HASH, "a\r\ndog"), "caption with a line break"),
        (tsv_line(HASH, "two\nlines\tand a tab"), "caption with a line break"),
        (tsv_line(HASH, "a tab\tand\ntwo lines"), "caption with a line break"),
        (tsv_line(HASH, "tabs\t\tand\ttwo\tmore\nand two lines"), "caption with a line break"),
        (f"{HASH}\ta caption\n", "row with too few columns"),
        (f"{HASH}\ta caption\taGk=\t80\n", "row with too few columns"),
        (tsv_line(HASH, "x").replace("\t80\t", "\twide\t"), "width or height that is no number"),
        (f"{HASH}\tx\t!!!!\t80\t70\n", "picture that is no base64"),
        (f"{HASH}\tx\t\t80\t70\n", "no picture"),
        (f"{HASH}\tx\taGk=\t80\t70\n", "picture does not decode"),
        (tsv_line(HASH, " "), "no caption"),
    ],
)
def test_a_row_that_is_not_whole_is_one_bad_row_and_its_neighbors_stay(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(f"{tsv_line(OTHER, 'one')}{line}{tsv_line(OTHER, 'two')}".encode())
    docs, tally = read("pairs", path)
    assert [doc.text for doc in docs] == ["one", "two"]
    assert tally.counts("bad") == {reason: 1}
    assert tally.losses[0].where.startswith("a.tsv:2")


def test_a_line_that_only_looks_like_a_row_is_the_rest_of_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(tsv_line("kite", "one") + tsv_line("tent", "a\nblue") + tsv_line("boat", "two"))
    docs, tally = read("pairs", path)
    assert [doc.text for doc in docs] == ["one", "two"]
    assert tally.counts("bad") == {"caption with a line break": 1}


def test_a_file_that_is_cut_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(tsv_line(HASH, "one") + tsv_line(OTHER, "two")[:60])
    docs, tally = read("pairs", path)
    assert [doc.text for doc in docs] == ["one"]
    assert tally.counts("bad") == {"row with too few columns": 1}


@settings(max_examples=200)
@given(captions=st.lists(st.text("ab \t\n\r\"'\u00e9\u2028", max_size=8), max_size=6))
def test_no_caption_is_ever_split_or_mixed_up(
    captions: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.tsv"
    keys = [f"{n:032x}" for n in range(len(captions))]
    lines = [tsv_line(key, caption) for key, caption in zip(keys, captions, strict=True)]
    path.write_bytes("".join(lines).encode())
    tally = Tally()
    found = {row.key: row.caption for row in read_tsv(SourceFile(path, path.name), tally)}
    clean = {
        key: caption
        for key, caption in zip(keys, captions, strict=True)
        if not {"\t", "\n"} & set(caption)
    }
    assert found == clean
    assert tally.num_bad == len(captions) - len(clean)


# --- grounded


def objects(**columns: object) -> str:
    return repr({"phrase": [], "expression_v1": [], **columns})


def test_grounded_rows_are_read_from_the_column_of_objects(tmp_path: Path) -> None:
    spans = [(0.0, 9.0, 0.2, 0.2, 0.5, 0.8, 0.7), [13, 18, 0.1, 0.6, 0.9, 0.9, 0.9]]
    path = tmp_path / "g.tsv"
    caption = "a red dog on a mat"
    path.write_text(tsv_line(HASH, caption, PNG, objects(phrase=spans, expression_v1=spans[:1])))
    phrases, _ = read("grit", path, grit_mode="phrase")
    assert grounded(phrases[0]) == [("a red dog", 1), ("a mat", 1)]
    expressions, _ = read("grit", path)
    assert expressions[0].parts[1] == Grounded("a red dog", [Box(0.2, 0.2, 0.5, 0.8)])
    assert expressions[0].meta == {"source": HASH}


def test_spans_count_the_blanks_at_the_beginning_of_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "g.tsv"
    spans = [[2, 7, 0, 0, 1, 1, 1]]
    path.write_text(tsv_line(HASH, "  a dog", PNG, objects(expression_v1=spans)))
    assert grounded(read("grit", path)[0][0]) == [("a dog", 1)]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("__import__('os').system('false')", "objects that are no Python literal"),
        ("{'phrase': [[0, 1, nan, 0, 1, 1, 1]]}", "objects that are no Python literal"),
        ("{'phrase': ", "objects that are no Python literal"),
        ("[" * 5000, "objects that are no Python literal"),
        ("[1, 2]", "objects that are no dict"),
        ("{'phrase': []}", "no ref_exps"),
        (objects(expression_v1={1}), "no ref_exps"),
        (objects(expression_v1=[[0, 1, {}, 0, 1, 1, 1]]), "span that is not [start, end, x0, y0,"),
    ],
)
def test_objects_that_are_none_are_bad_and_nothing_in_them_runs(
    tmp_path: Path, column: str, reason: str
) -> None:
    path = tmp_path / "g.tsv"
    path.write_text(tsv_line(HASH, "a dog", PNG, column))
    docs, tally = read("grit", path)
    assert not docs
    assert [loss.reason.startswith(reason) for loss in tally.losses] == [True]


def test_rows_without_a_column_of_boxes_are_left_out_but_for_a_share(tmp_path: Path) -> None:
    path = tmp_path / "g.tsv"
    path.write_text("".join(tsv_line(f"{n:032x}", "a dog") for n in range(60)))
    docs, tally = read("grit", path)
    assert not docs
    assert tally.counts("left out") == {
        "row without a column of boxes, by the share that stays": 60
    }
    half, _ = read("grit", path, unannotated_share=0.5)
    assert 15 < len(half) < 45
    again, _ = read("grit", path, unannotated_share=0.5)
    assert [doc.id for doc in again] == [doc.id for doc in half]
    assert all(doc.text == "a dog" and not doc.is_grounded for doc in half)


def test_objects_of_the_published_row_are_those_of_its_json(shared_data: Path) -> None:
    import json

    row = json.loads((shared_data / "grounding/grit_readme_row.json").read_text())
    text = repr({"phrase": row["noun_chunks"], "expression_v1": row["ref_exps"]})
    assert read_objects(text) == {"noun_chunks": row["noun_chunks"], "ref_exps": row["ref_exps"]}


def test_photos_of_the_web_survive_tsv(shared_data: Path, tmp_path: Path) -> None:
    import hashlib

    import PIL.Image

    tar = shared_data / "pairs/cc12m-train-0000.tar"
    docs, tally = read("pairs", tar)
    assert len(docs) + tally.num_bad == 32
    path = tmp_path / "a.tsv"
    with open(path, "wb") as file:
        for doc in docs:
            data = doc.images[0].source
            assert isinstance(data, bytes)
            size = PIL.Image.open(io.BytesIO(data)).size
            columns = (hashlib.md5(data).hexdigest(), doc.text, base64.b64encode(data).decode())
            file.write("\t".join((*columns, *map(str, size))).encode() + b"\n")
    again, tally = read("pairs", path)
    assert not tally.losses
    assert [(doc.text, doc.images) for doc in again] == [(doc.text, doc.images) for doc in docs]
