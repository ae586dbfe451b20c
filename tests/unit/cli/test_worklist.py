"""Lists on the command line: folders and requests files into lines, which go on if stopped."""

import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result

from kosmos import Document, Image, Text
from kosmos.cli.main import cli
from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, read_json, read_jsonl
from kosmos.text.prompts import phrase, question
from kosmos.weights.folder import save_model
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

NAMES = ("a/1.png", "a/2.PNG", "b c/3.jpg", "z.png")


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    hidden = tmp_path / "photos" / ".thumbs"
    hidden.mkdir()
    for path in (hidden / "1.png", tmp_path / "photos" / "._z.png", tmp_path / "photos" / "a.txt"):
        path.write_bytes(b"no picture")
    return tmp_path / "photos"


def run(name: str, folder: Path, *arguments: str | Path, code: int = 0) -> Result:
    words = [name, "--model", str(folder), *map(str, arguments)]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def rows_of(path: Path) -> dict[str, dict[str, Json]]:
    rows = [row for row in read_jsonl(path) if isinstance(row, dict)]
    assert len({str(row["id"]) for row in rows}) == len(rows)
    return {str(row["id"]): row for row in rows}


def write_requests(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def test_every_picture_below_a_folder_gets_its_line(folder, generator, photos, tmp_path):
    out = tmp_path / "out.jsonl"
    options = ("--images", photos, "--jsonl", out, "--max-new-tokens", "4", "--num-beams", "2")
    result = run("caption", folder, *options, "--batch-size", "3")
    rows = rows_of(out)
    assert tuple(sorted(rows)) == NAMES
    for name in NAMES:
        doc = Document([Image(photos / name), Text("An image of")], id=name)
        reply = generator.generate(doc, max_new_tokens=4, num_beams=2)
        assert rows[name]["image"] == name
        assert rows[name]["token_ids"] == list(reply.token_ids)
        assert rows[name]["text"] == reply.text
    assert result.stdout == ""
    assert "4 done" in result.stderr
    for word in ("items/s", "tokens/s", "peak memory"):
        assert word in result.stderr
    assert not (tmp_path / "out.jsonl.bad.jsonl").exists()


def test_a_second_start_does_what_is_left_and_a_third_loads_no_model(
    folder, photos, tmp_path, monkeypatch
):
    out = tmp_path / "out.jsonl"
    options = ("--images", photos, "--jsonl", out, "--max-new-tokens", "3")
    run("caption", folder, *options, "--limit", "2")
    first = out.read_bytes()
    assert tuple(sorted(rows_of(out))) == NAMES[:2]
    assert "2 done  2 were done before" in run("caption", folder, *options).stderr
    assert out.read_bytes().startswith(first)
    assert tuple(sorted(rows_of(out))) == NAMES
    whole = out.read_bytes()
    monkeypatch.delattr("kosmos.cli.options.ModelChoice.load")
    again = run("caption", folder, *options).stderr
    assert "0 done  4 were done before" in again
    assert out.read_bytes() == whole


def test_other_settings_are_refused_until_forced(folder, photos, tmp_path):
    out = tmp_path / "out.jsonl"
    options = ("--images", photos, "--jsonl", out, "--max-new-tokens", "3")
    run("caption", folder, *options)
    for change, named in (
        (("--num-beams", "2"), "decoding.num_beams 1 there, 2 here"),
        (("--prompt", "It is"), "prompt 'An image of' there, 'It is' here"),
        (("--dtype", "bfloat16"), "dtype 'float32' there, 'bfloat16' here"),
    ):
        with pytest.raises(ConfigError) as caught:
            run("caption", folder, *options, *change)
        assert named in caught.value.message
    with pytest.raises(ConfigError, match="command 'caption' there, 'ground' here"):
        run("ground", folder, *options)
    run("ground", folder, *options, "--force")
    assert read_json(tmp_path / "out.jsonl.meta.json")["command"] == "ground"
    assert len(rows_of(out)) == len(NAMES)


def test_another_model_is_refused(folder, photos, tmp_path):
    tokenizer = small_tokenizer()
    made = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=6))
    save_model(
        tmp_path / "other",
        model=made.model,
        tokenizer=tokenizer,
        image=made.image,
        layout=made.layout,
        provenance=None,
    )
    options = ("--images", photos, "--jsonl", tmp_path / "out.jsonl", "--max-new-tokens", "2")
    run("caption", folder, *options)
    with pytest.raises(ConfigError, match="found others: model "):
        run("caption", tmp_path / "other", *options)


