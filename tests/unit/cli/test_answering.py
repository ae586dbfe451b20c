"""The commands that answer: caption, ask, ground, refer, score, chat, on a tiny model folder."""

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result

from kosmos import Document, Image, Text
from kosmos.cli.main import cli, main
from kosmos.errors import ConfigError, DataError, ImageError
from kosmos.generate.generator import Generator
from kosmos.image.codec import encode_png
from kosmos.text.prompts import phrase, question

COMMANDS = ("caption", "ask", "ground", "refer", "score", "chat")


@pytest.fixture
def picture(tmp_path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    path = tmp_path / "a b.png"
    path.write_bytes(encode_png(PIL.Image.fromarray(pixels)))
    return str(path)


def run(name: str, folder: Path, *arguments: str, stdin: str | bytes = "", code: int = 0) -> Result:
    result = CliRunner().invoke(
        cli, [name, "--model", str(folder), *arguments], input=stdin, catch_exceptions=False
    )
    assert result.exit_code == code, result.output
    return result


def test_caption_prints_the_reply_of_the_library(folder, generator, picture):
    reply = generator.generate(
        Document([Image(picture), Text("An image of")], id=picture), max_new_tokens=6, num_beams=2
    )
    options = ("--image", picture, "--max-new-tokens", "6", "--num-beams", "2")
    assert run("caption", folder, *options).stdout == reply.text + "\n"
    found = json.loads(run("caption", folder, *options, "--json").stdout)
    assert found["image"] == picture
    assert found["text"] == reply.text
    assert found["token_ids"] == list(reply.token_ids)
    assert found["logprob"] == reply.logprob
    assert found["finish"] == reply.finish


def test_a_bad_picture_is_named_and_the_good_ones_are_answered(folder, picture, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    missing = str(tmp_path / "missing.jpg")
    names = [picture, str(bad), missing, picture]
    arguments = [word for name in names for word in ("--image", name)]
    for batch_size in ("1", "16"):
        result = run(
            "caption", folder, *arguments, "--json", "--batch-size", batch_size,
            "--max-new-tokens", "3", code=1,
        )  # fmt: skip
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row["image"] for row in rows] == [picture, picture]
        errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 2
        assert "bad.png" in errors[0]
        assert "missing.jpg" in errors[1]


def test_several_pictures_are_named_in_text(folder, picture):
    lines = run(
        "caption", folder, "--image", picture, "--image", picture, "--max-new-tokens", "3"
    ).stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{picture}\t") for line in lines)


def test_a_picture_may_come_from_stdin(folder, picture):
    found = run(
        "caption", folder, "--image", "-", "--json", "--max-new-tokens", "3",
        stdin=Path(picture).read_bytes(),
    )  # fmt: skip
    file = run("caption", folder, "--image", picture, "--json", "--max-new-tokens", "3")
    assert json.loads(found.stdout)["text"] == json.loads(file.stdout)["text"]


def grounding_reply(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every reply be one box and some words, whatever the weights."""
    from kosmos.generate import replies as module
    from kosmos.generate.search import Draft

    ids = generator.tokenizer.encode_markup(
        "<object><patch_index_0000><patch_index_0010></object> dog<phrase>it</phrase>"
        "<object><patch_index_0010><patch_index_0000></object>"
    )

    def search(rows: object, starts: list, decoding: object, constraints: object) -> list[Draft]:
        draft = Draft(token_ids=ids, token_logprobs=[-1.0] * len(ids), finish="stop")
        return [draft for _ in starts]

    monkeypatch.setattr(module, "choose_replies", search)


def test_refer_gives_the_box_of_the_phrase_in_pixels(folder, generator, picture, monkeypatch):
    grounding_reply(generator, monkeypatch)
    arguments = ("--image", picture, "--expression", "a red dog")
    result = run("refer", folder, *arguments)
    assert result.stdout == "a red dog\t5.0 3.8 25.0 18.8\t0.37\n"
    # and ends there, whatever the model would have gone on with
    assert result.stderr == ""
    found = json.loads(run("refer", folder, *arguments, "--json").stdout)
    assert found["grounded"] == [
        {
            "text": "a red dog",
            "start": 0,
            "end": 0,
            "boxes": [[0.125, 0.125, 0.625, 0.625]],
            "boxes_px": [[5.0, 3.75, 25.0, 18.75]],
            "confidence": [math.exp(-1.0)],
            "logprobs": [-2.0],
            "locations": [[0, 10]],
            "guaranteed_ious": [0.25],
            "image_index": 0,
        }
    ]


def test_refer_without_a_box_says_so_on_stderr(folder, generator, picture, monkeypatch):
    from kosmos.generate import replies as module
    from kosmos.generate.search import Draft

    ids = generator.tokenizer.encode("a dog")
    draft = Draft(token_ids=ids, token_logprobs=[-1.0] * len(ids), finish="stop")
    monkeypatch.setattr(module, "choose_replies", lambda *_: [draft])
    result = run("refer", folder, "--image", picture, "--expression", "it")
    assert (result.stdout, result.stderr) == ("\n", "not found: the reply has no box\n")


def test_ground_names_the_picture_on_every_line(folder, generator, picture, monkeypatch):
    grounding_reply(generator, monkeypatch)
    result = run("ground", folder, "--image", picture, "--image", picture)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert len(rows) == 4
    assert {row[0] for row in rows} == {picture}


def test_ground_draws_its_boxes(folder, generator, picture, monkeypatch, tmp_path):
    grounding_reply(generator, monkeypatch)
    one = tmp_path / "out" / "one.png"
    found = run("ground", folder, "--image", picture, "--draw", str(one), "--json")
    assert json.loads(found.stdout)["drawn"] == str(one)
    drawn = np.asarray(PIL.Image.open(one))
    plain = np.asarray(PIL.Image.open(picture).resize(drawn.shape[1::-1], 0))
    assert (drawn != plain).any()
    several = tmp_path / "several"
    run("ground", folder, "--image", picture, "--image", picture, "--draw", str(several))
    assert sorted(p.name for p in several.iterdir()) == ["0000-a b.png", "0001-a b.png"]


def test_ground_draws_svg_and_several_by_name(folder, generator, picture, monkeypatch, tmp_path):
    grounding_reply(generator, monkeypatch)
    one = tmp_path / "one.svg"
    run("ground", folder, "--image", picture, "--draw", str(one))
    titles = [node.text for node in ET.parse(one).iter("{http://www.w3.org/2000/svg}title")]
    assert titles[1:] == ["(no phrase), 37% sure"]
    both = ("--image", picture, "--image", picture, "--draw", str(tmp_path / "b.svg"))
    run("ground", folder, *both)
    names = sorted(path.name for path in tmp_path.glob("b-*"))
    assert names == ["b-0000-a b.svg", "b-0001-a b.svg"]


def test_a_drawing_is_png_or_svg(folder, picture, tmp_path):
    arguments = ["ground", "--model", str(folder), "--image", picture]
    result = CliRunner().invoke(cli, [*arguments, "--draw", str(tmp_path / "a.jpg")])
    assert result.exit_code == 2
    assert "expected a .png or .svg, found 'a.jpg'" in result.output


def test_ground_writes_a_coco_data_set(folder, generator, picture, monkeypatch, tmp_path):
    grounding_reply(generator, monkeypatch)
    coco = tmp_path / "boxes.json"
    run("ground", folder, "--image", picture, "--image", "missing.jpg", "--coco", str(coco), code=1)
    found = json.loads(coco.read_text())
    size = {"width": 40, "height": 30}
    assert found["images"] == [{"id": 1, "file_name": picture, **size}]
    assert [row["bbox"] for row in found["annotations"]] == [[5.0, 3.75, 20.0, 15.0]]
    assert [row["score"] for row in found["annotations"]] == [math.exp(-1.0)]


def test_refer_gives_the_best_boxes_of_the_library(folder, generator, picture, tmp_path):
    expected = generator.locate(Image(picture), "a red dog", k=3, nms=0.4)
    draw, coco = tmp_path / "best.png", tmp_path / "best.json"
    arguments = (
        "--image", picture, "--expression", "a red dog", "--best", "3", "--nms", "0.4",
        "--draw", str(draw), "--coco", str(coco),
    )  # fmt: skip
    lines = run("refer", folder, *arguments).stdout.splitlines()
    assert [line.split("\t")[2] for line in lines] == [f"{b.confidence:.2f}" for b in expected]
    found = json.loads(run("refer", folder, *arguments, "--json").stdout)
    assert (found["image"], found["expression"]) == (picture, "a red dog")
    (span,) = found["grounded"]
    assert span["boxes_px"] == [list(box.box_px) for box in expected]
    assert span["confidence"] == [box.confidence for box in expected]
    assert len(json.loads(coco.read_text())["annotations"]) == 3
    assert draw.exists()


def test_best_boxes_of_good_pictures_come_beside_a_bad_one(folder, picture):
    result = run(
        "refer", folder, "--image", "missing.jpg", "--image", picture, "--expression", "it",
        "--best", "2", code=1,
    )  # fmt: skip
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [picture] * 2
    assert "missing.jpg" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--nms", "0.5"),
        ("--best", "2", "--num-beams", "3"),
        ("--best", "0"),
        ("--best", "2", "--grammar"),
        ("--seed", "3"),
        ("--length-penalty", "2"),
    ],
)
def test_an_option_of_refer_without_effect_is_refused(folder, picture, options):
    with pytest.raises(SystemExit) as caught:
        main(["refer", "--model", str(folder), "--image", picture, "--expression", "it", *options])
    assert caught.value.code == 2


def test_ground_takes_one_way_to_say_the_prompt(folder, picture):
    result = CliRunner().invoke(
        cli,
        ["ground", "--model", str(folder), "--image", picture, "--detail", "--prompt", "x"],
    )
    assert result.exit_code == 2


def test_ask_shows_all_pictures_in_one_prompt(folder, generator, picture):
    doc = Document([Image(picture), Image(picture), Text(question("What is it?"))])
    reply = generator.generate(doc, max_new_tokens=5)
    found = run(
        "ask", folder, "--image", picture, "--image", picture, "--question", "What is it?",
        "--max-new-tokens", "5", "--json",
    )  # fmt: skip
    assert json.loads(found.stdout)["token_ids"] == list(reply.token_ids)
    text = generator.generate(question("red?"), max_new_tokens=5)
    assert run(
        "ask", folder, "--question", "red?", "--max-new-tokens", "5"
    ).stdout.splitlines()[0] == text.text  # fmt: skip
    grounded = run("ask", folder, "--question", "red?", "--ground", "--json").stdout
    assert json.loads(grounded)["question"] == "red?"


def test_ask_refuses_a_bad_picture(folder, tmp_path):
    with pytest.raises(ImageError, match="missing"):
        run("ask", folder, "--image", str(tmp_path / "missing.png"), "--question", "x")


def test_score_prints_sum_mean_and_tokens_in_the_order_given(folder, generator, picture):
    doc = Document([Image(picture), Text("it is")])
    scores = generator.score(doc, ["a red dog", "yes"])
    arguments = (
        "--image", picture, "--prompt", "it is", "--candidate", "a red dog", "--candidate", "yes",
    )  # fmt: skip
    found = json.loads(run("score", folder, *arguments, "--json").stdout)
    assert [row["logprob"] for row in found["scores"]] == [score.logprob for score in scores]
    assert [row["num_tokens"] for row in found["scores"]] == [s.num_tokens for s in scores]
    best = max(scores, key=lambda score: score.logprob)
    assert found["best_by_sum"] == ["a red dog", "yes"][scores.index(best)]
    lines = run("score", folder, *arguments).stdout.splitlines()
    assert [line.split("\t")[3] for line in lines] == ["a red dog", "yes"]
    assert lines[0].split("\t")[0] == f"{scores[0].logprob:.4f}"


def test_chat_answers_each_line_and_remembers(folder, generator, picture):
    from kosmos.generate.chat import Chat, Conversation
    from kosmos.generate.config import Decoding

    chat = Chat(generator, Conversation().system("a dog."), decoding=Decoding(max_new_tokens=4))
    expected = [chat.say("What is it?", [picture]), chat.say("red?")]
    lines = f"/image {picture}\nWhat is it?\n\nred?\n/quit\nnever read\n"
    arguments = ("--system", "a dog.", "--max-new-tokens", "4", "--json")
    rows = run("chat", folder, *arguments, stdin=lines).stdout.splitlines()
    assert [json.loads(row)["token_ids"] for row in rows] == [
        list(reply.token_ids) for reply in expected
    ]
    start = run("chat", folder, *arguments, "--image", picture, stdin="What is it?\n").stdout
    assert json.loads(start)["token_ids"] == list(expected[0].token_ids)


def test_chat_prints_words_as_they_come_and_then_boxes(folder, generator, monkeypatch, picture):
    from kosmos.generate import replies as module
    from kosmos.generate.search import Draft

    ids = generator.tokenizer.encode_markup(
        "a red<phrase> dog</phrase><object><patch_index_0000><patch_index_0010></object> left"
    )

    def grow(rows: object, starts: list, decoding: object, rules: object) -> Iterator[list[Draft]]:
        for size in range(1, len(ids) + 1):
            yield [Draft(token_ids=ids[:size], token_logprobs=[-1.0] * size, finish="length")]

    echoed = []
    monkeypatch.setattr(module, "grow_replies", grow)
    monkeypatch.setattr(click, "echo", lambda text, **_: echoed.append(text))
    run("chat", folder, "--image", picture, stdin="What is it?\n")
    assert echoed[-1] == "\ndog\t5.0 3.8 25.0 18.8\t0.37"
    assert "".join(echoed[:-1]) == "a red dog left"
    assert len(echoed) > 5


def test_chat_answers_with_beams_too(folder, generator):
    from kosmos.generate.chat import Chat
    from kosmos.generate.config import Decoding

    chat = Chat(generator, decoding=Decoding(max_new_tokens=4, num_beams=2))
    found = run("chat", folder, "--num-beams", "2", "--max-new-tokens", "4", stdin="red?\n").stdout
    assert found.splitlines()[0] == chat.say("red?").text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/image missing.png", "missing.png: expected a picture, found no such file"),
        ("/image ", "expected /image FILE or /quit, found '/image'"),
        ("/imgae a.png", "found '/imgae a.png'\nhint: did you mean /image?"),
        ("/help", "expected /image FILE or /quit"),
    ],
)
def test_a_mistyped_line_of_a_script_does_not_end_the_talk_and_is_told(folder, line, said):
    options = ("--max-new-tokens", "3", "--json")
    found = run("chat", folder, *options, stdin=f"red?\n{line}\nred?\n", code=1)
    plain = run("chat", folder, *options, stdin="red?\nred?\n")
    assert found.stdout == plain.stdout
    assert said in found.stderr


def test_words_that_only_begin_like_a_command_are_said(folder, generator):
    from kosmos.generate.chat import Chat

    chat = Chat(generator)
    options = ("--max-new-tokens", "3", "--json")
    found = run("chat", folder, *options, stdin=b"/usr/bin is\n  /help\n\xe9\n").stdout
    expected = [chat.say(words, max_new_tokens=3) for words in ("/usr/bin is", "/help", "\ufffd")]
    rows = [json.loads(row)["token_ids"] for row in found.splitlines()]
    assert rows == [list(reply.token_ids) for reply in expected]


def test_impossible_options_are_refused_before_the_model_is_loaded(tmp_path, picture):
    with pytest.raises(ConfigError, match="beams do not sample"):
        run("caption", tmp_path / "no model", "--image", picture,
            "--num-beams", "2", "--temperature", "1")  # fmt: skip


def test_replies_end_before_a_stop_text_and_not_before_the_least(folder, generator):
    options = ("--min-new-tokens", "12", "--max-new-tokens", "12", "--json")
    whole = json.loads(run("ask", folder, "--question", "What is it?", *options).stdout)
    assert len(whole["token_ids"]) == 12
    text = whole["markup"][-2:]
    stop = ("--stop", text, "--stop", "never")
    cut = json.loads(run("ask", folder, "--question", "What is it?", *options, *stop).stdout)
    assert cut["finish"] == "stop"
    assert cut["markup"] == whole["markup"][: whole["markup"].index(text)].rstrip()


def test_the_prompt_of_refer_is_the_papers(folder, generator, picture):
    doc = Document([Image(picture), Text(phrase("a dog"))], id=picture)
    found = run("refer", folder, "--image", picture, "--expression", "a dog", "--json")
    assert json.loads(found.stdout)["token_ids"] == list(generator.generate(doc).token_ids)


def test_help_of_every_command_imports_no_torch():
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from kosmos.cli.main import cli\n"
        f"for name in {COMMANDS!r}:\n"
        "    result = CliRunner().invoke(cli, [name, '--help'])\n"
        "    assert result.exit_code == 0 and '--model' in result.output, name\n"
        "    assert 'Example' in result.output, name\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_choices_hold_replies_to_the_lines_of_a_file(folder, generator, picture, tmp_path):
    answers = ["a red dog", "a blue star", "yes"]
    (tmp_path / "answers.txt").write_text("\n".join(answers) + "\n")
    choices = ("--choices", str(tmp_path / "answers.txt"))
    for name, *options in (
        ("caption", "--image", picture, "--num-beams", "2"),
        ("ask", "--image", picture, "--question", "what?"),
    ):
        assert run(name, folder, *options, *choices).stdout.strip() in answers
        found = json.loads(run(name, folder, *options, *choices, "--json").stdout)
        assert answers[found["choice"]] == found["text"]
    out = tmp_path / "out.jsonl"
    run("caption", folder, "--image", picture, *choices, "--jsonl", str(out))
    row = json.loads(out.read_text())
    assert answers[row["choice"]] == row["text"]
    # lines under other answers are not continued
    (tmp_path / "answers.txt").write_text("no")
    with pytest.raises(ConfigError, match="choices"):
        run("caption", folder, "--image", picture, *choices, "--jsonl", str(out))


def test_choices_that_are_none_are_an_error(folder, picture, tmp_path):
    path = tmp_path / "answers.txt"
    with pytest.raises(DataError, match=r"answers.txt: expected answers, one a line"):
        run("caption", folder, "--image", picture, "--choices", str(path))
    path.write_text("yes\n\nno\n")
    with pytest.raises(ConfigError, match="choice 1: expected words, found no words"):
        run("caption", folder, "--image", picture, "--choices", str(path))


def test_the_grammar_lets_no_reply_drop_anything(folder, picture):
    for name, *options in (
        ("ground", "--image", picture),
        ("refer", "--image", picture, "--expression", "a red dog"),
        ("ask", "--image", picture, "--question", "what?", "--ground"),
    ):
        asked = (name, folder, *options, "--temperature", "1.5", "--json")
        rows = [json.loads(run(*asked, "--grammar", "--seed", str(n)).stdout) for n in range(4)]
        assert not any(row["dropped"] for row in rows)
        free = [json.loads(run(*asked, "--seed", str(n)).stdout) for n in range(4)]
        assert any(row["dropped"] for row in free)
        if name == "refer":
            assert all(row["grounded"][0]["text"] == "a red dog" for row in rows)


def test_constraints_that_would_do_nothing_are_refused(folder, picture, tmp_path):
    (tmp_path / "answers.txt").write_text("yes")
    ask = ("ask", folder, "--image", picture, "--question", "what?")
    refer = ("refer", folder, "--image", picture, "--expression", "a dog")
    assert "expected --ground" in run(*ask, "--grammar", code=2).stderr
    both = ("--ground", "--grammar", "--choices", str(tmp_path / "answers.txt"))
    assert "expected one of them" in run(*ask, *both, code=2).stderr
    assert "--best" in run(*refer, "--best", "2", "--grammar", code=2).stderr
