"""Any number of requests of every kind, each answered once and as if it were alone."""

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import CheckpointError, ConfigError, DataError, ImageError, MarkupError
from kosmos.generate.choices import Choices
from kosmos.generate.config import Decoding
from kosmos.generate.generator import WINDOW_BATCHES, Generator
from kosmos.generate.reply import CandidateScore, Failure, Located, Reply
from kosmos.generate.request import Answer, Generate, Locate, Request, Score
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from tests.unit.generate.random_models import make_generator, make_model

# scores and boxes in another batch; see TOLERANCE of test_scoring and test_locate
TOLERANCE = 1e-4
SHORT = Decoding(max_new_tokens=4)


def noise(seed: int) -> PIL.Image.Image:
    rng = np.random.default_rng(seed)
    return PIL.Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8))


SEEN = [noise(seed) for seed in range(3)]


def docs() -> st.SearchStrategy[Document]:
    """Pictures, of which there are few, and words."""
    shown = st.lists(st.sampled_from(SEEN), max_size=2)
    words = st.sampled_from(["a dog", "red", "What is it?", "", "a star left of the red circle"])
    return st.builds(lambda images, text: Document([*map(Image, images), Text(text)]), shown, words)


def requests() -> st.SearchStrategy[Request]:
    decodings = st.sampled_from(
        [SHORT, Decoding(max_new_tokens=3, num_beams=3), Decoding(max_new_tokens=3, temperature=1)]
    )
    generate = st.builds(
        lambda doc, decoding, more: Generate(
            doc=doc, decoding=decoding, num_replies=1 if decoding == SHORT else more
        ),
        docs(),
        decodings,
        st.integers(1, 2),
    )
    score = st.builds(
        lambda doc, candidates, end, neutral: Score(
            doc=doc, candidates=candidates, end=end, neutral=Document([]) if neutral else None
        ),
        docs(),
        st.lists(st.sampled_from(["red", "a dog", "yes"]), min_size=1, max_size=3),
        st.booleans(),
        st.booleans(),
    )
    locate = st.builds(
        lambda image, k, nms: Locate(doc=Document([Image(image)]), phrase="a dog", k=k, nms=nms),
        st.sampled_from(SEEN),
        st.integers(1, 4),
        st.sampled_from([None, 0.5]),
    )
    return generate | score | locate


def alone(engine: Generator, request: Request) -> Answer:
    ((_, answer),) = engine.answer([request])
    assert not isinstance(answer, Failure), answer.error
    return answer


def assert_alike(found: Answer, expected: Answer) -> None:
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other)
        assert one.logprob == pytest.approx(other.logprob, abs=TOLERANCE)
        if isinstance(one, Reply) and isinstance(other, Reply):
            assert one.token_ids == other.token_ids
        if isinstance(one, CandidateScore) and isinstance(other, CandidateScore):
            assert one.num_tokens == other.num_tokens
            assert (one.neutral_logprob is None) == (other.neutral_logprob is None)
            if one.neutral_logprob is not None:
                assert one.neutral_logprob == pytest.approx(other.neutral_logprob, abs=TOLERANCE)


@settings(max_examples=25)
@given(asked=st.lists(requests(), max_size=12), batch_size=st.integers(1, 4))
def test_each_request_gets_the_answer_it_gets_alone_whatever_its_company(
    generator, asked, batch_size
):
    found = list(generator.answer(asked, batch_size=batch_size))
    assert sorted(int(key) for key, _ in found) == list(range(len(asked)))
    for key, answer in found:
        assert not isinstance(answer, Failure), answer.error
        assert_alike(answer, alone(generator, asked[int(key)]))


BAD = [b"not a picture", "missing.png", 3, np.zeros((3, 4)), np.zeros((0, 4, 3), np.uint8)]


class Mute:
    """A constraint that lets a reply say nothing behind some tokens."""

    def __init__(self, after: int) -> None:
        self.after = after

    def allowed(
        self, prompt: Sequence[int], reply: Sequence[int], remaining: int
    ) -> np.ndarray | None:
        return None if len(reply) < self.after else np.empty(0, dtype=np.int64)


