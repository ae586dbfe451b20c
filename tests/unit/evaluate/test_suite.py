"""Every task of the suite keeps the contract: prompts, gold, perfect and empty replies."""

from pathlib import Path

import pytest

from kosmos.document.types import Document, Image
from kosmos.errors import ConfigError, DataError
from kosmos.evaluate.suite import TASKS, choose
from kosmos.evaluate.task import CandidateScore, Example, FoundPhrase, Prediction, Task
from tests.unit.evaluate.fakes import WRONG_BOX, examples_of, write_sets


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(params=TASKS.values(), ids=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return request.param  # type: ignore[no-any-return]


def worst(task: Task, example: Example) -> Prediction:
    right = task.truth(example)
    scores = (CandidateScore(c, -9.0 if c == right else 0.0, 1) for c in task.candidates(example))
    return Prediction(scores=tuple(scores))


def test_table_names_are_the_tasks_own(task: Task) -> None:
    assert TASKS[task.name] is task
    assert task.title
    assert task.help
    assert task.version >= 1


def test_metrics_are_told_and_published_ones_exist(task: Task) -> None:
    names = [metric.name for metric in task.metrics]
    assert len(set(names)) == len(names)
    assert all(metric.title and metric.help for metric in task.metrics)
    assert all(published.metric in names for published in task.published)


def test_prompt_shows_the_example_and_not_its_gold(task: Task, sets: Path) -> None:
    for example in examples_of(task, sets):
        prompt = task.prompt(example, [])
        assert prompt.images == example.doc.images
        assert prompt.text
        assert not prompt.is_grounded
        assert not prompt.meta
        assert task.prompt(example, []) == prompt


def test_candidates_are_given_exactly_where_nothing_is_generated(task: Task, sets: Path) -> None:
    example = examples_of(task, sets)[0]
    assert bool(task.candidates(example)) == (task.decoding is None)


def test_perfect_reply_is_best_and_nothing_worse_is(task: Task, sets: Path) -> None:
    examples = examples_of(task, sets)
    scorer = task.scorer(examples)
    for example in examples:
        best, least = scorer(example, task.perfect(example)), scorer(example, worst(task, example))
        for metric in task.metrics:
            sign = 1 if metric.higher_is_better else -1
            assert sign * best[metric.name] > sign * least[metric.name]
            if metric.name != "cider":
                assert best[metric.name] == float(metric.higher_is_better)
                assert least[metric.name] == float(not metric.higher_is_better)


def test_gold_that_is_not_there_is_named(task: Task) -> None:
    example = Example("x", Document([], id="x", meta={"choices": ["a"], "objects": []}))
    with pytest.raises(DataError, match="example 'x'"):
        phrases = (FoundPhrase("x", (WRONG_BOX,)),)
        scores = (CandidateScore("a", 0.0, 1),)
        task.scorer([example])(example, Prediction(phrases=phrases, scores=scores))


def test_demonstrations_stand_before_the_example_where_the_paper_has_them(
    task: Task, sets: Path
) -> None:
    example, first, second = examples_of(task, sets)[:3]
    if task.name not in ("captioning", "vqa"):
        with pytest.raises(ConfigError, match="expected no demonstrations"):
            task.prompt(example, [first])
        return
    prompt = task.prompt(example, [first, second])
    assert [isinstance(part, Image) for part in prompt.parts] == [True, False] * 3
    assert prompt.images == (*first.doc.images, *second.doc.images, *example.doc.images)
    assert task.truth(first) in prompt.text
    assert task.truth(second) in prompt.text
    assert prompt.text.endswith(task.prompt(example, []).text)


def test_choosing_by_name_suggests_the_nearest() -> None:
    assert choose("all") == list(TASKS.values())
    assert choose("vqa, captioning") == [TASKS["vqa"], TASKS["captioning"]]
    with pytest.raises(ConfigError) as caught:
        choose("captionning")
    assert caught.value.hint == "did you mean 'captioning'?"
    with pytest.raises(ConfigError, match="found none"):
        choose(",")


def test_referring_asks_with_the_phrase_alone(sets: Path) -> None:
    task = TASKS["referring"]
    example = examples_of(task, sets)[0]
    prompt = task.prompt(example, [])
    assert prompt.text == "<grounding><phrase>the red circle</phrase>"


def test_a_caption_is_scored_whole() -> None:
    task = TASKS["captioning"]
    caption = "A view of St. Paul's Cathedral from across the river"
    example = Example("a", Document([], id="a", meta={"references": [caption]}))
    other = Example("b", Document([], id="b", meta={"references": ["two dogs run on grass"]}))
    score = task.scorer([example, other])
    whole = score(example, Prediction(text=caption))["cider"]
    assert whole > score(example, Prediction(text="A view of St."))["cider"]
    assert whole > score(example, Prediction(text=f"{caption}. A dog runs."))["cider"]
