"""A work list: every item exactly once, whatever its length and its company."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.document.types import Document, Image, Text
from kosmos.errors import CheckpointError, ConfigError, DataError, ImageError, MarkupError
from kosmos.generate.config import Decoding
from kosmos.generate.generator import Generator
from kosmos.generate.reply import CandidateScore, Failure, Reply
from kosmos.generate.resumable import ResumableLines
from kosmos.generate.schedule import batches, shared_groups
from kosmos.generate.worklist import (
    SCORED_ITEMS,
    Answered,
    Item,
    Totals,
    reason_of,
    replies,
    run,
    scores,
    unfinished,
)
from kosmos.weights.loaded import LoadedModel
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

BAD_IMAGE = Image(b"not a picture")
WORDS = ("a dog", "red", "What is it?", "a star left of the red circle")


def noise(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    return Image(PIL.Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)))


def item(item_id: str, *parts: Image | str, candidates: Sequence[str] = ()) -> Item:
    doc = Document([Text(part) if isinstance(part, str) else part for part in parts], id=item_id)
    return Item(id=item_id, doc=doc, asked={"image": item_id}, candidates=candidates)


class Counting:
    """Answers at once, and remembers how much it was asked at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def replies(
        self, docs: Sequence[Document], *, decoding: Decoding, batch_size: int, constraint: None
    ) -> Iterator[tuple[int, Reply | Failure]]:
        self.sizes.append(len(docs))
        for index in reversed(range(len(docs))):
            yield index, Failure(name=docs[index].id, error=DataError("no"))

    def score_many(
        self, asks: Sequence[tuple[Document, Sequence[str]]], *, end: bool, neutral: str | None
    ) -> list[list[CandidateScore]]:
        self.sizes.append(len(asks))
        if any(not candidates for _, candidates in asks):
            raise ConfigError("candidates: expected at least one, found none")
        return [[CandidateScore(logprob=-1.0, num_tokens=1) for _ in found] for _, found in asks]


@given(count=st.integers(0, 100), batch_size=st.integers(1, 5))
@settings(max_examples=40)
def test_windows_give_every_item_its_answer_once(count, batch_size):
    items = [item(str(index), "a") for index in range(count)]
    engine = Counting()
    found = list(replies(engine, items, decoding=Decoding(), batch_size=batch_size))
    assert sorted(one.id for one, _ in found) == sorted(one.id for one in items)
    assert all(one.id == answer.name for one, answer in found)
    assert sum(engine.sizes) == count
    assert all(size <= 16 * batch_size for size in engine.sizes)


@given(
    shapes=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(WORDS)), max_size=12),
    most=st.integers(1, 5),
)
@settings(max_examples=25)
def test_batches_have_every_prompt_once_and_no_more_than_they_may(shapes, most):
    engine = make_generator(
        small_tokenizer(), make_model(small_tokenizer().vocabulary.size, seed=3)
    )
    photos = [noise(seed) for seed in range(3)]
    rows = [engine.encode(Document([*photos[:count], Text(words)])) for count, words in shapes]
    planned = batches(shared_groups(rows, most=most), [len(row) for row in rows], most=most)
    assert sorted(i for batch in planned for group in batch for i in group) == [*range(len(rows))]
    assert all(sum(map(len, batch)) <= most for batch in planned)


@pytest.fixture
def items(tmp_path) -> list[Item]:
    missing = Image(tmp_path / "missing.png")
    return [
        item("caption", noise(0), "An image of"),
        item("torn", noise(0), BAD_IMAGE, "a dog"),
        item("two", noise(0), "a star. ", noise(1), "a dog"),
        item("missing", missing, "a"),
        item("question", noise(0), "Question: red? Answer:"),
        item("long", "dog " * 200),
        item("crowd", *(noise(seed) for seed in range(30)), "a"),
        item("words", "a dog left of"),
        item("markup", "<grounding><phrase>it</phrase><object><patch_index_9999></object>"),
        item("empty"),
    ]


