"""kosmos.data.loader and kosmos.data.batch."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from kosmos.config import replace
from kosmos.data.batch import Batch
from kosmos.data.config import Corpus, Packing, Stream
from kosmos.data.loader import Loader
from kosmos.document.pixels import load_pixels
from kosmos.document.shards import ShardReader
from kosmos.errors import ConfigError, DataError
from kosmos.image.transform import ImageTransform
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from tests.tiny_run import caption_document, text_document, write_shards


def make_loader(
    run: Run, tokenizer: Tokenizer, cache_folder: Path, *, micro_batch_tokens: int = 128
) -> Loader:
    return Loader(
        replace(run.data, {"micro_batch_tokens": micro_batch_tokens}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )


@pytest.fixture(scope="module")
def loader(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> Loader:
    return make_loader(run, tokenizer, cache_folder)


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for field in dataclasses.fields(Batch):
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y


def test_a_step_is_a_pure_function_of_seed_and_step(
    loader: Loader, run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    wanted = loader.step(17)
    loader.step(3)
    assert_equal(loader.step(17), wanted)
    assert_equal(make_loader(run, tokenizer, cache_folder).step(17), wanted)
    other = make_loader(dataclasses.replace(run, seed=4), tokenizer, cache_folder)
    assert [b.document_ids for b in other.step(17)] != [b.document_ids for b in wanted]


@pytest.mark.parametrize(("num_workers", "depth"), [(0, 0), (0, 3), (1, 1), (3, 2)])
def test_reading_ahead_changes_no_batch(loader: Loader, num_workers: int, depth: int) -> None:
    ahead = list(loader.prefetch(4, 9, depth=depth, num_workers=num_workers))
    assert len(ahead) == 5
    for step, batches in zip(range(4, 9), ahead, strict=True):
        assert_equal(batches, loader.step(step))


def test_reading_ahead_stops_when_it_is_closed(loader: Loader) -> None:
    batches = loader.prefetch(0, 1000)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_every_step_holds_the_planned_sequences_of_every_stream(loader: Loader, run: Run) -> None:
    for step in range(8):
        count = dict.fromkeys((stream.name for stream in run.data.streams), 0)
        for batch in loader.step(step):
            count[batch.stream] += len(batch.token_ids)
        assert count == {stream.name: stream.sequences_per_step for stream in run.data.streams}


def test_targets_are_the_next_tokens_and_carry_loss_where_the_document_says(
    loader: Loader, tokenizer: Tokenizer
) -> None:
    vocabulary = tokenizer.vocabulary
    for batch in loader.step(0) + loader.step(1):
        used = batch.token_ids != vocabulary.pad_id
        assert (batch.targets[:, :-1] == batch.token_ids[:, 1:])[used[:, 1:]].all()
        assert not batch.loss_weights[~used].any()
        assert set(np.unique(batch.loss_weights)) <= {0.0, 1.0}
        predicted = batch.targets[batch.loss_weights > 0]
        assert vocabulary.eos_id in predicted
        assert not np.isin(predicted, [vocabulary.bos_id, vocabulary.image_id]).any()
        assert not np.isin(predicted, [vocabulary.image_end_id, vocabulary.pad_id]).any()
        # padding is on the right
        assert (np.diff(used.astype(int), axis=1) <= 0).all()


def test_every_token_knows_its_document(loader: Loader, tokenizer: Tokenizer) -> None:
    for batch in loader.step(0) + loader.step(1):
        tokens = np.concatenate([batch.token_ids, batch.targets[:, -1:]], axis=1)
        used = np.ones_like(tokens, dtype=bool)
        used[:, 1:] = batch.targets != tokenizer.vocabulary.pad_id
        assert np.array_equal(batch.documents >= 0, used)
        assert np.array_equal(np.unique(batch.documents[used]), np.arange(len(batch.document_ids)))
        # the next one begins after </s>, in the same row or in the next
        numbers, ends = batch.documents[used], tokens[used] == tokenizer.vocabulary.eos_id
        starts_row = np.diff(np.nonzero(used)[0]) > 0
        assert np.array_equal(np.diff(numbers), (ends[:-1] | starts_row).astype(int))


def test_rows_asked_for_by_number_are_those_of_the_index(loader: Loader) -> None:
    batch = loader.rows("pages", [1, 0])
    index = loader.indices["pages"]
    assert batch.stream == "pages"
    for place, number in enumerate((1, 0)):
        row = index.row(number)
        used = len(row.token_ids) - 1
        assert np.array_equal(batch.targets[place, :used], row.token_ids[1:])
    wanted = [index.id(document) for number in (1, 0) for document in index.row(number).documents]
    assert list(batch.document_ids) == wanted


def test_pixels_stand_in_the_order_of_their_slots(loader: Loader, run: Run) -> None:
    transform = ImageTransform(run.data.image)
    for stream in run.data.streams[1:]:
        reader = {doc.id: doc for doc in ShardReader(stream.path)}
        for batch in loader.step(2):
            if batch.stream != stream.name:
                continue
            images = [image for name in batch.document_ids for image in reader[name].images]
            assert batch.pixels is not None
            assert np.array_equal(batch.pixels, load_pixels(images, transform))
            assert batch.image_slots.sum() == len(images) * run.data.layout.num_image_tokens


def test_isolated_documents_restart_segments_and_positions(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    pages = dataclasses.replace(run.data.streams[1], packing="isolated", max_tokens=128)
    loader = make_loader(replace(run, {"streams": (pages,)}), tokenizer, cache_folder)
    (batch, *_) = loader.step(0)
    assert batch.segments is not None
    for ids, segments, positions in zip(
        batch.token_ids, batch.segments, batch.positions, strict=True
    ):
        starts = np.flatnonzero(ids == tokenizer.vocabulary.bos_id)
        assert len(starts) > 1
        assert np.array_equal(np.flatnonzero(np.diff(segments, prepend=-1) > 0), starts)
        assert not positions[starts].any()
        inside = segments[1:] == segments[:-1]
        assert (np.diff(positions)[inside & (segments[1:] >= 0)] == 1).all()
        assert (segments[ids == tokenizer.vocabulary.pad_id] == -1).all()
    assert batch.num_tokens == (batch.segments >= 0).sum()


def test_plain_rows_count_positions_from_zero_and_have_no_segments(loader: Loader) -> None:
    for batch in loader.step(0):
        if batch.stream != "pages":
            assert batch.segments is None
            assert (batch.positions == np.arange(batch.token_ids.shape[1])).all()


def test_micro_batches_keep_within_the_limit_and_change_no_sequence(
    run: Run, tokenizer: Tokenizer, cache_folder: Path, loader: Loader
) -> None:
    whole = make_loader(run, tokenizer, cache_folder, micro_batch_tokens=10**6)
    for batch in loader.step(5):
        assert batch.token_ids.size <= 128 or len(batch.token_ids) == 1
    few, many = whole.step(5), loader.step(5)
    assert len(few) == 3 < len(many)
    assert sum(b.num_tokens for b in few) == sum(b.num_tokens for b in many)
    assert [i for b in few for i in b.document_ids] == [i for b in many for i in b.document_ids]


def test_heldout_batches_are_the_same_every_time_and_for_every_seed(
    loader: Loader, run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    assert loader.heldout_streams == ("captions",)
    batches = loader.heldout("captions")
    other = make_loader(dataclasses.replace(run, seed=99), tokenizer, cache_folder)
    assert_equal(other.heldout("captions"), batches)
    ids = {name for batch in batches for name in batch.document_ids}
    assert ids == {f"caption-{number}" for number in range(100, 108)}


def test_a_stream_without_data_is_named(run: Run, tokenizer: Tokenizer, cache_folder: Path) -> None:
    nameless = dataclasses.replace(run.data.streams[0], path="")
    with pytest.raises(ConfigError, match=r"streams.text.path: expected a folder") as error:
        make_loader(replace(run, {"streams": (nameless,)}), tokenizer, cache_folder)
    assert error.value.hint == "--set streams.text.path=FOLDER"


def test_a_rank_reads_no_picture_of_another_but_what_a_filler_copies(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(images, transform, *, where):
        decoded.extend(where)
        return load_pixels(images, transform, where=where)

    monkeypatch.setattr("kosmos.data.reading.load_pixels", counting)
    whole = loader.step(6)
    count_of_step = len(decoded)
    for num_processes in (2, 3, 5):
        decoded.clear()
        shares = [
            loader.step(6, rank=rank, num_processes=num_processes) for rank in range(num_processes)
        ]
        fillers = [batch for share in shares for batch in share if batch.is_filler]
        assert fillers
        copied = sum(len(batch.pixels) for batch in fillers if batch.pixels is not None)
        assert len(decoded) == count_of_step + copied
        real = [batch for share in shares for batch in share if not batch.is_filler]
        assert sorted(batch.place for batch in real) == [batch.place for batch in whole]
        assert sum(b.num_tokens for s in shares for b in s) == sum(b.num_tokens for b in whole)


def test_a_filler_is_the_first_of_its_round_without_loss(loader: Loader) -> None:
    whole = loader.step(6)
    share = loader.step(6, rank=4, num_processes=5)
    for batch in share:
        of_stream = [other for other in whole if other.stream == batch.stream]
        if batch.is_filler:
            first = of_stream[(len(of_stream) - 1) // 5 * 5]
            assert (batch.place, batch.num_tokens, batch.num_loss_tokens) == (first.place, 0, 0.0)
            assert np.array_equal(batch.token_ids, first.token_ids)


def test_a_round_needs_images_for_all_ranks_or_for_none(
    run: Run, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    words = [dataclasses.replace(text_document(n, num_lines=1)) for n in range(6)]
    mixed = write_shards(tmp_path / "mixed", words + [caption_document(n) for n in range(6)])
    stream = dataclasses.replace(
        run.data.streams[0],
        path=str(mixed),
        packing="single",
        sequences_per_step=12,
        max_tokens=200,
    )
    mixed_run = replace(run, {"streams": (stream,)})
    loader = make_loader(mixed_run, tokenizer, tmp_path / "index", micro_batch_tokens=1)
    alone = loader.step(0)
    assert [batch.needs_images for batch in alone] == [batch.pixels is not None for batch in alone]
    ranks = [loader.step(0, rank=rank, num_processes=5) for rank in range(5)]
    for together in zip(*ranks, strict=True):
        (needed,) = {batch.needs_images for batch in together}
        assert needed == any(batch.pixels is not None for batch in together)
    assert any(batch.needs_images and batch.pixels is None for share in ranks for batch in share)


@pytest.fixture
def corpora(run: Run, tmp_path: Path) -> Stream:
    """A stream of three corpora, weights 3, 2 and 1, the first two with held-out data."""
    folders = [
        write_shards(tmp_path / name, [text_document(n) for n in range(first, first + 30)])
        for name, first in (
            ("a", 0),
            ("b", 100),
            ("c", 200),
            ("a-heldout", 300),
            ("b-heldout", 400),
        )
    ]
    a, b, c, heldout_a, heldout_b = map(str, folders)
    return dataclasses.replace(
        run.data.streams[0],
        path="",
        packing="single",
        sequences_per_step=6,
        max_tokens=200,
        corpora=(
            Corpus(name="a", path=a, weight=3.0, heldout_path=heldout_a),
            Corpus(name="b", path=b, weight=2.0, heldout_path=heldout_b),
            Corpus(name="c", path=c, weight=1.0),
        ),
    )


def first_digits(batches: list[Batch]) -> list[str]:
    """Which corpus each document is of: 0, 1, 2 and so on."""
    names = [name.removeprefix("text-") for batch in batches for name in batch.document_ids]
    return [name[0] if len(name) == 3 else "0" for name in names]


def test_corpora_fill_each_step_by_weight(
    run: Run, tokenizer: Tokenizer, tmp_path: Path, corpora: Stream
) -> None:
    loader = make_loader(replace(run, {"streams": (corpora,)}), tokenizer, tmp_path / "index")
    assert list(loader.indices) == ["text/a", "text/b", "text/c"]
    for step in range(12):  # six sequences a step are a period of the weights
        batches = loader.step(step)
        assert {batch.stream for batch in batches} == {"text"}
        assert sorted(first_digits(batches)) == ["0", "0", "0", "1", "1", "2"]


def test_heldout_sequences_are_of_the_corpora_that_hold_out_by_weight(
    run: Run, tokenizer: Tokenizer, tmp_path: Path, corpora: Stream
) -> None:
    loader = Loader(
        replace(
            run.data, {"streams": (corpora,), "micro_batch_tokens": 128, "heldout_sequences": 25}
        ),
        tokenizer,
        seed=run.seed,
        cache_folder=tmp_path / "index",
    )
    digits = first_digits(loader.heldout("text"))
    assert (digits.count("3"), digits.count("4")) == (15, 10)


def test_token_counts_of_a_stream_are_those_of_its_corpora_by_weight(
    run: Run, tokenizer: Tokenizer, tmp_path: Path, corpora: Stream, loader: Loader
) -> None:
    mixed = make_loader(replace(run, {"streams": (corpora,)}), tokenizer, tmp_path / "index")
    counts = [index.token_counts / index.token_counts.sum() for index in mixed.indices.values()]
    expected = 3 / 6 * counts[0] + 2 / 6 * counts[1] + 1 / 6 * counts[2]
    found = mixed.token_counts("text")
    assert np.allclose(found / found.sum(), expected)
    # a stream of one folder has the index's own
    assert np.array_equal(loader.token_counts("text"), loader.indices["text"].token_counts)


def test_a_corpus_without_a_path_is_refused_or_left_out_with_a_warning(
    run: Run,
    tokenizer: Tokenizer,
    tmp_path: Path,
    corpora: Stream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lacking = replace(corpora, {"corpora.a.path": "", "corpora.c.path": ""})
    with pytest.raises(
        ConfigError, match=r"streams.text.corpora.a.path: expected .* \(nor for c\)"
    ) as error:
        make_loader(replace(run, {"streams": (lacking,)}), tokenizer, tmp_path / "index")
    assert error.value.hint is not None
    assert "--set streams.text.missing_corpora=drop" in error.value.hint
    dropping = dataclasses.replace(lacking, missing_corpora="drop")
    loader = make_loader(replace(run, {"streams": (dropping,)}), tokenizer, tmp_path / "index")
    assert "streams.text: left out for want of a path: a, c; of the others: b 100.0%" in caplog.text
    assert set(first_digits(loader.step(0))) == {"1"}


def test_a_source_shorter_than_its_part_of_a_step_is_refused(
    run: Run, tokenizer: Tokenizer, cache_folder: Path, tmp_path: Path, corpora: Stream
) -> None:
    hungry = dataclasses.replace(run.data.streams[1], sequences_per_step=31)
    with pytest.raises(DataError, match=r"streams.captions .*at least 31 seq.* found 30"):
        make_loader(replace(run, {"streams": (hungry,)}), tokenizer, cache_folder)
    hungry = dataclasses.replace(corpora, sequences_per_step=62)
    with pytest.raises(DataError, match=r"streams.text.corpora.a .*at least 31 seq.* found 30"):
        make_loader(replace(run, {"streams": (hungry,)}), tokenizer, tmp_path / "index")


@pytest.mark.parametrize("packing", ["single", "full-sentence", "isolated"])
def test_a_stream_without_documents_is_refused(
    run: Run, tokenizer: Tokenizer, tmp_path: Path, packing: Packing
) -> None:
    folder = write_shards(tmp_path / "empty", [])
    empty = dataclasses.replace(run.data.streams[0], path=str(folder), packing=packing)
    with pytest.raises(DataError, match=r"text \(.*empty\): expected documents to train on"):
        make_loader(replace(run, {"streams": (empty,)}), tokenizer, tmp_path / "index")


def test_streams_of_one_name_are_refused(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    with pytest.raises(ConfigError, match=r"streams: expected unique names, found 'text' twice"):
        Loader(
            replace(
                run.data,
                {"streams": (run.data.streams[0], run.data.streams[0]), "micro_batch_tokens": 128},
            ),
            tokenizer,
            seed=0,
            cache_folder=cache_folder,
        )
