"""Every way to write answers in one pass, stopped and gone on with; hostile names and lines."""

import json
import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result

from kosmos import Image
from kosmos.cli.main import cli, main
from kosmos.errors import ConfigError
from kosmos.files import read_jsonl
from kosmos.generate.generator import Generator

NAMES = ("a.png", "b/1.png", "b/2.png", "c.png")


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def run(name: str, folder: Path, *arguments: str | Path, code: int = 0) -> Result:
    words = [name, "--model", str(folder), *map(str, arguments)]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def without_date(page: Path) -> str:
    return re.sub("<dt>Made</dt><dd>.*?</dd>", "", page.read_text())


def all_of(out: Path) -> tuple[str | Path, ...]:
    return ("--draw", out / "drawn", "--coco", out / "coco.json", "--html", out / "page.html")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("refer", ("--expression", "a dog", "--best", "2", "--nms", "0.5")),
        ("refer", ("--expression", "a dog", "--grammar")),
        ("ground", ("--grammar", "--max-new-tokens", "9")),
    ],
)
def test_all_that_can_be_written_is_written_in_one_pass_and_whole_after_a_stop(
    folder, photos, tmp_path, name, options, monkeypatch
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    (photos / "bad.png").write_bytes(b"nothing")
    asked = (name, folder, "--images", photos, *options)
    printed = run(*asked, "--jsonl", whole / "o.jsonl", "--json", *all_of(whole), code=1).stdout
    rows = [json.loads(line) for line in printed.splitlines()]
    # in order, and a drawing of each
    assert [row["image"] for row in rows] == [str(photos / n) for n in sorted(NAMES)]
    assert [Path(row["drawn"]).name for row in rows] == [
        "0000-a.png", "0001-1.png", "0002-2.png", "0004-c.png",
    ]  # fmt: skip
    assert name == "ground" or all(row["grounded"] for row in rows)
    coco = json.loads((whole / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == sorted(NAMES)
    boxes = [box for row in rows for span in row["grounded"] for box in span["boxes_px"]]
    assert [note["bbox"][:2] for note in coco["annotations"]] == [box[:2] for box in boxes]
    # the same again, stopped behind the second, and at last without a model
    run(*asked, "--limit", "2", "--jsonl", parts / "o.jsonl", *all_of(parts))
    assert (parts / "page.html").read_text().count("<figure>") == 2
    run(*asked, "--jsonl", parts / "o.jsonl", code=1)
    monkeypatch.delattr("kosmos.cli.options.ModelChoice.load")
    last = run(*asked, "--jsonl", parts / "o.jsonl", *all_of(parts), code=1)
    assert last.stdout == ""
    again, coco = (json.loads((out / "coco.json").read_text()) for out in (parts, whole))
    for one, other in zip(again.pop("annotations"), coco.pop("annotations"), strict=True):
        # the last digits depend on the company
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-5)
        assert one == other
    assert again == coco
    assert without_date(parts / "page.html") == without_date(whole / "page.html")
    assert (whole / "page.html").read_text().count("<figure>") == 5
    for drawn in (whole / "drawn").iterdir():
        assert (parts / "drawn" / drawn.name).read_bytes() == drawn.read_bytes()


def test_best_boxes_of_a_list_are_those_of_the_library(folder, generator, photos, tmp_path):
    requests = tmp_path / "r.jsonl"
    lines = [{"image": f"photos/{n}", "expression": "a red dog", "id": n} for n in NAMES[:2]]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "o.jsonl"
    run("refer", folder, "--requests", requests, "--best", "3", "--jsonl", out)
    for row in read_jsonl(out):
        expected = generator.locate(Image(photos / row["id"]), "a red dog", k=3)
        (span,) = row["grounded"]
        assert span["locations"] == [list(box.locations) for box in expected]
        assert row["expression"] == "a red dog"
    with pytest.raises(ConfigError, match="best 3 there, 2 here"):
        run("refer", folder, "--requests", requests, "--best", "2", "--jsonl", out)


def test_answers_with_boxes_are_drawn_too(folder, photos, tmp_path):
    photo = str(photos / "a.png")
    ask = ("ask", folder, "--question", "what?", "--grammar", "--ground", "--max-new-tokens", "9")
    run(*ask, "--image", photo, *all_of(tmp_path)[2:], "--draw", tmp_path / "one.svg")
    assert (tmp_path / "one.svg").exists()
    assert json.loads((tmp_path / "coco.json").read_text())["images"][0]["file_name"] == photo
    requests = tmp_path / "q.jsonl"
    requests.write_text(json.dumps({"image": "photos/a.png"}) + "\n" + json.dumps({}) + "\n")
    run(*ask, "--requests", requests, "--draw", tmp_path / "drawn", "--html", tmp_path / "p.html")
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["0000-a.png"]
    assert (tmp_path / "p.html").read_text().count("<svg") == 1
    for option in ("--draw", "--coco"):
        refused = run("ask", folder, "--question", "a", option, tmp_path / "x.png", code=2)
        assert f"{option}: expected --ground" in refused.stderr


def test_a_caption_has_a_page_and_no_drawing(folder, photos, tmp_path):
    page = tmp_path / "page.html"
    run("caption", folder, "--images", photos, "--max-new-tokens", "3", "--html", page)
    assert page.read_text().count("<svg") == 4
    assert "<dt>Prompt</dt><dd>An image of</dd>" in page.read_text()
    run("caption", folder, "--images", photos, "--draw", tmp_path / "d", code=2)


def test_one_bad_line_costs_no_other_its_answer(folder, photos, tmp_path):
    hostile = [
        b'{"question": "\\ud800"}',
        b"[" * 50_000,
        b'{"question": "a", "meta": ' + b"9" * 5000 + b"}",
        b'{"question": "a", "meta": NaN}',
        b'{"image": "http://[", "question": "a"}',
        b'{"image": "' + b"x" * 300 + b'.png", "question": "a"}',
        b'{"image": "a\\u0000.png", "question": "a"}',
        b'{"question": "<phrase>it</phrase><object><patch_index_9999></object>"}',
        b'{"question": "' + b"dog " * 200 + b'"}',
    ]
    good = [json.dumps({"question": "red?", "id": f"good {n}"}).encode() for n in range(20)]
    requests = tmp_path / "q.jsonl"
    requests.write_bytes(b"\n".join([*good[:10], *hostile, *good[10:]]) + b"\n")
    out = tmp_path / "o.jsonl"
    asked = ("ask", folder, "--requests", requests, "--max-new-tokens", "2")
    told = run(*asked, "--jsonl", out, code=1)
    assert len(list(read_jsonl(out))) == 20
    reasons = [row["reason"] for row in read_jsonl(tmp_path / "o.jsonl.bad.jsonl")]
    assert sorted(reasons) == ["document"] + ["line"] * 5 + ["markup"] + ["picture"] * 2
    assert "20 done  9 failed (document 1, line 5, markup 1, picture 2)" in told.stderr
    assert "9 failed before" in run(*asked, "--jsonl", out, code=1).stderr
    # and without a file each is told, with the place of its line
    told = run(*asked, code=1)
    assert len(told.stdout.splitlines()) == 20
    errors = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 9
    assert f"{requests}:11: expected JSON" in told.stderr


def test_odd_names_in_a_folder_are_answered_or_counted(folder, photos, tmp_path):
    picture = (photos / "a.png").read_bytes()
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes(picture)
    (photos / "\x1b[31mred\n.png").write_bytes(picture)
    (photos / "IMG_1.HEIC").write_bytes(b"no picture we read")
    os.mkfifo(photos / "x.png")
    out = tmp_path / "o.jsonl"
    options = ("--images", photos, "--max-new-tokens", "2")
    told = run("caption", folder, *options, "--jsonl", out, "--html", tmp_path / "p.html", code=1)
    assert "6 done  2 failed (picture 2)" in told.stderr
    rows = {row["id"] for row in read_jsonl(out)}
    assert rows == {*NAMES, "caf\\udce9.png", "\x1b[31mred\n.png"}
    words = run("caption", folder, *options, code=1)
    assert "\x1b" not in words.stdout + words.stderr
    assert r"\x1b[31mred\n.png" in words.stdout
    assert len(words.stdout.splitlines()) == 6
    assert "expected a regular file, found a pipe" in words.stderr


def test_what_the_options_are_called_is_what_errors_say(folder, photos, capsys):
    photo = str(photos / "a.png")
    for options, said in (
        (("--num-beams", "0"), "error: --num-beams: expected at least 1, found 0"),
        (("--length-penalty", "2"), "--length-penalty: expected --num-beams above 1"),
        (("--seed", "2"), "error: --seed: expected temperature above 0"),
        (("--min-new-tokens", "99"), "at most --max-new-tokens 64, found 99"),
        (("--num-beams", "2", "--temperature", "1"), "error: --temperature: beams do not sample"),
        (("--device", "abacus"), "device: expected one that is here, 'cpu'"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["caption", "--model", str(folder), "--image", photo, *options])
        assert caught.value.code == 2
        assert said in capsys.readouterr().err


def test_the_device_is_the_gpu_if_there_is_one(folder, photos, monkeypatch):
    seen = []

    def load(path: Path, *, device: str, dtype: str, quantize: None) -> Generator:
        seen.append(device)
        raise ConfigError("enough")

    monkeypatch.setattr(Generator, "load", load)
    with pytest.raises(ConfigError):
        run("caption", folder, "--image", photos / "a.png")
    assert seen == ["auto"]


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(
    folder, photos, tmp_path, monkeypatch, capsys
):
    answer = Generator.answer

    def stopped(self, requests, **options):
        for number, found in enumerate(answer(self, requests, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(Generator, "answer", stopped)
    out = tmp_path / "o.jsonl"
    words = ["caption", "--model", str(folder), "--images", str(photos), "--jsonl", str(out)]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--max-new-tokens", "2", *map(str, ("--html", tmp_path / "p.html"))])
    assert caught.value.code == 130
    told = capsys.readouterr().err
    assert "2 done" in told
    assert f"{out} has what is finished; the same command goes on with it" in told
    assert len(list(read_jsonl(out))) == 2
    assert not (tmp_path / "p.html").exists()


BOX = "10,3,30,18"


def test_a_region_in_pixels_is_asked_about_as_the_papers_do(folder, generator, photos, monkeypatch):
    from kosmos import Box, Document, Grounded, Text

    photo = photos / "a.png"
    box = Box(0.25, 0.1, 0.75, 0.6)
    it = Document([Image(photo), Text("<grounding>"), Grounded("It", [box]), Text(" is")])
    found = run("ask", folder, "--image", photo, "--box", BOX, "--json", "--max-new-tokens", "5")
    reply = generator.generate(it, max_new_tokens=5)
    assert json.loads(found.stdout)["token_ids"] == list(reply.token_ids)
    # its tokens are those of the released prompt, letter for letter
    typed = "<grounding><phrase>It</phrase><object>{}</object> is"
    ids = generator.encode(it).token_ids.tolist()
    vocabulary = generator.tokenizer.vocabulary
    cells = [i for i in ids if i >= vocabulary.first_location_id and i < vocabulary.size]
    shown = "".join(f"<patch_index_{i - vocabulary.first_location_id:04d}>" for i in cells)
    assert len(cells) == 2
    words = Document([Image(photo), Text(typed.format(shown))])
    assert generator.encode(words).token_ids.tolist() == ids
    question = "where is <phrase>the dog</phrase>?"
    found = run(
        "ask", folder, "--image", photo, "--box", BOX, "--question", question, "--json",
        "--max-new-tokens", "5",
    )  # fmt: skip
    doc = Document(
        [
            Image(photo),
            Text("<grounding>Question: where is "),
            Grounded("the dog", [box]),
            Text("? Answer:"),
        ]
    )
    assert json.loads(found.stdout)["token_ids"] == list(
        generator.generate(doc, max_new_tokens=5).token_ids
    )


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--box", "1,2,3"), 2, "expected four numbers"),
        (("--box", "1,2,3,nan"), 2, "expected four numbers"),
        (("--box", "1,2,a,4"), 2, "expected four numbers"),
        (("--box", BOX, "--question", "what?"), 2, "expected <phrase>...</phrase> in --question"),
        (("--box", "30,3,10,18"), 1, "x0 < x1 and y0 < y1 in the 40 x 30 pixels"),
        (("--box", "10,3,41,18"), 1, "in the 40 x 30 pixels of"),
    ],
)
def test_a_region_that_is_none_is_refused(folder, photos, capsys, options, code, said):
    with pytest.raises(SystemExit) as caught:
        main(["ask", "--model", str(folder), "--image", str(photos / "a.png"), *options])
    assert caught.value.code == code
    assert said in capsys.readouterr().err


def test_a_region_needs_a_picture(folder):
    assert "expected --image" in run("ask", folder, "--box", BOX, code=2).stderr
