"""kosmos.data.indexing and kosmos.data.index."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.config import digest, to_json
from kosmos.data.config import Packing, Stream
from kosmos.data.index import Index
from kosmos.data.indexing import folder_of_index, index_key, open_index, recorded_folder
from kosmos.data.loader import Loader
from kosmos.data.usable import Usable, encode_usable
from kosmos.document.encode import encode
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import DataError
from kosmos.files import read_jsonl, write_json
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from tests.tiny_run import caption_document, page_document, picture, text_document, write_shards


def build(stream: Stream, run: Run, tokenizer: Tokenizer, cache_folder: Path) -> Index:
    reader = ShardReader(stream.path)
    return open_index(stream, reader, tokenizer, run.data.rows(stream), cache_folder)


def stream_of(folder: Path, docs: list[Document], **fields: object) -> Stream:
    settings = {"sequences_per_step": 1, "tokens_per_sequence": 1.0, "max_tokens": 64, **fields}
    return Stream(name="some", path=str(write_shards(folder, docs)), **settings)  # type: ignore[arg-type]


def test_single_rows_are_what_the_encoder_says(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    docs = [caption_document(n) for n in range(6)] + [page_document(1)]
    index = build(
        stream_of(tmp_path / "docs", docs, max_tokens=200), run, tokenizer, tmp_path / "index"
    )
    assert index.num_rows == len(docs)
    for number, doc in enumerate(docs):
        encoded = encode(
            doc, tokenizer, layout=run.data.layout, image=run.data.image, complete=True
        )
        row = index.row(number)
        assert np.array_equal(row.token_ids, encoded.token_ids)
        assert np.array_equal(row.image_slots, encoded.image_slots)
        assert np.array_equal(row.loss_mask, encoded.loss_mask)
        assert row.images == tuple((number, place) for place in range(len(doc.images)))
        assert index.id(number) == doc.id
        assert index.number(number) == number
        assert index.row_lengths[number] == len(encoded)


def test_full_sentence_rows_start_with_bos_and_hold_every_line(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    docs = [text_document(n) for n in range(12)]
    stream = stream_of(
        tmp_path / "docs", docs, packing="full-sentence", line_tokens=True, max_tokens=100
    )
    index = build(stream, run, tokenizer, tmp_path / "index")
    layout = dataclasses.replace(run.data.layout, line_tokens=True)
    expected = [
        encode(doc, tokenizer, layout=layout, image=run.data.image, complete=True).token_ids[1:]
        for doc in docs
    ]
    vocabulary = tokenizer.vocabulary
    rows = [index.row(number) for number in range(index.num_rows)]
    assert np.array_equal(
        np.concatenate([row.token_ids[1:] for row in rows]), np.concatenate(expected)
    )
    for number, row in enumerate(rows):
        assert row.token_ids[0] == vocabulary.bos_id
        assert not row.loss_mask[0]
        assert row.loss_mask[1:].all()
        assert len(row.token_ids) == index.row_lengths[number] <= 100
        # a row ends where a line or a document ends
        assert row.token_ids[-1] in (vocabulary.line_end_id, vocabulary.eos_id)


def test_full_sentence_finds_the_pictures_of_a_document_cut_between_rows(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    rng = np.random.default_rng(0)
    doc = Document(
        [
            Image(picture(rng)),
            Text("a red circle.\na blue ring"),
            Image(picture(rng)),
            Text(" a star."),
        ],
        id="cut",
    )
    stream = stream_of(
        tmp_path / "docs", [doc], packing="full-sentence", line_tokens=True, max_tokens=32
    )
    index = build(stream, run, tokenizer, tmp_path / "index")
    images = [index.row(row).images for row in range(index.num_rows)]
    assert images == [((0, 0),), ((0, 1),)]
    for row in range(2):
        assert index.row(row).image_slots.sum() == run.data.layout.num_image_tokens


def test_tokens_cut_off_lines_longer_than_a_row_are_counted_and_told(
    tmp_path: Path, run: Run, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    docs = [text_document(0, num_lines=2), Document([Text("a red star. " * 20)], id="long")]
    stream = stream_of(
        tmp_path / "docs",
        docs,
        packing="full-sentence",
        line_tokens=True,
        max_tokens=40,
        max_unusable=0.9,
    )
    with caplog.at_level("INFO", logger="kosmos.data.indexing"):
        index = build(stream, run, tokenizer, tmp_path / "index")
    layout = dataclasses.replace(run.data.layout, line_tokens=True)
    lengths = [
        len(encode(doc, tokenizer, layout=layout, image=run.data.image, complete=True))
        for doc in docs
    ]
    kept = int(index.row_lengths.sum()) - index.num_rows
    cut = sum(lengths) - len(docs) - kept
    assert cut == lengths[1] - 1 - 39 > 0
    assert isinstance(index.report["dropped"], dict)
    assert index.report["dropped"]["tokens"] == cut
    assert f"{cut} of {sum(lengths) - len(docs)} tokens" in caplog.text


def test_unusable_documents_are_counted_under_a_reason_and_listed(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    good = [caption_document(n) for n in range(4)]
    rng = np.random.default_rng(0)
    image = caption_document(5).images[0].source
    assert isinstance(image, np.ndarray)
    bad = [
        Document([Image(_truncated_png(rng)), Text("a star.")], id="broken"),
        Document([Text("a red star. " * 20, loss=False), Text("yes.")], id="long"),
        Document([Image(picture(rng)), Grounded("ring", [Box(0.5, 0.5, 0.2, 0.9)])], id="box"),
        Document([Text("a ring.", loss=False)], id="silent"),
    ]
    stream = stream_of(tmp_path / "docs", good + bad, max_unusable=0.5)
    index = build(stream, run, tokenizer, tmp_path / "index")
    assert index.num_rows == 4
    assert index.unusable == {
        "unreadable image": 1,
        "too long": 1,
        "cannot be encoded": 1,
        "nothing to learn": 1,
    }
    listed = list(read_jsonl(index.folder / "unusable.jsonl"))
    assert [(row["document"], row["id"]) for row in listed] == [  # type: ignore[index, call-overload]
        (4, "broken"),
        (5, "long"),
        (6, "box"),
        (7, "silent"),
    ]
    assert "expected at most 64 tokens, found" in str(listed[1])


def test_location_tokens_that_were_written_for_another_grid_or_crop_are_refused(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    num_cells = tokenizer.vocabulary.num_cells

    def document(name: str, cells: int, geometry: str) -> Document:
        # a cell that every grid has
        star = "<phrase>star</phrase><object><patch_index_0000><patch_index_0000></object>"
        words = Text(f"<grounding>a {star}")
        parts = [Image(picture(np.random.default_rng(0))), words]
        return Document(parts, id=name, meta={"num_cells": cells, "geometry": geometry})

    docs = [
        document("good", num_cells, run.data.image.geometry),
        document("grid", 2 * num_cells, run.data.image.geometry),
        document("crop", num_cells, "center-crop"),
    ]
    stream = stream_of(tmp_path / "docs", docs, max_unusable=0.7)
    index = build(stream, run, tokenizer, tmp_path / "index")
    assert index.unusable == {"cannot be encoded": 2}
    grid, crop = map(str, read_jsonl(index.folder / "unusable.jsonl"))
    assert f"a grid of {num_cells} cells a side, found one of {2 * num_cells}" in grid
    assert "pictures of image.geometry=square, found center-crop" in crop


def test_too_many_unusable_documents_stop_the_run_and_say_where_they_are_listed(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    docs = [caption_document(n) for n in range(9)] + [Document([Text("a", loss=False)], id="x")]
    stream = stream_of(tmp_path / "docs", docs, max_unusable=0.05)
    with pytest.raises(
        DataError, match=r"at most 5.0% of 10 .* found 1 \(1 nothing to learn\)"
    ) as e:
        build(stream, run, tokenizer, tmp_path / "index")
    assert e.value.hint is not None
    listed = Path(e.value.hint.split(" in ")[1].split(";")[0])
    assert len(list(read_jsonl(listed))) == 1


def test_no_usable_document_is_an_error_whatever_the_budget(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    docs = [Document([Text("a", loss=False)], id="x")]
    stream = stream_of(tmp_path / "docs", docs, max_unusable=1.0)
    with pytest.raises(DataError, match="expected documents to train on, found none"):
        build(stream, run, tokenizer, tmp_path / "index")


def test_a_line_too_long_for_full_sentence_rows_is_cut_and_with_a_picture_closed(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    rng = np.random.default_rng(0)
    long = Document([Text("a red circle " * 10)], id="text")
    seen = Document([Image(picture(rng)), Text("a red circle " * 10)], id="picture")
    stream = stream_of(
        tmp_path / "docs", [long, seen], packing="full-sentence", max_tokens=20, max_unusable=0.9
    )
    index = build(stream, run, tokenizer, tmp_path / "index")
    assert index.unusable == {}
    assert index.row_lengths.tolist() == [20, 20]
    eos_id = tokenizer.vocabulary.eos_id
    assert [int(index.row(row).token_ids[-1] == eos_id) for row in range(2)] == [0, 1]
    assert index.report["num_cut"] == 1


def page(num_words: int, *, name: str = "page") -> Document:
    """Words, a picture, words, a picture, words, with a box at each of them."""
    rng = np.random.default_rng(0)
    parts: list[Text | Image | Grounded] = []
    for _ in range(2):
        parts += [
            Text("a red circle " * num_words),
            Image(picture(rng)),
            Grounded("a star", [Box(0.1, 0.1, 0.9, 0.9)]),
        ]
    return Document([*parts, Text(" the end.")], id=name)


@pytest.mark.parametrize("packing", ["single", "isolated", "full-sentence"])
def test_pages_longer_than_the_context_are_cut_and_counted_and_the_run_starts(
    tmp_path: Path,
    run: Run,
    tokenizer: Tokenizer,
    packing: Packing,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # 20 pages, one of them longer, as of the pages of OBELICS that the fault was found with
    docs = [page(2, name=f"page-{n}") for n in range(19)] + [page(12, name="long")]
    lengths = [
        len(encode(doc, tokenizer, layout=run.data.layout, image=run.data.image, complete=True))
        for doc in docs
    ]
    assert lengths[0] <= 100 < lengths[-1]
    max_unusable = 1.0 if packing == "full-sentence" else 0.01
    stream = stream_of(
        tmp_path / "docs", docs, packing=packing, max_tokens=100, max_unusable=max_unusable
    )
    with caplog.at_level("INFO", logger="kosmos.data.indexing"):
        index = build(stream, run, tokenizer, tmp_path / "index")
    assert index.unusable == {}
    assert index.report["num_cut"] == 1
    assert index.losses.num_cut_tokens > 0
    assert index.losses.num_tokens == sum(lengths) - 20 * (packing == "full-sentence")
    assert f"{index.losses.num_cut_tokens} of {index.losses.num_tokens} tokens" in caplog.text
    (row,) = index.rows_of(19)
    tokens = index.row(row).token_ids
    assert tokens[-1] == tokenizer.vocabulary.eos_id
    assert len(tokens) <= 100


@settings(max_examples=40)
@given(st.integers(8, 160), st.integers(1, 9), st.sampled_from(["single", "full-sentence"]))
def test_what_is_cut_tears_no_picture_and_no_box_from_its_phrase(
    run: Run, tokenizer: Tokenizer, max_tokens: int, num_words: int, packing: Packing
) -> None:
    rows = dataclasses.replace(
        run.data.rows(run.data.streams[1]), packing=packing, max_tokens=max_tokens
    )
    doc, vocabulary = page(num_words), tokenizer.vocabulary
    whole = encode(doc, tokenizer, layout=rows.layout, image=rows.image, complete=True)
    found = encode_usable(doc, tokenizer, rows)
    assert isinstance(found, Usable)
    kept, slots = found.encoded.token_ids, found.encoded.image_slots
    assert len(kept) <= max_tokens
    assert kept[:-1].tolist() == whole.token_ids[: len(kept) - 1].tolist()
    assert kept[-1] == vocabulary.eos_id
    assert found.num_cut_tokens == len(whole) - len(kept)
    assert slots.sum() == len(found.encoded.images) * rows.layout.num_image_tokens
    for opening, closing in (
        (vocabulary.image_id, vocabulary.image_end_id),
        (vocabulary.phrase_id, vocabulary.phrase_end_id),
        (vocabulary.phrase_id, vocabulary.object_end_id),
    ):
        assert (kept[~slots] == opening).sum() == (kept[~slots] == closing).sum()
    assert kept[-2] != vocabulary.grounding_id


@pytest.mark.parametrize("parts", ["words", "pictures"])
def test_a_long_line_is_carried_into_the_next_rows_whole(
    tmp_path: Path, run: Run, tokenizer: Tokenizer, parts: str
) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 500, 30).tolist()
    if parts == "words":
        docs = [Document([Text("star " * n)], id=f"{i}") for i, n in enumerate(lengths)]
    else:
        docs = [page(n, name=f"page-{n}") for n in (1, 7, 20)]
    stream = stream_of(tmp_path / "docs", docs, packing="full-sentence", max_tokens=90)
    with pytest.raises(DataError, match=r"at most 1.0% of the tokens .* longer than a row of 90"):
        build(stream, run, tokenizer, tmp_path / "index")
    carried = dataclasses.replace(stream, long_lines="carry")
    index = build(carried, run, tokenizer, tmp_path / "index")
    encoded = [
        encode(doc, tokenizer, layout=run.data.layout, image=run.data.image, complete=True)
        for doc in docs
    ]
    rows = [index.row(row) for row in range(index.num_rows)]
    assert np.array_equal(
        np.concatenate([row.token_ids[1:] for row in rows]),
        np.concatenate([each.token_ids[1:] for each in encoded]),
    )
    assert index.losses.num_cut_tokens == 0
    assert index.row_lengths.max() <= 90
    for row in rows:  # each picture stands whole in the row that says it has it
        assert row.image_slots.sum() == len(row.images) * run.data.layout.num_image_tokens
    # a row is left open only where the next line, or picture, does not fit
    assert parts == "pictures" or (index.row_lengths == 90).sum() >= sum(n // 89 for n in lengths)


def test_a_picture_larger_than_a_row_is_no_line_to_carry(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    rng = np.random.default_rng(0)
    docs = [Document([Image(picture(rng)), Text("a star. " * 9)], id="large"), text_document(1)]
    stream = stream_of(
        tmp_path / "docs",
        docs,
        packing="full-sentence",
        max_tokens=run.data.layout.num_image_tokens + 2,
        max_unusable=0.5,
        long_lines="carry",
    )
    assert build(stream, run, tokenizer, tmp_path / "index").unusable == {"too long": 1}


def test_an_index_is_made_once_and_anew_when_anything_that_makes_it_changes(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    stream = stream_of(tmp_path / "docs", [caption_document(n) for n in range(3)])
    first = build(stream, run, tokenizer, tmp_path / "index")
    before = (first.folder / "tokens.bin").stat().st_mtime_ns
    again = build(stream, run, tokenizer, tmp_path / "index")
    assert (again.folder / "tokens.bin").stat().st_mtime_ns == before
    for change in ({"max_tokens": 63}, {"packing": "isolated"}, {"ground": False}):
        other = dataclasses.replace(stream, **change)  # type: ignore[arg-type]
        assert build(other, run, tokenizer, tmp_path / "index").digest != first.digest
    # what does not change rows does not change the index
    same = dataclasses.replace(stream, sequences_per_step=7, name="other")
    assert build(same, run, tokenizer, tmp_path / "index").digest == first.digest
    more = stream_of(tmp_path / "more", [caption_document(n) for n in range(4)])
    assert build(more, run, tokenizer, tmp_path / "index").digest != first.digest


def test_what_no_run_names_a_place_for_is_kept_for_all_runs(
    tmp_path: Path, run: Run, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS_CACHE", str(tmp_path / "cache"))
    first = Loader(run.data, tokenizer, seed=1)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/indices/*/tokens.bin")}
    assert len(made) == 4  # three streams and what one of them holds out
    assert Path(first.cache_folder) == tmp_path / "cache" / "indices"
    other = dataclasses.replace(run.data, micro_batch_tokens=64)
    assert Loader(other, tokenizer, seed=2).indices["text"].folder == first.indices["text"].folder
    again = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/indices/*/tokens.bin")}
    assert again == made
    # a person who cleans up sees what it is of
    assert first.indices["text"].report["of"] == run.data.streams[0].path
    shutil.rmtree(tmp_path / "cache")
    assert Loader(run.data, tokenizer, seed=1).indices["text"].num_rows > 0


OPENING = """
import sys
from pathlib import Path
from kosmos.config import from_json
from kosmos.data.loader import Loader
from kosmos.files import read_json
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run

