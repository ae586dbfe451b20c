"""What is shown of a row is what the model gets of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kosmos.check.show.words import ShownRow, show_batch
from kosmos.config import replace
from kosmos.data.loader import Loader
from kosmos.document.shards import ShardReader
from kosmos.image.codec import decode
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from tests.tiny_run import caption_document, write_shards


def rows_of(
    run: Run, tokenizer: Tokenizer, cache: Path, stream: str, *numbers: int
) -> list[ShownRow]:
    loader = Loader(
        run.data,
        tokenizer,
        seed=run.seed,
        cache_folder=cache,
    )
    (config,) = (config for config in run.data.streams if config.name == stream)
    batch = loader.rows(stream, list(numbers))
    return show_batch(batch, config, tokenizer, layout=run.data.layout, image=run.data.image)


def wider(run: Run) -> Run:
    """The run with room for several pages in a row."""
    pages = dataclasses.replace(run.data.streams[2], max_tokens=300)
    return replace(run, {"streams": (*run.data.streams[:2], pages)})


def said(row: ShownRow, number: int) -> str:
    doc = row.documents[number]
    return "".join(
        text if learned else f"\u2039{text}\u203a"
        for text, learned in row.sayings(doc.start, doc.stop)
    )


def test_documents_say_their_words_with_pictures_folded_and_given_words_marked(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    reader = {doc.id: doc for doc in ShardReader(run.data.streams[2].path)}
    rows = rows_of(wider(run), tokenizer, cache_folder, "pages", 0, 1)
    assert max(len(row.documents) for row in rows) > 1
    for row in rows:
        number = 0
        for place, doc in enumerate(row.documents):
            text = said(row, place)
            assert text.startswith("\u2039<s>\u203a ")
            assert text.endswith(" the end.</s>")
            assert reader[doc.id].text.split(".")[0] in text
            for _ in reader[doc.id].images:
                number += 1
                assert f"\u2039<image>[image {number}: 4 slots]</image>\u203a" in text
        assert number == len(row.images) > 0


def test_a_full_sentence_row_is_learned_but_for_its_first_token(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    (row,) = rows_of(run, tokenizer, cache_folder, "text", 0)
    assert row.num_learned == row.num_positions
    assert row.learned_share == 1.0
    assert said(row, 0).startswith("\u2039<s>\u203a a ")
    assert all("\u2039" not in said(row, n) for n in range(1, len(row.documents)))
    assert row.capacity == run.data.streams[0].max_tokens - 1
    assert row.fill == row.num_positions / row.capacity > 0.6


def test_rows_of_a_document_each_are_filled_up_to_the_longest_beside_them(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    rows = rows_of(run, tokenizer, cache_folder, "captions", *range(6))
    assert max(row.fill for row in rows) == 1.0 > min(row.fill for row in rows)
    for row in rows:
        assert row.capacity == row.num_positions + row.num_padding == rows[0].capacity
        assert len(row.documents) == 1
        assert len(row.token_ids) == row.num_positions + 1


def test_pictures_are_those_of_their_documents(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    reader = {doc.id: doc for doc in ShardReader(run.data.streams[2].path)}
    seen = 0
    for row in rows_of(wider(run), tokenizer, cache_folder, "pages", 1, 0):
        of_row = [image for doc in row.documents for image in reader[doc.id].images]
        assert len(of_row) == len(row.images)
        for image, shown in zip(of_row, row.images, strict=True):
            # all of one color, so that preprocessing changes no pixel
            assert np.array_equal(
                np.asarray(shown.picture), np.asarray(decode(image.source, max_pixels=10**6))
            )
            doc = row.documents[shown.document]
            assert doc.start <= shown.start < shown.stop <= doc.stop
            seen += 1
    assert seen > 4


def test_stretches_and_lines_leave_no_token_out(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    for stream in run.data.streams:
        (row,) = rows_of(run, tokenizer, cache_folder, stream.name, 0)
        stretches = list(row.stretches(0, len(row.token_ids)))
        assert [s.start for s in stretches[1:]] == [s.stop for s in stretches[:-1]]
        assert (stretches[0].start, stretches[-1].stop) == (0, len(row.token_ids))
        for num_tokens in (1, 7):
            lines = list(row.lines(num_tokens))
            assert [start for start, _ in lines[1:]] == [stop for _, stop in lines[:-1]]
            assert lines[-1][1] == len(row.token_ids)
            assert all(stop - start >= num_tokens for start, stop in lines[:-1])
            whole = "".join(s.text for s in stretches if s.image is None)
            parts = [s for line in lines for s in row.stretches(*line) if s.image is None]
            assert "".join(s.text for s in parts) == whole


def test_json_has_a_value_for_each_token(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    (row,) = rows_of(run, tokenizer, cache_folder, "pages", 0)
    value = row.to_json()
    count = len(row.token_ids)
    for name in ("token_ids", "tokens", "learned", "token_documents"):
        assert len(value[name]) == count
    assert len(value["positions"]) == value["num_positions"] == count - 1
    assert value["tokens"][0] == "<s>"
    assert [doc["id"] for doc in value["documents"]] == [doc.id for doc in row.documents]


@pytest.mark.parametrize(("evil", "shown"), [("\x1b[31m", "\\x1b[31m"), ("\u202e", "\\u202e")])
def test_characters_that_move_a_cursor_are_written_out(
    evil: str, shown: str, run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    (row,) = rows_of(run, tokenizer, cache_folder, "text", 0)
    texts = (*row.texts[:3], evil, *row.texts[4:])
    changed = dataclasses.replace(row, texts=texts)
    text = "".join(s.text for s in changed.stretches(0, len(texts)))
    assert evil not in text
    assert shown in text


def test_bytes_of_a_character_are_joined(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    (row,) = rows_of(run, tokenizer, cache_folder, "text", 0)
    texts = (*row.texts[:3], "é".encode()[:1], "é".encode()[1:], *row.texts[5:])
    changed = dataclasses.replace(row, texts=texts)
    assert "é" in next(s.text for s in changed.stretches(1, len(texts)))


def test_a_loader_reads_captions_packed_in_isolation(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    shards = write_shards(tmp_path / "shards", [caption_document(n) for n in range(12)])
    stream = dataclasses.replace(
        run.data.streams[1], path=str(shards), heldout_path="", packing="isolated", max_tokens=128
    )
    one = replace(run, {"streams": (stream,)})
    (row,) = rows_of(one, tokenizer, tmp_path / "index", "captions", 0)
    starts = [doc.start for doc in row.documents]
    assert len(starts) > 1
    assert not row.positions[starts].any()
