"""Isolated rows do not leak, whatever fills them; and the leak test sees it where they do."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kosmos.check.leaks.leaktest import leak_test, num_changes, small_model
from kosmos.check.leaks.report import LeakReport
from kosmos.check.leaks.visibility import who_sees_whom
from kosmos.config import replace
from kosmos.data.batch import Batch, collate
from kosmos.data.index import Row
from kosmos.data.loader import Loader
from kosmos.data.packing import pack
from kosmos.errors import DataError
from kosmos.model import decoder, kosmos
from kosmos.model.config import PRESETS, with_vocabulary
from kosmos.text.tokenizer import Tokenizer
from kosmos.train import step
from kosmos.train.config import Run

NUM_SLOTS = 2
NANO = PRESETS["nano"]
CONFIGS = {
    positions: dataclasses.replace(
        with_vocabulary(NANO, 40),
        decoder=dataclasses.replace(NANO.decoder, vocab_size=40, positions=positions),
        connector=dataclasses.replace(NANO.connector, num_queries=NUM_SLOTS),
    )
    for positions in ("sinusoidal", "xpos")
}
MODELS = {positions: small_model(config) for positions, config in CONFIGS.items()}
Document = tuple[int, bool]
"""Its words, and whether a picture stands before them."""
documents = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=7)


def make_batch(docs: list[Document], *, isolated: bool, max_tokens: int = 24) -> Batch:
    """Documents packed in rows by the packing that an index uses, then put side by side."""
    rng = np.random.default_rng(len(docs))
    ids, slots, loss = [], [], []
    for words, has_picture in docs:
        head = [0, *([5] * (NUM_SLOTS + 2) if has_picture else [])]
        ids.append([*head, *rng.integers(6, 40, words).tolist(), 2])
        slots.append([False] * len(ids[-1]))
        if has_picture:
            slots[-1][2 : 2 + NUM_SLOTS] = [True] * NUM_SLOTS
        loss.append([False] * len(head) + [True] * (words + 1))
    offsets = np.cumsum([0, *map(len, ids)])
    packing = "isolated" if isolated else "full-sentence"
    rows = pack(offsets, np.empty(0, np.int64), packing=packing, max_tokens=max_tokens)
    made = []
    for first, last in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        parts = [slice(*bounds) for bounds in zip(rows.starts, rows.stops, strict=True)][first:last]

        def joined(values: list[list], parts: list[slice] = parts) -> np.ndarray:
            flat = np.concatenate([np.array(v) for v in values])
            return np.concatenate([flat[part] for part in parts])

        lengths = [part.stop - part.start for part in parts]
        row_ids, row_slots, row_loss = joined(ids), joined(slots), joined(loss)
        if not isolated:
            row_ids, row_slots, row_loss = (
                np.concatenate([[value], array])
                for value, array in ((0, row_ids), (False, row_slots), (False, row_loss))
            )
            lengths[0] += 1
        made.append(
            Row(
                token_ids=row_ids.astype(np.int64),
                image_slots=row_slots,
                loss_mask=row_loss,
                segments=np.repeat(np.arange(len(parts)), lengths),
                documents=tuple(rows.documents[first:last].tolist()),
                images=(),
            )
        )
    num_images = sum(has_picture for _, has_picture in docs)
    return collate(
        made,
        stream="random",
        document_ids=tuple(f"doc-{d}" for row in made for d in row.documents),
        pixels=rng.standard_normal((num_images, 3, 28, 28), dtype=np.float32)
        if num_images
        else None,
        isolated=isolated,
        pad_id=1,
    )


def failed(report: LeakReport) -> list[str]:
    return [check.name for check in report.checks if check.passed is False]


@settings(max_examples=25)
@given(docs=documents, positions=st.sampled_from(("sinusoidal", "xpos")))
def test_isolated_rows_do_not_leak_and_their_positions_restart(
    docs: list[Document], positions: str
) -> None:
    batch = make_batch(docs, isolated=True)
    report = leak_test(MODELS[positions], batch)
    assert failed(report) == []
    assert report.moved.shape == (len(docs) + 1, len(docs))
    assert np.array_equal(report.moved[:-1] > 0, np.eye(len(docs), dtype=bool))
    assert not report.moved[-1].any()
    assert batch.segments is not None
    for row in range(len(batch.token_ids)):
        starts = np.flatnonzero(batch.token_ids[row] == 0)
        assert not batch.positions[row, starts].any()


@settings(max_examples=25)
@given(docs=documents, positions=st.sampled_from(("sinusoidal", "xpos")))
def test_in_full_sentences_later_documents_see_earlier_ones_and_never_the_other_way(
    docs: list[Document], positions: str
) -> None:
    report = leak_test(MODELS[positions], make_batch(docs, isolated=False))
    assert failed(report) == []
    assert not report.moved[:-1][~report.allowed()[:-1]].any()
    rows = np.array(report.rows)
    # a last token alone has no position; every other later document of the row moves
    seen = (rows[:, None] == rows[None, :]) & np.tri(len(rows), dtype=bool).T
    read = np.diag(report.moved[:-1]) > 0
    assert (report.moved[:-1] > 0)[seen & read[None, :] & read[:, None]].all()


BROKEN = [(4, True), (3, True), (5, False), (6, True), (4, False)]


def test_a_mask_without_segments_makes_it_fail_and_names_the_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole: Callable[..., object] = decoder.causal_pattern
    monkeypatch.setattr(
        decoder, "causal_pattern", lambda *a, **kw: whole(*a, **(kw | {"segments": None}))
    )
    report = leak_test(MODELS["xpos"], make_batch(BROKEN, isolated=True))
    assert failed(report)[0] == "no document moves another"
    assert next(report.leaks()) == (0, 1)
    with pytest.raises(DataError, match="expected document 'doc-1' not to move with 'doc-0'"):
        report.raise_if_leaking()


def test_a_mask_that_looks_ahead_makes_it_fail_in_full_sentences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole: Callable[..., decoder.Pattern] = decoder.causal_pattern

    def bare(*args: object, **options: object) -> decoder.Pattern:
        return dataclasses.replace(whole(*args, **options), mask=None, is_causal=False)

    monkeypatch.setattr(decoder, "causal_pattern", bare)
    report = leak_test(MODELS["sinusoidal"], make_batch(BROKEN, isolated=False))
    assert "no document moves an earlier one, or one in another row" in failed(report)
    assert "padding moves nothing" in failed(report)


def test_positions_that_go_on_make_it_fail() -> None:
    batch = make_batch(BROKEN, isolated=True)
    count = np.tile(np.arange(batch.positions.shape[1]), (len(batch.positions), 1))
    report = leak_test(MODELS["sinusoidal"], dataclasses.replace(batch, positions=count))
    assert failed(report) == [
        "positions count from 0 in every document",
        "documents are read as if each stood alone",
    ]


def test_positions_that_the_model_is_not_told_make_it_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_tensor = step.as_tensor

    def shifted(array: np.ndarray | None, device: object) -> Tensor:
        tensor = as_tensor(array, device)
        return tensor + 1 if array is batch.positions else tensor

    batch = make_batch(BROKEN, isolated=True)
    monkeypatch.setattr(step, "as_tensor", shifted)
    report = leak_test(MODELS["sinusoidal"], batch)
    assert failed(report) == ["documents are read as if each stood alone"]


def test_pictures_in_the_slots_of_others_make_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = kosmos.Kosmos.encode_images
    monkeypatch.setattr(
        kosmos.Kosmos, "encode_images", lambda model, pixels: encode(model, pixels).flip(0)
    )
    found = failed(leak_test(MODELS["xpos"], make_batch(BROKEN, isolated=True)))
    assert "a picture moves its own slots and nothing before them" in found
    assert "no document moves another" in found


def test_loss_on_a_shifted_target_makes_it_fail() -> None:
    batch = make_batch(BROKEN, isolated=True)
    late = dataclasses.replace(batch, targets=np.roll(batch.targets, -1, axis=1))
    found = failed(leak_test(MODELS["xpos"], late))
    assert found == ["the first loss of a document is that of its first learned token"]


def test_a_model_that_moves_for_nothing_is_no_proof() -> None:
    model = small_model(CONFIGS["xpos"])
    for parameter in model.parameters():
        parameter.data.zero_()
    report = leak_test(model, make_batch(BROKEN, isolated=True))
    assert "a document that is changed moves itself" in failed(report)


def test_every_change_is_counted() -> None:
    calls = []
    batch = make_batch(BROKEN, isolated=True)
    leak_test(MODELS["xpos"], batch, advance=lambda: calls.append(1))
    assert len(calls) == num_changes(MODELS["xpos"], batch) == 5 + 3


def test_the_batches_of_a_step_do_not_leak(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    loader = Loader(
        replace(run.data, {"micro_batch_tokens": 256}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )
    model = small_model(with_vocabulary(run.model, tokenizer.vocabulary.size))
    for batch in loader.step(0):
        report = leak_test(model, batch)
        assert failed(report) == []
        assert report.isolated == (batch.stream == "pages")
        assert report.document_ids == batch.document_ids


@pytest.mark.parametrize("isolated", [True, False])
def test_the_mask_that_is_drawn_is_the_mask_that_layers_get(isolated: bool) -> None:
    batch = make_batch(BROKEN, isolated=isolated)
    sees = who_sees_whom(batch)
    model, patterns = MODELS["xpos"], []
    layer = model.decoder.layers[0]
    handle = layer.register_forward_pre_hook(lambda module, inputs: patterns.append(inputs[1]))
    step.NextToken(model).loss(batch)
    handle.remove()
    (pattern,) = patterns
    if isolated:
        assert np.array_equal(sees, pattern.sees(*batch.token_ids.shape).numpy())
        own = batch.segments[:, :, None] == batch.segments[:, None, :]
        assert np.array_equal(sees, own & np.tri(sees.shape[1], dtype=bool))
    else:
        assert pattern.is_causal
        assert np.array_equal(sees, np.broadcast_to(np.tri(sees.shape[1], dtype=bool), sees.shape))