def test_bad_pictures_are_kept_with_their_reason_and_tried_again_when_told_to(
    folder, photos, tmp_path
):
    out, bad = tmp_path / "out.jsonl", tmp_path / "out.jsonl.bad.jsonl"
    good = (photos / NAMES[1]).read_bytes()
    (photos / NAMES[1]).write_bytes(b"nothing")
    options = ("--images", photos, "--jsonl", out, "--max-new-tokens", "3")
    result = run("caption", folder, *options, code=1)
    assert "3 done  1 failed (picture 1)" in result.stderr
    assert str(bad) in result.stderr
    (row,) = read_jsonl(bad)
    assert (row["id"], row["image"], row["reason"]) == (NAMES[1], NAMES[1], "picture")
    assert "found 7 bytes" in row["error"]
    (photos / NAMES[1]).write_bytes(good)
    assert "1 failed before" in run("caption", folder, *options, code=1).stderr
    run("caption", folder, *options, "--retry-bad")
    assert tuple(sorted(rows_of(out))) == NAMES
    assert not bad.exists()


def test_a_folder_without_lines_prints_as_single_pictures_do(folder, photos):
    several = [word for name in NAMES for word in ("--image", str(photos / name))]
    for extra in ((), ("--json",)):
        ours = run("caption", folder, "--images", photos, "--max-new-tokens", "3", *extra)
        single = run("caption", folder, *several, "--max-new-tokens", "3", *extra)
        assert ours.stdout == single.stdout


def test_single_pictures_may_be_written_as_lines_too(folder, photos, tmp_path):
    out = tmp_path / "out.jsonl"
    names = [str(photos / name) for name in (NAMES[3], NAMES[0], NAMES[3])]
    images = [word for name in names for word in ("--image", name)]
    run("ground", folder, *images, "--jsonl", out, "--max-new-tokens", "3")
    assert sorted(rows_of(out)) == sorted(set(names))


def test_questions_of_a_file_are_asked_of_their_pictures(folder, generator, photos, tmp_path):
    requests = write_requests(
        photos / "questions.jsonl",
        {"image": "z.png", "question": "red?"},
        {"images": ["a/1.png", "z.png"], "question": "What is it?", "id": "both", "meta": {"g": 1}},
        {"question": "a dog?", "id": 7},
        "",
        {"image": "z.png"},
    )
    out = tmp_path / "out.jsonl"
    options = ("--requests", requests, "--max-new-tokens", "4", "--question", "is it?")
    run("ask", folder, *options, "--jsonl", out)
    rows = rows_of(out)
    assert sorted(rows) == ["1", "5", "7", "both"]
    shown = {"1": ["z.png"], "both": ["a/1.png", "z.png"], "7": [], "5": ["z.png"]}
    words = {"1": "red?", "both": "What is it?", "7": "a dog?", "5": "is it?"}
    for item_id, row in rows.items():
        parts = [Image(photos / name) for name in shown[item_id]]
        doc = Document([*parts, Text(question(words[item_id]))], id=item_id)
        expected = generator.generate(doc, max_new_tokens=4)
        assert row["token_ids"] == list(expected.token_ids)
    assert rows["both"]["meta"] == {"g": 1}
    assert rows["both"]["images"] == ["a/1.png", "z.png"]
    printed = run("ask", folder, *options).stdout.splitlines()
    texts = {row["id"]: row["text"] for row in map(json.loads, printed)}
    assert texts == {item_id: row["text"] for item_id, row in rows.items()}