BAD = {"torn": "picture", "missing": "picture", "long": "document", "crowd": "document"}
BAD["markup"] = "markup"


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"temperature": 1.0, "seed": 4}])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_bad_documents_fail_alone_and_the_others_are_answered_as_without_them(
    generator, items, batch_size, options
):
    good = [one.doc for one in items if one.id not in BAD]
    alone = [generator.generate(doc, max_new_tokens=6, **options) for doc in good]
    found = generator.generate(
        [one.doc for one in items],
        max_new_tokens=6,
        batch_size=batch_size,
        errors="return",
        **options,
    )
    failed = {
        one.id: reason_of(answer.error)
        for one, answer in zip(items, found, strict=True)
        if isinstance(answer, Failure)
    }
    assert failed == BAD
    kept = [answer for answer in found if isinstance(answer, Reply)]
    assert [reply.token_ids for reply in kept] == [reply.token_ids for reply in alone]
    for one, other in zip(kept, alone, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_every_failure_names_its_document_and_what_is_wrong(generator, items):
    expected = {
        "torn": (ImageError, "part 1: expected a picture"),
        "missing": (ImageError, "missing.png"),
        "long": (DataError, "fewer tokens than the context of 96"),
        "crowd": (DataError, "show fewer images; each takes 5 tokens"),
        "markup": (MarkupError, "9999"),
    }
    found = generator.generate([one.doc for one in items], max_new_tokens=2, errors="return")
    for one, answer in zip(items, found, strict=True):
        if one.id in expected:
            kind, words = expected[one.id]
            assert isinstance(answer, Failure)
            assert answer.name == f"document {one.id!r}"
            assert type(answer.error) is kind
            assert one.id in str(answer.error)
            assert words in str(answer.error)
            with pytest.raises(kind, match=one.id):
                generator.generate([one.doc, "a dog"], max_new_tokens=2)


def test_a_bad_document_without_an_id_is_named_by_its_place(generator):
    docs = ["a dog", Document([BAD_IMAGE, Text("a")]), Document([Text("dog " * 200)])]
    found = generator.generate(docs, max_new_tokens=2, errors="return")
    assert isinstance(found[0], Reply)
    assert "'1', part 0" in str(found[1].error)
    assert "document 2: " in str(found[2].error)
    with pytest.raises(ImageError, match="document '1', part 0"):
        generator.generate(docs, max_new_tokens=2)
    alone = generator.generate(docs[1], errors="return")
    assert isinstance(alone, Failure)


def test_a_picture_that_is_torn_behind_its_header_fails_in_its_batch_only(generator, tmp_path):
    path = tmp_path / "torn.png"
    noise(0).source.resize((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    docs = [
        Document([noise(1), Text("a")], id="good"),
        Document([Image(path), Text("a")], id="torn"),
        Document([noise(2), Text("a")], id="fine"),
    ]
    first, second, third = generator.generate(docs, max_new_tokens=3, errors="return")
    assert isinstance(second, Failure)
    assert "torn.png" in str(second.error)
    assert [first, third] == generator.generate([docs[0], docs[2]], max_new_tokens=3)


def test_a_batch_of_bad_documents_only_is_answered_too(generator):
    docs = [Document([BAD_IMAGE], id=str(index)) for index in range(3)]
    found = generator.generate(docs, errors="return", batch_size=2)
    assert [answer.name for answer in found] == ["document '0'", "document '1'", "document '2'"]


def test_weights_that_are_not_finite_are_no_document_s_fault(tokenizer):
    import torch

    model = make_model(tokenizer.vocabulary.size, seed=0)
    with torch.no_grad():
        model.decoder.norm.weight[0] = float("nan")
    with pytest.raises(CheckpointError, match="found NaN at step 0"):
        make_generator(tokenizer, model).generate(["a", "a dog"], errors="return")


@pytest.mark.parametrize("num_slots", [2, 4])
def test_a_layout_whose_slots_are_not_those_of_the_model_is_refused(generator, num_slots):
    loaded = LoadedModel(
        model=generator.model,
        tokenizer=generator.tokenizer,
        image=generator.image,
        layout=replace(generator.layout, num_image_tokens=num_slots),
    )
    with pytest.raises(ConfigError, match=f"expected 3, .* found {num_slots}"):
        Generator(loaded)


def test_an_unknown_way_with_errors_is_refused(generator):
    with pytest.raises(ConfigError, match="errors: expected 'raise' or 'return', found 'skip'"):
        generator.generate("a", errors="skip")


def test_replies_as_they_finish_are_those_of_one_call(generator, items):
    docs = [one.doc for one in items]
    whole = generator.generate(docs, max_new_tokens=4, batch_size=2, errors="return")
    found = dict(generator.replies(docs, decoding=Decoding(max_new_tokens=4), batch_size=2))
    assert sorted(found) == list(range(len(docs)))
    for index, answer in enumerate(whole):
        if isinstance(answer, Reply):
            assert found[index].token_ids == answer.token_ids
        else:
            assert str(found[index].error) == str(answer.error)


def test_scores_of_a_list_are_those_of_single_calls_and_bad_items_fail_alone(generator):
    asked = [
        item("a", noise(0), "it is", candidates=("red", "a dog")),
        item("none", noise(0), candidates=()),
        item("b", "a", candidates=("star",)),
        item("torn", BAD_IMAGE, candidates=("red",)),
        item("long", "a", candidates=("dog " * 200,)),
    ]
    found = {one.id: answer for one, answer in scores(generator, asked)}
    for one in (asked[0], asked[2]):
        expected = [s.logprob for s in generator.score(one.doc, one.candidates)]
        assert [s.logprob for s in found[one.id]] == pytest.approx(expected, abs=1e-5)
    failed = {k: reason_of(v.error) for k, v in found.items() if isinstance(v, Failure)}
    assert failed == {"none": "request", "torn": "picture", "long": "document"}


def test_scored_items_are_asked_in_parts():
    engine = Counting()
    asked = [item(str(n), candidates=("a",)) for n in range(SCORED_ITEMS + 3)]
    found = list(scores(engine, asked))
    assert [one.id for one, _ in found] == [one.id for one in asked]
    assert engine.sizes == [SCORED_ITEMS, 3]


def test_a_list_is_counted_written_and_gone_on_with(generator, items, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    done_first: set[str] = set()
    for turn in range(2):
        totals = Totals()
        with ResumableLines(path, {}, asked=("image",)) as out:
            todo = unfinished(items if turn else items[:3], out, totals)
            run(
                todo,
                lambda part: replies(generator, part, decoding=Decoding(max_new_tokens=3)),
                lambda reply: Answered({"text": reply.text}, len(reply.token_ids)),
                out=out,
                title="caption",
                totals=totals,
            )
        if not turn:
            done_first = {one.id for one in items[:3]}
            assert (totals.num_done, totals.failed) == (2, {"picture": 1})
    assert (totals.num_kept, totals.num_failed_before) == (2, 1)
    assert totals.num_done == len(items) - len(done_first) - 4
    assert totals.failed == {"picture": 1, "document": 2, "markup": 1}
    assert totals.num_tokens > 0
    assert "items/s" in capsys.readouterr().err


def test_an_id_that_two_items_have_is_refused(tmp_path):
    with (
        ResumableLines(tmp_path / "out.jsonl", {}, asked=()) as out,
        pytest.raises(DataError, match="found 'a' more than once"),
    ):
        unfinished([item("a"), item("b"), item("a")], out, Totals())
