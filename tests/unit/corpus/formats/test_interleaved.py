"""Pages: both published algorithms, and where OBELICS keeps its pictures."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.corpus.formats.config import PagesConfig
from kosmos.corpus.formats.interleaved import Missing, Page, Piece, page_document, sentences
from kosmos.corpus.formats.pictures import Picture
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from tests.unit.corpus.formats.sources import (
    PNG,
    outline,
    photos,
    png,
    read,
    write_parquet,
    write_rows,
    write_tar,
)

PICTURE = Picture("p.png", PNG)
BUNDLED = {"edge_sentences": 3, "behind_max_images": "nothing"}


def lay(*pieces: Piece, **options: object) -> tuple[list[str], Tally]:
    """A page's outline, pictures as ``*``; empty if it is left out."""
    options = {"single_image_share": 1.0, **options}
    tally = Tally()
    config = PagesConfig(**options)  # type: ignore[arg-type]
    doc = page_document(Page("p", "u", pieces), config, tally)
    if doc is None:
        return [], tally
    return ["*" if isinstance(part, Image) else part.text for part in doc.parts], tally


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "Go." Then left.', ['He said "Go."', "Then left."]),
        ("Wait... what?! Yes (no.) ok", ["Wait...", "what?!", "Yes (no.)", "ok"]),
        ("Version 1.5 costs 3.20", ["Version 1.5 costs 3.20"]),
        ("\u7b2c\u4e00\u3002\u7b2c\u4e8c\u3002", ["\u7b2c\u4e00\u3002", "\u7b2c\u4e8c\u3002"]),
        ("  ", []),
    ],
)
def test_sentences_end_with_their_marks(text: str, found: list[str]) -> None:
    assert sentences(text) == found


@given(st.text("ab.!? \n\"'\u3002"))
def test_sentences_lose_nothing_but_blanks(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_the_papers_rules_keep_all_text() -> None:
    page = ("A. B. C. D.", PICTURE, "E.", "F.", PICTURE, "G. H. I. J.")
    assert lay(*page)[0] == ["A. B. C. D.", "*", "E. F.", "*", "G. H. I. J."]


def test_the_bundled_rules_keep_three_sentences_outside_the_pictures() -> None:
    page = ("A. B.", "C. D.", PICTURE, "E. E. E. E. E.", PICTURE, "G. H.", "I. J.")
    assert lay(*page, **BUNDLED)[0] == ["B. C. D.", "*", "E. E. E. E. E.", "*", "G. H. I."]


def test_the_bundled_rules_end_a_page_with_its_fifth_picture() -> None:
    page = (PICTURE, "A.", PICTURE, "B.", PICTURE, PICTURE, PICTURE, "C.", PICTURE, "D.")
    paper, tally = lay(*page)
    assert paper == ["*", "A.", "*", "B.", "*", "*", "*", "C. D."]
    assert tally.counts("changed") == {"picture behind the first 5": 1}
    bundled, _ = lay(*page, **BUNDLED)
    assert bundled == ["*", "A.", "*", "B.", "*", "*", "*"]


def test_tags_are_taken_out_and_other_angles_stay() -> None:
    text = 'a <b>bold</b> <img src="x"/>claim<!-- a > b --> that 1 < 2 and 3 > 2 <3'
    found, tally = lay(PICTURE, text)
    assert found == ["*", "a  bold   claim  that 1 < 2 and 3 > 2 <3"]
    assert tally.counts("changed") == {"HTML tags in the text": 1}
    assert lay(PICTURE, text, strip_tags=False)[0] == ["*", text]
    assert lay(PICTURE, "<p></p>")[0] == ["*"]


def test_pictures_of_no_use_do_not_count_among_the_five() -> None:
    small, flat = Picture("s", png(63, 80)), Picture("f", png(flat=True))
    broken = Picture("b", PNG[:100])
    page = (small, flat, broken, Missing("gone.jpg"), *[PICTURE] * 5)
    found, tally = lay(*page)
    assert found == ["*"] * 5
    assert tally.counts("changed") == {
        "picture with a side under 64 px": 1,
        "picture of a single color": 1,
        "picture does not decode": 1,
        "no file of the picture": 1,
    }
    assert [loss.where for loss in tally.losses] == ["p: s", "p: f", "p: b", "p: gone.jpg"]


# --- obelics

URL = "https://host/a/b%20c.jpg?w=3"


def row(images: list[object], texts: list[object], **more: object) -> dict[str, object]:
    said = {"general_metadata": json.dumps({"url": "https://host/page"}), **more}
    return {"images": images, "texts": texts, "metadata": json.dumps([None] * len(texts)), **said}


EVERY = {"single_image_share": 1.0}


def test_pages_of_obelics_are_read_from_parquet_and_json_lines(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    urls = [f"https://host/{n}.jpg" for n in range(4)]
    for kind, url in zip(("sha256", "md5", "sha1"), urls, strict=False):
        (folder / f"{hashlib.new(kind, url.encode()).hexdigest()}.png").write_bytes(PNG)
    (folder / "3.jpg").write_bytes(PNG)
    page = row([urls[0], None, None, *urls[1:]], [None, "One.", "Two.", None, None, None])
    config = {"images": str(folder)}
    for source in (
        write_parquet(tmp_path / "a.parquet", [page]),
        write_rows(tmp_path / "b.jsonl", page),
    ):
        (doc,), tally = read("obelics", source, **config)
        assert [isinstance(part, Image) for part in doc.parts] == [True, False, True, True, True]
        assert doc.parts[1] == Text("One.\n\nTwo.")
        assert doc.meta == {"source": "https://host/page"}
        assert not tally.losses


def test_a_name_with_a_query_or_below_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "p" / "00000").mkdir(parents=True)
    (tmp_path / "p" / "00000" / "b c.jpg").write_bytes(PNG)
    source = write_rows(tmp_path / "a.jsonl", row([URL, None], [None, "x"]))
    config = {"images": str(tmp_path / "p"), "single_image_share": 1.0}
    assert outline(read("obelics", source, **config)[0][0]) == ["b c", "x"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_pictures_may_be_in_the_row(tmp_path: Path, wrapped: bool) -> None:
    picture = {"bytes": PNG, "path": "x"} if wrapped else PNG
    source = write_parquet(tmp_path / "a.parquet", [row([None, picture], ["x", None])])
    (doc,), _ = read("obelics", source, **EVERY)
    assert doc.parts == (Text("x"), Image(PNG))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (row([None], ["a", "b"]), "images and texts of different lengths"),
        (row(["https://x"], ["a"]), "picture and text at one place"),
        (row([3], [None]), "picture that is no URL, or text that is none"),
        ({"texts": ["a"]}, "no images or no texts"),
        (row([], [], general_metadata="{"), "general_metadata that is no JSON object"),
        (row([], [], general_metadata="[]"), "general_metadata that is no JSON object"),
    ],
)
def test_rows_that_are_no_pages_are_bad(
    tmp_path: Path, page: dict[str, object], reason: str
) -> None:
    docs, tally = read("obelics", write_rows(tmp_path / "a.jsonl", page))
    assert not docs
    assert tally.counts("bad") == {reason: 1}