def test_expressions_of_a_file_are_looked_for(folder, generator, photos, tmp_path):
    requests = write_requests(photos / "r.jsonl", {"image": "z.png", "expression": "a dog"})
    out = tmp_path / "out.jsonl"
    run("refer", folder, "--requests", requests, "--jsonl", out, "--max-new-tokens", "4")
    doc = Document([Image(photos / "z.png"), Text(phrase("a dog"))], id="1")
    expected = generator.generate(doc, max_new_tokens=4)
    assert rows_of(out)["1"]["token_ids"] == list(expected.token_ids)
    assert rows_of(out)["1"]["expression"] == "a dog"


def test_candidates_of_a_file_are_scored(folder, generator, photos, tmp_path):
    requests = write_requests(
        photos / "c.jsonl",
        {"image": "z.png", "prompt": "it is", "candidates": ["red", "a dog"]},
        {"prompt": "a"},
        {"prompt": "a", "candidates": []},
    )
    out = tmp_path / "out.jsonl"
    run(
        "score", folder, "--requests", requests, "--jsonl", out, "--candidate", "star",
        "--end", code=1,
    )  # fmt: skip
    rows = rows_of(out)
    doc = Document([Image(photos / "z.png"), Text("it is")])
    expected = generator.score(doc, ["red", "a dog"], end=True)
    assert [s["logprob"] for s in rows["1"]["scores"]] == pytest.approx(
        [score.logprob for score in expected], abs=1e-5
    )
    assert rows["1"]["best_by_sum"] in ("red", "a dog")
    assert [s["candidate"] for s in rows["2"]["scores"]] == ["star"]
    (bad,) = read_jsonl(tmp_path / "out.jsonl.bad.jsonl")
    assert (bad["id"], bad["reason"]) == ("line 3", "line")
    assert "c.jsonl:3: candidates: expected at least one" in bad["error"]


def test_an_edited_request_is_not_taken_for_the_one_that_was_answered(folder, photos, tmp_path):
    requests = write_requests(photos / "q.jsonl", {"image": "z.png", "question": "red?"})
    options = ("--requests", requests, "--jsonl", tmp_path / "o.jsonl", "--max-new-tokens", "2")
    run("ask", folder, *options)
    write_requests(requests, {"image": "z.png", "question": "red?"}, {"question": "a dog?"})
    assert "1 done  1 were done before" in run("ask", folder, *options).stderr
    write_requests(requests, {"image": "z.png", "question": "blue?"})
    with pytest.raises(ConfigError, match="'1' to be what is asked now"):
        run("ask", folder, *options)


@pytest.mark.parametrize(
    "words",
    [
        ("caption",),
        ("caption", "--image", "a.png", "--images", "photos"),
        ("caption", "--image", "a.png", "--limit", "1"),
        ("caption", "--image", "a.png", "--force"),
        ("caption", "--image", "-", "--jsonl", "out.jsonl"),
        ("ground", "--image", "a.png", "--draw", "boxes"),
        ("refer", "--image", "a.png"),
        ("ask", "--image", "a.png"),
        ("ask", "--image", "a.png", "--question", "x", "--jsonl", "out.jsonl"),
        ("ask", "--image", "a.png", "--requests", "q.jsonl"),
        ("score", "--image", "a.png"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_read(words, tmp_path):
    result = CliRunner().invoke(cli, [words[0], "--model", str(tmp_path / "none"), *words[1:]])
    assert result.exit_code == 2, result.output


def test_lines_go_on_in_files_alone(folder, photos, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(DataError, match="expected a file, found a device or a pipe") as caught:
            run("caption", folder, "--images", photos, "--jsonl", place)
        assert caught.value.message.startswith(f"{place}: ")
    with pytest.raises(DataError, match="expected a file, found a folder"):
        run("caption", folder, "--images", photos, "--jsonl", tmp_path)