class Foreign:
    """A constraint made for a larger vocabulary, as is seen at the second token."""

    def allowed(
        self, prompt: Sequence[int], reply: Sequence[int], remaining: int
    ) -> np.ndarray | None:
        return np.array([10**6]) if reply else None


def bad_requests(tokenizer: Tokenizer) -> dict[str, tuple[Request, type[Exception]]]:
    picture, dog = Image(SEEN[0]), Document([Text("a dog")])
    lone, cell = Text("a \ud800 dog"), Text("<object><patch_index_9999></object>")
    long = Text("dog " * 200)
    torn = {f"picture {n}": Document([picture, Image(bad)]) for n, bad in enumerate(BAD)}
    prompts = {
        **{name: (doc, ImageError) for name, doc in torn.items()},
        "lone surrogate": (Document([picture, lone]), DataError),
        "no text": (Document([picture, Text(None)]), DataError),
        "cell": (Document([picture, cell]), MarkupError),
        "box": (Document([picture, Grounded("a dog", [Box(0.1, 0.1, 0.1, 0.2)])]), DataError),
        "no image for the box": (Document([Grounded("a", [Box(0, 0, 1, 1)])]), DataError),
        "long": (Document([picture, long]), DataError),
        "no document": (None, ConfigError),
    }
    found: dict[str, tuple[Request, type[Exception]]] = {}
    for name, (doc, kind) in prompts.items():
        found[f"generate: {name}"] = (Generate(doc=doc, decoding=SHORT), kind)
        found[f"score: {name}"] = (Score(doc=doc, candidates=["red"]), kind)
        found[f"locate: {name}"] = (Locate(doc=doc, phrase="a dog"), kind)
        if doc is not None:
            neutral = Score(doc=dog, candidates=["red"], neutral=doc)
            found[f"neutral: {name}"] = (neutral, kind)
        if name in ("lone surrogate", "cell"):
            candidate = Score(doc=Document([picture]), candidates=["red", doc.parts[1].text])
            found[f"candidate: {name}"] = (candidate, kind)
    rare = Choices(tokenizer, ["a red dog left of the star"])
    tight = Document([Text("dog " * 30)])
    whole = Document([picture, Text("dog")])
    beams = Decoding(num_beams=3, max_new_tokens=4)
    drawn = Decoding(temperature=1.0, max_new_tokens=4)
    found |= {
        "nothing to say": (Generate(doc=dog, constraint=Mute(0), decoding=SHORT), ConfigError),
        "dead end": (Generate(doc=dog, constraint=Mute(2), decoding=SHORT), ConfigError),
        "dead end of beams": (Generate(doc=dog, constraint=Mute(2), decoding=beams), ConfigError),
        "dead end drawn": (Generate(doc=dog, constraint=Mute(2), decoding=drawn), ConfigError),
        "foreign": (Generate(doc=dog, constraint=Foreign(), decoding=SHORT), ConfigError),
        "foreign beams": (Generate(doc=dog, constraint=Foreign(), decoding=beams), ConfigError),
        "no room to say": (Generate(doc=dog, constraint=rare, decoding=SHORT), ConfigError),
        "no room in the context": (
            Generate(doc=tight, constraint=rare, decoding=Decoding(max_total_tokens=36)),
            DataError,
        ),
        "many beams": (Generate(doc=dog, decoding=Decoding(num_beams=60)), ConfigError),
        "no candidate": (Score(doc=dog, candidates=[]), ConfigError),
        "no words": (Score(doc=dog, candidates=["red", " "]), ConfigError),
        "no candidate's type": (Score(doc=dog, candidates=["red", 3]), ConfigError),
        "long candidate": (Score(doc=dog, candidates=["red", "dog " * 200]), DataError),
        "torn candidate": (
            Score(doc=dog, candidates=["red", Document([Image(b"x"), Text("red")])]),
            ImageError,
        ),
        "no image": (Locate(doc=dog, phrase="a dog"), DataError),
        "asks for nothing": (Locate(doc=whole), DataError),
        "lone phrase": (Locate(doc=Document([picture]), phrase="\udcff"), DataError),
        "no request": (dog, ConfigError),
        "no request at all": (None, ConfigError),
    }
    return found


