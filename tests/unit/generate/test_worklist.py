"""A work list: every entry exactly once, whatever its length and its company."""

from collections.abc import Callable
from contextlib import closing
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
from kosmos.generate.reply import Failure, Reply
from kosmos.generate.request import Generate, Locate, Request, Score
from kosmos.generate.request_file import Entry, Problem
from kosmos.generate.schedule import batches, shared_groups
from kosmos.generate.sinks.answers_file import AnswersFile
from kosmos.generate.sinks.sink import Row
from kosmos.generate.worklist import WorkList, reason_of
from kosmos.weights.loaded import LoadedModel
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

BAD_IMAGE = Image(b"not a picture")
WORDS = ("a dog", "red", "What is it?", "a star left of the red circle")


def noise(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    return Image(PIL.Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)))


def item(item_id: str, *parts: Image | str) -> Document:
    return Document([Text(part) if isinstance(part, str) else part for part in parts], id=item_id)


def entry(name: str, problem: Problem | None = None) -> Entry:
    return Entry(id=name, words=name, asked={"image": name}, problem=problem)


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, Row | Problem]] = []
        self.is_finished = False

    def put(self, place: int, entry: Entry, found: Row | Problem) -> None:
        self.found.append((place, entry.id, found))

    def finish(self) -> None:
        self.is_finished = True


REPLY = Reply(
    text="a dog",
    grounded=(),
    token_ids=(5, 2),
    logprob=-1.0,
    token_logprobs=(-0.5, -0.5),
    markup="a dog",
    dropped=(),
    finish="stop",
)


def ask(entry: Entry) -> Request:
    return Generate(id=entry.id, doc=entry.document(entry.words))


def work_off(
    work: WorkList, *, make: Callable[[Entry], Request] = ask, reverse: bool = False, bad: str = ""
) -> None:
    """Answer what is left, as an engine may: in any order."""
    asked = list(work.requests(make))
    for request in reversed(asked) if reverse else asked:
        failure = Failure(name=request.id, error=ImageError(f"{request.id}: expected a picture"))
        work.put(request.id, failure if request.id == bad else [REPLY])
    work.finish()


@given(
    names=st.lists(st.sampled_from("abcdefgh"), max_size=12),
    bad=st.sets(st.sampled_from("abc")),
    done=st.sets(st.sampled_from("defg")),
    reverse=st.booleans(),
)
@settings(max_examples=60)
def test_every_entry_is_asked_once_and_told_in_order_and_shown_with_what_was_there(
    tmp_path_factory, names, bad, done, reverse
):
    path = tmp_path_factory.mktemp("list") / "out.jsonl"
    with closing(AnswersFile(path, {})) as file:
        for name in sorted(done):
            file.put(entry(name), {"text": f"earlier {name}"})
    entries = [entry(n, Problem("line", f"{n} is bad") if n in bad else None) for n in names]
    told, shown = Kept(), Kept()
    with closing(AnswersFile(path, {})) as file:
        work = WorkList(entries, sinks=[shown], told=told, file=file)
        assert [one.id for one in work.todo] == [
            n for n in dict.fromkeys(names) if n not in bad | done
        ]
        work_off(work, reverse=reverse)
        recorded = {name for name, _ in file.rows()}
    # what was there is not told again, and the others come in the order of the list
    assert [place for place, _, _ in told.found] == [
        place for place, name in enumerate(names) if name not in done
    ]
    assert sorted(place for place, _, _ in shown.found) == list(range(len(names)))
    assert shown.is_finished
    for place, name, found in shown.found:
        assert names[place] == name
        expected = (
            Problem("line", f"{name} is bad")
            if name in bad
            else {"text": f"earlier {name}"}
            if name in done
            else {"text": "a dog"}
        )
        assert found == expected or found["text"] == expected["text"]
    assert recorded == done | set(names)


def test_what_becomes_of_a_list_is_counted(tmp_path):
    path = tmp_path / "out.jsonl"
    entries = [entry("a"), entry("b"), entry("line 3", Problem("line", "no"))]
    with closing(AnswersFile(path, {})) as file:
        work = WorkList(entries, file=file)
        work_off(work, bad="b")
    assert (work.totals.num_done, work.totals.num_tokens) == (1, 2)
    assert work.totals.failed == {"picture": 1, "line": 1}
    with closing(AnswersFile(path, {})) as file:
        again = WorkList([*entries, entry("c")], file=file)
        assert [one.id for one in again.todo] == ["c"]
    assert (again.totals.num_kept, again.totals.num_failed_before) == (1, 2)


