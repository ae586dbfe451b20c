"""kosmos.data.ledger."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from kosmos.config import replace
from kosmos.data.config import Corpus
from kosmos.data.ledger import Ledger, recorded_order
from kosmos.data.loader import Loader
from kosmos.errors import DataError
from kosmos.files import write_json
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.record import run_record
from tests.tiny_run import text_document, write_shards

SKIPPED = ("3-4", "9")
NUM_STEPS = 60


@pytest.fixture(scope="module")
def loader(
    run: Run,
    tokenizer: Tokenizer,
    cache_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Loader:
    """The tiny run, its text mixed of two corpora and some steps left out."""
    folder = tmp_path_factory.mktemp("more")
    more = write_shards(folder / "more", [text_document(n) for n in range(100, 130)])
    corpora = (
        Corpus(name="old", path=run.data.streams[0].path, weight=2.0),
        Corpus(name="new", path=str(more), weight=1.0),
    )
    mixed = replace(run, {"streams.text.path": "", "streams.text.corpora": corpora})
    return Loader(
        replace(mixed.data, {"micro_batch_tokens": 128, "skip_steps": SKIPPED}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )


@pytest.fixture(scope="module")
def ledger(loader: Loader) -> Ledger:
    return Ledger(loader.order)


def test_a_step_holds_what_its_batches_hold(loader: Loader, ledger: Ledger) -> None:
    for step in (1, 2, 3, 8, 20):
        samples = list(ledger.step(step))
        for batch in loader.step(step - 1):
            of_batch = [sample for sample in samples if sample.micro_batch == batch.place]
            assert {sample.stream for sample in of_batch} == {batch.stream}
            assert len(of_batch) == len(batch.token_ids)
            named = [name for sample in of_batch for name in sample.documents]
            assert list(dict.fromkeys(named)) == list(dict.fromkeys(batch.document_ids))
        assert len(samples) == sum(stream.sequences_per_step for stream in loader.data.streams)


def test_steps_that_are_left_out_are_passed_over(ledger: Ledger) -> None:
    read = [next(ledger.step(step)).data_step for step in range(1, 10)]
    assert read == [1, 2, 5, 6, 7, 8, 10, 11, 12]


def everything(ledger: Ledger) -> Iterator[tuple[int | None, str, str, int, int, str]]:
    """Every document of every step, step by step."""
    for step in range(1, NUM_STEPS + 1):
        for sample in ledger.step(step):
            for name in sample.documents:
                yield (step, sample.stream, sample.corpus, sample.row, sample.epoch, name)


@pytest.mark.parametrize("name", ["text-3", "text-117", "caption-0", "page-9"])
def test_a_document_is_found_in_every_step_that_holds_it_and_no_other(
    ledger: Ledger, name: str
) -> None:
    expected = sorted({use for use in everything(ledger) if use[-1] == name})
    found = list(ledger.document(name, first=1, last=NUM_STEPS))
    uses = [(s.step, s.stream, s.corpus, s.row, s.epoch, name) for s in found if s.step]
    assert sorted(uses) == expected
    assert expected
    assert all(name in sample.documents for sample in found)
    assert [sample.data_step for sample in found] == sorted(s.data_step for s in found)


def test_a_document_in_data_that_was_left_out_is_told(loader: Loader, ledger: Ledger) -> None:
    whole = Ledger(
        type(loader.order)(
            loader.data.streams,
            loader.order.indices,
            seed=loader.order.mixture.seed,
            micro_batch_tokens=128,
        )
    )
    left_out = next(iter(whole.step(9))).documents[0]
    found = list(ledger.document(left_out, first=1, last=NUM_STEPS))
    assert [s.data_step for s in found if s.step is None and s.data_step == 9] == [9]


def test_only_the_steps_that_are_asked_for_are_told(ledger: Ledger) -> None:
    whole = list(ledger.document("text-3", first=1, last=NUM_STEPS))
    part = list(ledger.document("text-3", first=5, last=15))
    assert part == [sample for sample in whole if 7 <= sample.data_step <= 18]
    assert 0 < len(part) < len(whole)


def test_a_document_that_is_not_there_is_in_no_step(ledger: Ledger) -> None:
    for name in ("", "text", "text-", "ext-3", "nothing"):
        assert not list(ledger.document(name, first=1, last=NUM_STEPS))


def test_a_sample_is_counted_as_metrics_count(ledger: Ledger) -> None:
    sample = next(iter(ledger.step(1)))
    assert (sample.step, sample.data_step, sample.epoch) == (1, 1, 1)
    assert dataclasses.asdict(sample).keys() >= {"stream", "corpus", "row", "micro_batch"}


def test_the_order_of_a_run_is_read_from_its_record_and_its_indices_alone(
    run: Run, loader: Loader, tmp_path: Path
) -> None:
    elsewhere = replace(run, {"data": loader.data, "tokenizer": "gone"})
    write_json(tmp_path / "run.json", run_record(elsewhere, loader))
    num_steps, order = recorded_order(tmp_path)  # which says where they are
    assert num_steps == run.train.steps
    for step in (0, 7):
        expected, found = loader.order.step(step), order.step(step)
        assert [part.stream for part in found] == [part.stream for part in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.sequences.rows.tolist() == other.sequences.rows.tolist()
    counts = [len(part.sequences) for part in order.step(10**6)]
    assert sum(counts) == sum(stream.sequences_per_step for stream in run.data.streams)


def test_a_run_folder_without_its_indices_is_told(run: Run, loader: Loader, tmp_path: Path) -> None:
    record = run_record(replace(run, {"data": loader.data}), loader)
    write_json(tmp_path / "run.json", record | {"indices": "gone"})
    with pytest.raises(DataError, match=r"expected the index of stream 'text'"):
        recorded_order(tmp_path)
