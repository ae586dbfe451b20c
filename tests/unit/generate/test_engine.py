"""The ways to ask an engine, whoever it is: requests made, and answers put into order."""

from collections.abc import Iterable, Iterator

import pytest

from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError
from kosmos.generate.config import Decoding
from kosmos.generate.engine import Engine
from kosmos.generate.reply import CandidateScore, Failure, Reply
from kosmos.generate.request import Answer, Generate, Locate, Request, Score
from tests.unit.generate.test_answer import SEEN

PICTURES = (SEEN[0], Image(SEEN[0]))
WORDS = ("An image of", Text("An image of"), Grounded("An image of"))
TWO_IN_ONE = r"found pictures and texts \(hint: one document of both is Document\(\["


class Echo(Engine):
    """Answers with the words it was asked, last first; remembers the requests."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def answer(
        self, requests: Iterable[Request], *, batch_size: int = 16, batch_tokens: int = 2048
    ) -> Iterator[tuple[str, Answer | Failure]]:
        self.asked = list(requests)
        for place, request in reversed(list(enumerate(self.asked))):
            yield str(place), self._answer(request)

    def _answer(self, request: Request) -> Answer | Failure:
        if request.doc.text == "bad":
            return Failure(name="document", error=DataError("a bad one"))
        if isinstance(request, Score):
            return [CandidateScore(logprob=-1.0, num_tokens=len(c)) for c in request.candidates]
        if isinstance(request, Locate):
            return []
        reply = Reply(
            text=request.doc.text,
            grounded=(),
            token_ids=(),
            logprob=0.0,
            token_logprobs=(),
            markup="",
            dropped=(),
            finish="stop",
        )
        return [reply] * request.num_replies


def test_answers_come_in_the_order_of_the_documents_whenever_they_are_ready():
    engine = Echo()
    docs = [str(number) for number in range(30)]
    assert [reply.text for reply in engine.generate(docs)] == docs
    assert [[len(row)] for row in engine.score_many([("a", ["x"] * n) for n in (1, 3, 2)])] == [
        [1],
        [3],
        [2],
    ]
    assert engine.locate(list(PICTURES[:1]) * 3, "a dog") == [[], [], []]
    assert engine.generate([]) == engine.score_many([]) == engine.locate([]) == []


def test_one_document_has_one_answer_and_a_list_has_a_list():
    engine = Echo()
    for one in (*PICTURES, *WORDS, Document([])):
        assert isinstance(engine.generate(one), Reply)
        assert isinstance(engine.generate([one]), list)
        assert engine.locate(one, "a dog") == []
        assert engine.locate([one], "a dog") == [[]]
    assert len(engine.generate_n("a", 3, num_beams=4)) == 3
    assert len(engine.score("a", ["yes", "no"])) == 2


def test_options_of_a_call_are_those_of_its_requests():
    engine = Echo()
    neutral = Document([Text("Answer:")])
    engine.generate(["a", "b"], decoding=Decoding(num_beams=2), max_new_tokens=3)
    assert {r.decoding for r in engine.asked} == {Decoding(num_beams=2, max_new_tokens=3)}
    engine.score("a", ["x"], end=True, neutral=neutral)
    assert engine.asked == [
        Score(doc=Document([Text("a")]), candidates=["x"], end=True, neutral=neutral)
    ]
    engine.locate(SEEN[0], "a dog", k=2, nms=0.5)
    assert engine.asked == [Locate(doc=Document([Image(SEEN[0])]), phrase="a dog", k=2, nms=0.5)]


def test_a_failure_is_raised_or_stands_in_its_place():
    engine = Echo()
    first, bad, last = engine.generate(["a", "bad", "b"], errors="return")
    assert (first.text, last.text, str(bad.error)) == ("a", "b", "a bad one")
    for ask in (
        lambda: engine.generate(["a", "bad"]),
        lambda: engine.generate_n("bad", 1),
        lambda: engine.score("bad", ["x"]),
        lambda: engine.locate("bad", "x"),
    ):
        with pytest.raises(DataError, match="a bad one"):
            ask()


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("words", WORDS)
def test_a_list_of_pictures_and_words_is_refused_since_it_may_mean_one_document(picture, words):
    engine = Echo()
    for docs in ([picture, words], [words, picture], (picture, picture, words)):
        with pytest.raises(ConfigError, match=TWO_IN_ONE):
            engine.generate(docs)
        with pytest.raises(ConfigError, match=TWO_IN_ONE):
            engine.locate(docs, "a dog")
        with pytest.raises(ConfigError, match=r"found (list|tuple) \(hint: Document\(\["):
            engine.score(docs, ["yes"])
        with pytest.raises(ConfigError, match=r"found (list|tuple) \(hint: Document\(\["):
            engine.generate_n(docs, 1)
    # nobody can mean one document here
    assert len(engine.generate([Document([Image(SEEN[0])]), words])) == 2
    assert len(engine.generate([picture, Document([Text("a")])])) == 2


def test_requests_are_checked_when_they_are_made():
    doc = Document([Image(SEEN[0])])
    for make, message in (
        (lambda: Generate(doc=doc, num_replies=0), "num_replies: expected at least 1"),
        (lambda: Generate(doc=doc, num_replies=2), "at most num_beams=1, found 2"),
        (lambda: Score(doc=doc, candidates="Yes"), "a list of them, found the string 'Yes'"),
        (lambda: Locate(doc=doc, k=0), "k: expected at least 1, found 0"),
        (lambda: Locate(doc=doc, nms=1.5), r"nms: expected a threshold in \[0, 1\]"),
        (lambda: Locate(doc=doc, nms=float("nan")), "nms: expected a threshold"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()