@pytest.mark.parametrize("batch_size", [1, 16])
def test_whatever_is_wrong_with_a_request_is_its_own_failure(generator, tokenizer, batch_size):
    good: list[Request] = [
        Generate(doc=Document([Image(SEEN[0]), Text("a")]), decoding=SHORT),
        Generate(doc=Document([Text("a dog")]), decoding=Decoding(num_beams=3, max_new_tokens=4)),
        Generate(doc=Document([Text("dog")]), decoding=Decoding(temperature=1, max_new_tokens=4)),
        Score(doc=Document([Image(SEEN[1])]), candidates=["red", "a dog"]),
        Locate(doc=Document([Image(SEEN[2])]), phrase="a star", k=2),
    ]
    bad = bad_requests(tokenizer)
    names = list(bad)
    asked: list[Request] = []
    for place, name in enumerate(names):
        asked += [bad[name][0], good[place % len(good)]]
    found = dict(generator.answer(asked, batch_size=batch_size))
    assert sorted(map(int, found)) == list(range(len(asked)))
    expected = [alone(generator, request) for request in good]
    for place, name in enumerate(names):
        failure, answer = found[str(2 * place)], found[str(2 * place + 1)]
        assert isinstance(failure, Failure), name
        assert type(failure.error) is bad[name][1], (name, failure.error)
        assert not isinstance(answer, Failure), (name, answer)
        assert_alike(answer, expected[place % len(good)])