def test_a_table_without_the_lists_is_an_error(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "a.parquet", [{"text": "x"}])
    with pytest.raises(DataError, match="expected a column 'images'"):
        read("obelics", source)


def test_pages_without_a_url_still_have_a_name(tmp_path: Path) -> None:
    page = row([None, "p.png"], ["x", None], general_metadata=None)
    (tmp_path / "p.png").write_bytes(PNG)
    (doc,), _ = read("obelics", write_rows(tmp_path / "a.jsonl", page), **EVERY)
    assert doc.meta == {"source": "a.jsonl:1"}


# --- mmc4


def test_pictures_of_mmc4_may_lie_in_tars(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"95d3.jpg": PNG})
    page = {
        "url": "u",
        "text_list": ["One.", "Two."],
        "image_info": [{"image_name": "95d3.png", "matched_text_index": 1}],
    }
    (doc,), _ = read("mmc4", write_rows(tmp_path / "a.jsonl", page), **EVERY)
    assert doc.parts == (Text("One."), Image(PNG), Text("Two."))


def test_real_pages_by_both_algorithms(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "web/mmc4_dev.jsonl"
    images = photos(tmp_path / "p", 3)
    paper, _ = read("mmc4", source, images=images, assign_images=True)
    bundled, _ = read(
        "mmc4",
        source,
        images=images,
        assign_images=True,
        edge_sentences=3,
        behind_max_images="nothing",
    )
    assert [doc.id for doc in paper] == [doc.id for doc in bundled]
    assert len(paper) > 30
    for whole, cut in zip(paper, bundled, strict=True):
        assert 1 <= len(whole.images) == len(cut.images) <= 5
        assert len(cut.text) <= len(whole.text)
        if len(cut.images) == 5:
            assert isinstance(cut.parts[-1], Image)
        for edge in edges(cut):
            assert len(sentences(edge)) <= 3


def edges(doc: Document) -> list[str]:
    return [part.text for part in (doc.parts[0], doc.parts[-1]) if isinstance(part, Text)]