run = from_json(Run, read_json(Path(sys.argv[1])))
tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
sys.stdin.readline()
indices = Loader(run.data, tokenizer, seed=0, cache_folder=Path(sys.argv[2])).indices
print(*((index.folder / "tokens.bin").stat().st_ino for index in indices.values()))
"""


def test_processes_that_want_one_index_at_once_make_it_once(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "run.json"
    write_json(file, to_json(run))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENING, str(file), str(tmp_path / "index")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:  # all have imported what they need when the first one begins
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = {process.communicate()[0] for process in processes}
    assert len(told) == 1
    assert told != {""}
    names = sorted(path.name for path in (tmp_path / "index").iterdir())
    assert len(names) == 4
    assert all(name.startswith("index-") for name in names)


def test_a_run_folder_knows_where_its_indices_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOSMOS_CACHE", str(tmp_path / "cache"))
    folder, kept = tmp_path / "run", tmp_path / "kept"
    folder.mkdir()
    write_json(folder / "run.json", {"indices": str(kept)})
    # the folder that it names is gone, or of another machine
    assert recorded_folder(folder) == tmp_path / "cache" / "indices"
    (folder / "index").mkdir()  # as runs left them that had their own
    assert recorded_folder(folder) == folder / "index"
    kept.mkdir()
    assert recorded_folder(folder) == kept
    write_json(folder / "run.json", {})
    assert recorded_folder(folder) == folder / "index"


def test_a_damaged_index_is_named_with_the_way_out(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    stream = stream_of(tmp_path / "docs", [caption_document(n) for n in range(3)])
    reader = ShardReader(stream.path)
    key = index_key(reader, tokenizer, run.data.rows(stream))
    build(stream, run, tokenizer, tmp_path)
    tokens = folder_of_index(tmp_path, digest(key)) / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"tokens.bin: expected a file of an index"):
        build(stream, run, tokenizer, tmp_path)
    (tokens.parent / "offsets.npy").unlink()
    with pytest.raises(DataError, match=r"offsets.npy: expected a file of an index"):
        build(stream, run, tokenizer, tmp_path)


def test_token_counts_are_those_of_tokens_on_which_loss_falls(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    docs = [caption_document(n) for n in range(5)]
    index = build(stream_of(tmp_path / "docs", docs), run, tokenizer, tmp_path / "index")
    rows = [index.row(row) for row in range(index.num_rows)]
    expected = np.zeros(tokenizer.vocabulary.size, dtype=np.int64)
    for row in rows:
        np.add.at(expected, row.token_ids[row.loss_mask], 1)
    assert np.array_equal(index.token_counts, expected)
    assert expected[tokenizer.vocabulary.image_id] == 0
    assert index.num_positions == sum(len(row.token_ids) - 1 for row in rows)
    assert index.num_images == 5


def _truncated_png(rng: np.random.Generator) -> bytes:
    """A header that says its size and no pixels behind it, as a broken download leaves."""
    import io

    import PIL.Image

    buffer = io.BytesIO()
    PIL.Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()[:200]
