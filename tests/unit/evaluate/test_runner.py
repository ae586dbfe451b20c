"""Runs keep what was said, go on where they stopped, and know what chance would give."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from kosmos.cli.main import cli
from kosmos.document.shards import ShardReader, ShardWriter
from kosmos.document.types import Document, Image
from kosmos.errors import ConfigError, DataError
from kosmos.evaluate.report import read_results, write_report
from kosmos.evaluate.results import Measured, score_task
from kosmos.evaluate.runner import POOL, EvaluateConfig, evaluate, kept_picture, read_predictions
from kosmos.evaluate.suite import TASKS
from kosmos.evaluate.task import CandidateScore, Example, FoundPhrase, Prediction, Task
from kosmos.generate.reply import Failure
from tests.unit.evaluate.fakes import WRONG_BOX, Oracle, examples_of, perfect, write_sets
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

ALL = list(TASKS.values())
CAPTIONING, VQA, REFERRING = TASKS["captioning"], TASKS["vqa"], TASKS["referring"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def config(sets: Path, tmp_path: Path) -> EvaluateConfig:
    return EvaluateConfig(
        data=sets, out=tmp_path / "out", batch_size=5, model="m", model_digest="d"
    )


def headline(task: Task, measured: dict[str, Measured]) -> Measured:
    return measured[task.metrics[0].name]


def test_perfect_replies_are_far_beyond_chance(sets: Path, config: EvaluateConfig) -> None:
    results = evaluate(Oracle(ALL, sets, perfect), ALL, config)
    assert [result.task for result in results.tasks] == list(TASKS)
    for task, result in zip(ALL, results.tasks, strict=True):
        found = headline(task, dict(result.metrics))
        assert found.excludes_chance is True
        assert found.chance is not None
        assert found.chance_low is not None
        assert found.chance_high is not None
        assert found.chance_low <= found.chance <= found.chance_high
        assert found.low <= found.value <= found.high
        assert found.low > found.chance
        assert result.num_examples == found.num_examples == 24
    assert read_results(config.out) == results
    assert results.tasks[2].metrics["unparsed"].chance is None
    assert set(results.tasks[3].groups) == {"seen", "told"}


def test_replies_that_ignore_the_example_are_at_chance(sets: Path, config: EvaluateConfig) -> None:
    def same(task: Task, example: Example) -> Prediction:
        candidates = task.candidates(example)
        return Prediction(
            text="red",
            phrases=(FoundPhrase("x", (WRONG_BOX,)),),
            scores=tuple(CandidateScore(c, float(-i), 1) for i, c in enumerate(candidates)),
        )

    results = evaluate(Oracle(ALL, sets, same), ALL, config)
    for task, result in zip(ALL, results.tasks, strict=True):
        found = headline(task, dict(result.metrics))
        assert found.excludes_chance is False
        assert found.value == pytest.approx(found.chance, abs=0.02)


def test_a_killed_run_goes_on_where_it_was(sets: Path, config: EvaluateConfig) -> None:
    whole = evaluate(Oracle(ALL, sets, perfect), ALL, replace(config, out=config.out / "whole"))
    first = Oracle(ALL, sets, perfect)
    first.fail_after = 13  # in the third batch of the first task
    with pytest.raises(KeyboardInterrupt):
        evaluate(first, ALL, config)
    path = config.out / "predictions" / "captioning.jsonl"
    with open(path, "ab") as file:
        file.write(b'{"id": "captions-10", "gol')  # cut by the kill
    second = Oracle(ALL, sets, perfect)
    results = evaluate(second, ALL, config)
    assert [doc.id for doc in second.asked[:3]] == ["captions-10", "captions-11", "captions-12"]
    assert [r.metrics for r in results.tasks] == [r.metrics for r in whole.tasks]
    again = Oracle(ALL, sets, perfect)
    evaluate(again, ALL, config)
    assert again.asked == []


def test_a_larger_limit_asks_only_what_is_missing(sets: Path, config: EvaluateConfig) -> None:
    evaluate(Oracle([VQA], sets, perfect), [VQA], replace(config, limit=4))
    more = Oracle([VQA], sets, perfect)
    (result,) = evaluate(more, [VQA], replace(config, limit=9)).tasks
    assert [doc.id for doc in more.asked] == [f"vqa-{n}" for n in range(4, 9)]
    assert result.num_examples == 9


def test_replies_of_another_model_are_refused_unless_forced(
    sets: Path, config: EvaluateConfig
) -> None:
    evaluate(Oracle([VQA], sets, perfect), [VQA], config)
    other = replace(config, model_digest="other")
    with pytest.raises(
        ConfigError,
        match=r"vqa\.jsonl: expected lines of the same .*model_digest 'd' there, 'other' here",
    ):
        evaluate(Oracle([VQA], sets, perfect), [VQA], other)
    forced = Oracle([VQA], sets, perfect)
    evaluate(forced, [VQA], replace(other, force=True))
    assert len(forced.asked) == 24


def test_predictions_can_be_scored_again_from_their_file(
    sets: Path, config: EvaluateConfig
) -> None:
    results = evaluate(Oracle(ALL, sets, perfect), ALL, config)
    for task, result in zip(ALL, results.tasks, strict=True):
        pairs = list(read_predictions(config.out / "predictions" / f"{task.name}.jsonl"))
        examples, predictions = ([pair[index] for pair in pairs] for index in (0, 1))
        again = score_task(task, examples, predictions, seed=config.seed)  # type: ignore[arg-type]
        assert again.metrics == result.metrics
        assert again.groups == result.groups


def test_rows_tell_prompt_gold_and_reply(sets: Path, config: EvaluateConfig) -> None:
    evaluate(Oracle([VQA], sets, perfect), [VQA], config)
    lines = (config.out / "predictions" / "vqa.jsonl").read_text().splitlines()
    header, row = json.loads(lines[0])["header"], json.loads(lines[1])
    assert header["decoding"]["max_new_tokens"] == 16
    assert row["prompt"] == "<image>Question: What color is thing 0? Answer:"
    assert row["gold"]["answers"] == ["red"]
    assert row["reply"]["text"] == "red"


def test_shots_come_from_a_pool_that_is_not_asked(tmp_path: Path, config: EvaluateConfig) -> None:
    sets = write_sets(tmp_path / "sets", POOL + 4)
    engine = Oracle([VQA], sets, perfect)
    (result,) = evaluate(engine, [VQA], replace(config, data=sets, shots=2)).tasks
    assert result.num_examples == 4
    assert [doc.id for doc in engine.asked] == [f"vqa-{POOL + n}" for n in range(4)]
    assert all(len(doc.images) == 3 for doc in engine.asked)
    pool = [e.doc.images[0] for e in examples_of(VQA, sets)[:POOL]]
    assert all(image in pool for doc in engine.asked for image in doc.images[:2])
    with pytest.raises(DataError, match="expected more than the 32"):
        evaluate(engine, [VQA], replace(config, shots=1, out=tmp_path / "x"))


def test_number_of_beams_can_be_changed(sets: Path, config: EvaluateConfig) -> None:
    engine = Oracle([CAPTIONING], sets, perfect)
    evaluate(engine, [CAPTIONING], config)
    evaluate(engine, [CAPTIONING], replace(config, num_beams=1, out=config.out / "greedy"))
    assert [engine.decodings[0].num_beams, engine.decodings[-1].num_beams] == [5, 1]


def test_missing_and_empty_sets_are_named_before_anything_is_asked(
    sets: Path, config: EvaluateConfig, tmp_path: Path
) -> None:
    engine = Oracle(ALL, sets, perfect)
    with pytest.raises(DataError, match="captions: expected a folder of shards for captioning"):
        evaluate(engine, ALL, replace(config, data=tmp_path))
    assert engine.asked == []


def test_damaged_files_are_errors_naming_them(sets: Path, config: EvaluateConfig) -> None:
    evaluate(Oracle([VQA], sets, perfect), [VQA], config)
    path = config.out / "predictions" / "vqa.jsonl"
    path.write_text('{"header": {}}\n{"id": "a", "gold": {}, "reply": {"text": 3}}\n')
    with pytest.raises(DataError, match=r"vqa\.jsonl: reply"):
        list(read_predictions(path))
    path.write_text("{}\n")
    with pytest.raises(DataError, match="expected a header"):
        list(read_predictions(path))
    (config.out / "results.json").write_text('{"model": 3}')
    with pytest.raises(DataError, match=r"results\.json"):
        write_report(config.out)


# --- the report


def half_right(task: Task, example: Example) -> Prediction:
    index = int(example.id.rpartition("-")[2])
    if index % 2 == 0:
        return task.perfect(example)
    if task is REFERRING:
        return Prediction(phrases=(FoundPhrase("x", (WRONG_BOX,)),), dropped=("<b> & more",))
    scores = (CandidateScore(c, -float(len(c)), 1) for c in task.candidates(example))
    return Prediction(text="<b>nothing</b> & no", scores=tuple(scores))


def test_report_has_numbers_pictures_boxes_and_replies_and_needs_no_network(
    sets: Path, config: EvaluateConfig
) -> None:
    evaluate(Oracle(ALL, sets, half_right), ALL, config)
    page, words = write_report(config.out, num_shown=3)
    html, text = page.read_text(), words.read_text()
    for task in ALL:
        assert task.title in html
        assert f"## {task.title}" in text
        assert html.count(f'id="{task.name}"') == 1
    for forbidden in ("http://", "https://", "<script", 'src="/', "@import", "url(http"):
        assert forbidden not in html.replace("xmlns", "")
    assert html.count("data:image/png;base64,") == 3 * 2 * 3
    # true boxes are dashed, said ones are not; both have a white rim
    assert html.count('stroke="#a4420b" stroke-width="2.5" stroke-dasharray="7 5" vector') == 6
    assert "&lt;b&gt;nothing&lt;/b&gt; &amp; no" in html
    assert "<b>nothing</b>" not in html
    assert "not read: &lt;b&gt; &amp; more" in html
    assert "excludes chance?" in html


def test_best_and_worst_replies_are_by_the_headline_metric(
    sets: Path, config: EvaluateConfig
) -> None:
    evaluate(Oracle([REFERRING], sets, half_right), [REFERRING], config)
    _, words = write_report(config.out, num_shown=2)
    best, worst = words.read_text().split("Worst:")
    assert "referring-0" in best
    assert "said “[0.00 0.10 0.30 0.50]”" in best
    assert worst.count("said “[0.90 0.90 1.00 1.00]”") == 2
    assert "referring-0 " not in worst
    assert "[0.90 0.90" not in best


def test_what_others_said_is_text_in_the_markdown_and_nothing_else(
    sets: Path, config: EvaluateConfig
) -> None:
    evil = "# a | b\n<img src=x onerror=alert(1)> `code` [link](x) \x1b[31m"

    def answer(task: Task, example: Example) -> Prediction:
        del task, example
        return Prediction(text=evil)

    evaluate(Oracle([VQA], sets, answer), [VQA], config)
    _, words = write_report(config.out, num_shown=1)
    text = words.read_text()
    assert (
        "said “\\# a \\| b \\<img src=x onerror=alert(1)\\> \\`code\\` \\[link\\](x) \\[31m”"
        in text
    )
    assert "\x1b" not in text
    assert not any(line.startswith("# a") for line in text.splitlines())


def test_several_folders_are_told_side_by_side(
    sets: Path, config: EvaluateConfig, tmp_path: Path
) -> None:
    right, half = replace(config, out=tmp_path / "right"), replace(config, out=tmp_path / "half")
    evaluate(Oracle([VQA, REFERRING], sets, perfect), [VQA, REFERRING], right)
    evaluate(Oracle([VQA], sets, half_right), [VQA], half)
    found = CliRunner().invoke(cli, ["report", str(right.out), str(half.out)])
    assert found.exit_code == 0, found.output
    rows = [line for line in found.output.splitlines() if line.startswith(("vqa ", "referring "))]
    (vqa,) = (row for row in rows if row.startswith("vqa "))
    assert re.findall(r"([\d.]+)%? \[", vqa) == ["100.0", "50.0"]
    assert all(row.endswith("–") for row in rows if row.startswith("referring "))


def test_pictures_are_kept_small_and_once(sets: Path, config: EvaluateConfig) -> None:
    evaluate(Oracle([VQA], sets, perfect), [VQA], config)
    kept = sorted((config.out / "pictures" / "vqa").iterdir())
    assert len(kept) == 24
    assert kept_picture(config.out, VQA, "vqa-0") in kept
    assert kept_picture(config.out, CAPTIONING, "captions-0") is None


class Torn(Oracle):
    """Cannot answer some examples."""

    def answer(self, requests, *, batch_size=16, batch_tokens=2048):
        asked = list(requests)
        for place, answer in super().answer(asked, batch_size=batch_size):
            name = asked[int(place)].doc.id
            error = DataError(f"document {name!r}: expected a whole picture, found a torn one")
            is_torn = name.endswith(("-3", "-7"))
            yield place, Failure(name=name, error=error) if is_torn else answer


def test_examples_that_cannot_be_answered_are_counted_and_the_others_answered(
    sets: Path, config: EvaluateConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="kosmos.evaluate.runner"):
        results = evaluate(Torn(ALL, sets, perfect), ALL, config)
    for task, result in zip(ALL, results.tasks, strict=True):
        assert (result.num_examples, result.num_failed) == (24, 2)
        assert f"{task.name}: 2 of 24 examples could not be answered" in caplog.text
        if task.metrics[0].kind == "share":
            assert result.metrics["accuracy"].value == pytest.approx(22 / 24)
    # and they are not asked again
    again = Torn(ALL, sets, perfect)
    assert [r.metrics for r in evaluate(again, ALL, config).tasks] == [
        r.metrics for r in results.tasks
    ]
    assert again.asked == []
    page, words = (path.read_text() for path in write_report(config.out, num_shown=24))
    told = "could not be answered and count as wrong"
    assert [page.replace("\n", " ").count(f"2 of which {told}"), words.count(f"2 {told}")] == [5, 5]
    assert page.count("no answer: document") == 10
    (row,) = [
        p for e, p in read_predictions(config.out / "predictions/vqa.jsonl") if e.id == "vqa-3"
    ]
    assert row.failure == "document 'vqa-3': expected a whole picture, found a torn one"


def test_a_picture_that_is_torn_in_its_shard_does_not_end_an_evaluation(
    tmp_path: Path, config: EvaluateConfig
) -> None:
    whole = write_sets(tmp_path / "whole", 6)
    for name in ("vqa", "captions"):
        with ShardWriter(tmp_path / "sets" / name) as writer:
            for index, doc in enumerate(ShardReader(whole / name)):
                torn = [Image(doc.images[0].source[:60])] if index == 2 else doc.images
                writer.write(Document(torn, id=doc.id, meta=doc.meta))
    tokenizer = small_tokenizer()
    engine = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=1))
    data = tmp_path / "sets"
    results = evaluate(engine, [VQA, CAPTIONING], replace(config, data=data, batch_size=4))
    assert [(r.num_examples, r.num_failed) for r in results.tasks] == [(6, 1), (6, 1)]
    write_report(config.out)