def test_a_picture_torn_behind_its_header_fails_alone_in_every_kind_of_request(generator, tmp_path):
    path = tmp_path / "torn.png"
    noise(0).resize((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    for torn in (path, path.read_bytes()):
        bad, good = Document([Image(torn)]), Document([Image(SEEN[0])])
        asked = [
            make(doc)
            for make in (
                lambda doc: Generate(doc=doc, decoding=SHORT),
                lambda doc: Score(doc=doc, candidates=["red", "a"]),
                lambda doc: Locate(doc=doc, phrase="a dog", k=1),
            )
            for doc in (good, bad, good)
        ]
        found = dict(generator.answer(asked))
        assert [isinstance(found[str(n)], Failure) for n in range(9)] == [False, True, False] * 3
        assert all(isinstance(found[str(n)].error, ImageError) for n in (1, 4, 7))


def test_requests_are_told_by_their_id_or_their_place(generator):
    asked = [
        Generate(doc=Document([Text("a")]), id="first", decoding=SHORT),
        Generate(doc=Document([Text("a")], id="doc"), decoding=SHORT),
        Score(doc=Document([Text("a")]), candidates=["red"]),
        Locate(doc=Document([Image(SEEN[0])]), phrase="a", id="last", k=1),
    ]
    found = dict(generator.answer(asked))
    assert sorted(found) == ["1", "2", "first", "last"]
    assert isinstance(found["first"][0], Reply)
    assert isinstance(found["2"][0], CandidateScore)
    assert isinstance(found["last"][0], Located)


def test_an_id_that_comes_twice_is_a_failure_of_the_second(generator):
    asked = [
        Generate(doc=Document([Text(words)]), id=key, decoding=SHORT)
        for key, words in (("a", "a dog"), ("b", "red"), ("a", "a star"), ("", "a"), ("3", "a"))
    ]
    # in the same window and in a later one
    for more in ([], asked[:1] * 40):
        found = list(generator.answer([*asked, *more], batch_size=1))
        assert len(found) == len(asked) + len(more)
        answers = {key: answer for key, answer in found if not isinstance(answer, Failure)}
        failures = [(key, answer) for key, answer in found if isinstance(answer, Failure)]
        assert sorted(answers) == ["3", "a", "b"]
        assert answers["a"][0].token_ids == alone(generator, asked[0])[0].token_ids
        assert sorted(key for key, _ in failures) == ["3", *["a"] * (1 + len(more))]
        assert all(isinstance(answer.error, ConfigError) for _, answer in failures)
        assert "found 'a' again" in str(dict(failures)["a"].error)


@settings(max_examples=25)
@given(count=st.integers(0, 120), batch_size=st.integers(1, 3))
def test_requests_are_asked_for_a_window_at_a_time(generator, count, batch_size):
    taken = 0

    def stream() -> Iterator[Request]:
        nonlocal taken
        for _ in range(count):
            taken += 1
            # nothing to do for a model
            yield Generate(doc=Document([Text("\ud800")]))

    window = WINDOW_BATCHES * batch_size
    for number, (key, answer) in enumerate(generator.answer(stream(), batch_size=batch_size)):
        assert isinstance(answer, Failure)
        assert int(key) == number
        assert taken == min(count, window * math.ceil((number + 1) / window))
    assert taken == count


def test_requests_without_end_are_answered_too(generator):
    def stream() -> Iterator[Request]:
        while True:
            yield Generate(doc=Document([Text("a dog")]), decoding=Decoding(max_new_tokens=1))

    found = generator.answer(stream(), batch_size=1)
    assert [int(next(found)[0]) for _ in range(40)] == list(range(40))


def test_one_pass_reads_what_requests_share(generator, monkeypatch):
    read: list[tuple[int, int]] = []
    forward = Kosmos.forward

    def counting(self, token_ids, **rest):
        read.append(tuple(token_ids.shape))
        return forward(self, token_ids, **rest)

    monkeypatch.setattr(Kosmos, "forward", counting)
    shown = [Image(SEEN[0]), Text("a red dog left of the star. " * 2)]
    one = Decoding(max_new_tokens=1)
    asked = [
        Generate(doc=Document([*shown, Text(words, role="user")]), decoding=one)
        for words in ("a", "red", "dog")
    ]
    other = [Generate(doc=Document([Text("a")]), decoding=Decoding(num_beams=2, max_new_tokens=1))]
    generator.image_cache.clear()
    before = generator.image_cache.num_encoded
    list(generator.answer([asked[0], *other, *asked[1:]]))
    assert generator.image_cache.num_encoded == before + 1
    # the three in a row, and then the one of another decoding
    assert [rows for rows, _ in read] == [1, 1]
    assert read[0][1] < sum(len(generator.encode(request.doc)) for request in asked)


def test_a_model_that_is_broken_is_no_failure_of_a_request(tokenizer):
    engine = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=0))
    engine.model.decoder.norm.weight.data[0] = float("nan")
    picture = Document([Image(SEEN[0])])
    for request in (
        Generate(doc=picture),
        Score(doc=picture, candidates=["red"]),
        Locate(doc=picture, phrase="a dog"),
    ):
        with pytest.raises(CheckpointError):
            list(engine.answer([request, request]))


def test_batches_have_at_least_one(generator):
    for options in ({"batch_size": 0}, {"batch_tokens": 0}):
        with pytest.raises(ConfigError, match="expected at least 1, found 0"):
            list(generator.answer([], **options))


def test_a_picture_whose_name_is_not_utf8_is_answered(generator, tmp_path):
    name = os.fsdecode(os.fsencode(str(tmp_path)) + b"/p\xe9.png")
    try:
        noise(0).save(name)
    except OSError:
        pytest.skip("no such names on this file system")
    doc = Document([Image(name), Text("a")], id=name)
    asked = [
        Generate(doc=doc, id=name, decoding=Decoding(temperature=1.0, max_new_tokens=3)),
        Generate(doc=Document([Image(name + "?")], id="gone"), id="gone"),
    ]
    found = dict(generator.answer(asked))
    assert isinstance(found[name][0], Reply)
    assert isinstance(found["gone"].error, ImageError)