def test_an_entry_of_which_no_request_can_be_made_has_no_answer():
    def make(one: Entry) -> Request:
        if one.id == "a":
            raise DataError("a: expected a box in the picture", hint="look")
        return ask(one)

    told = Kept()
    work = WorkList([entry("a"), entry("b")], told=told)
    work_off(work, make=make)
    assert told.found[0] == (
        0,
        "a",
        Problem("document", "a: expected a box in the picture", "look"),
    )
    assert told.found[1][2]["text"] == "a dog"


def test_the_failure_of_one_question_is_raised_as_it_has_no_name():
    work = WorkList([Entry(id="", words="what?")])
    assert len(list(work.requests(ask))) == 1
    with pytest.raises(ImageError, match="torn"):
        work.put("0", Failure(name="document", error=ImageError("torn")))


def test_a_sink_whose_picture_is_gone_costs_neither_the_others_nor_the_answer(caplog):
    class Gone(Kept):
        def put(self, place: int, entry: Entry, found: Row | Problem) -> None:
            raise ImageError(f"{entry.id}\x1b: expected a picture, found no such file")

    kept = Kept()
    work = WorkList([entry("a"), entry("b")], sinks=[Gone(), kept])
    work_off(work)
    assert len(kept.found) == 2
    assert (work.totals.num_done, work.totals.failed) == (2, {"picture": 2})
    assert r"a\x1b: expected a picture" in caplog.text


def test_answers_of_every_kind_are_rows(generator):
    entries = [entry("say"), entry("score"), entry("find")]

    def make(one: Entry) -> Request:
        doc = Document([noise(0)], id=one.id)
        if one.id == "say":
            return Generate(id=one.id, doc=doc, decoding=Decoding(max_new_tokens=3))
        if one.id == "score":
            return Score(id=one.id, doc=doc, candidates=["red", "a dog"])
        return Locate(id=one.id, doc=doc, phrase="a dog", k=2)

    told = Kept()
    work = WorkList(entries, told=told)
    for name, answer in generator.answer(work.requests(make)):
        work.put(name, answer, {"more": name})
    said, scored, found = (row for _, _, row in told.found)
    assert (said["finish"], said["more"]) == ("length", "say") or said["token_ids"]
    assert [score["candidate"] for score in scored["scores"]] == ["red", "a dog"]
    (span,) = found["grounded"]
    assert (span["text"], len(span["boxes"])) == ("a dog", 2)
    assert work.totals.num_tokens == len(said["token_ids"]) + sum(
        score["num_tokens"] for score in scored["scores"]
    )


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
def items(tmp_path) -> list[Document]:
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
    good = [one for one in items if one.id not in BAD]
    alone = [generator.generate(doc, max_new_tokens=6, **options) for doc in good]
    found = generator.generate(
        items,
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
    found = generator.generate(items, max_new_tokens=2, errors="return")
    for one, answer in zip(items, found, strict=True):
        if one.id in expected:
            kind, words = expected[one.id]
            assert isinstance(answer, Failure)
            assert answer.name == f"document {one.id!r}"
            assert type(answer.error) is kind
            assert one.id in str(answer.error)
            assert words in str(answer.error)
            with pytest.raises(kind, match=one.id):
                generator.generate([one, "a dog"], max_new_tokens=2)


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


def test_a_list_is_counted_written_and_gone_on_with(generator, items, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    by_id = {doc.id: doc for doc in items}
    decoding = Decoding(max_new_tokens=3)

    def make(one: Entry) -> Request:
        return Generate(id=one.id, doc=by_id[one.id], decoding=decoding)

    for names in (list(by_id)[:3], list(by_id)):
        with closing(AnswersFile(path, {})) as file:
            work = WorkList([entry(name) for name in names], file=file, title="caption")
            with closing(work):
                for name, answer in generator.answer(work.requests(make)):
                    work.put(name, answer)
        if len(names) == 3:
            assert (work.totals.num_done, work.totals.failed) == (2, {"picture": 1})
    assert (work.totals.num_kept, work.totals.num_failed_before) == (2, 1)
    assert work.totals.num_done == len(items) - 3 - 4
    assert work.totals.failed == {"picture": 1, "document": 2, "markup": 1}
    assert work.totals.num_tokens > 0
    assert "items/s" in capsys.readouterr().err
