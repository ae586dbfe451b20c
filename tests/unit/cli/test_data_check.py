"""kosmos data check."""

import json
from pathlib import Path

import pytest

from kosmos import config
from kosmos.cli.main import main
from kosmos.files import write_json
from tests.tiny_run import caption_document, make_run, text_document, write_shards


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_info:
        main(["data", "check", *arguments])
    out, err = capsys.readouterr()
    code = exit_info.value.code
    assert isinstance(code, int)
    return code, out, err


def test_good_shards_exit_with_zero_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shards(tmp_path / "text", [text_document(n) for n in range(8)])
    code, out, _ = run(str(folder), capsys=capsys)
    assert code == 0
    assert out.splitlines()[0].split() == ["corpus", "documents", "usable", "pictures", "boxes"]
    assert out.splitlines()[1].split() == [str(folder), "8", "8", "0", "0"]
    assert out.splitlines()[-1] == "no errors, no warnings"


def test_warnings_alone_exit_with_zero_and_errors_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shards(tmp_path / "captions", [caption_document(n) for n in range(8)])
    code, out, _ = run(str(folder), capsys=capsys)
    assert code == 0
    assert "warning: 8 of 8  pictures of a single color" in out
    (folder / "00000.tar").write_bytes(b"")
    code, out, _ = run(str(folder), capsys=capsys)
    assert code == 1
    assert "error:   1  truncated shards" in out
    assert out.splitlines()[-1] == "1 error, no warnings"


def test_json_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_shards(tmp_path / "captions", [caption_document(n) for n in range(8)])
    code, out, _ = run(str(folder), "--json", capsys=capsys)
    value = json.loads(out)
    assert code == 0
    assert (value["errors"], value["warnings"]) == (0, 1)
    assert value["corpora"][0]["facts"]["documents"] == 8
    assert value["findings"][0]["count"] == 8


def test_both_sides_of_an_import_are_read_and_held_against_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(tmp_path / "it/train", [text_document(n) for n in range(8)])
    write_shards(tmp_path / "it/heldout", [text_document(n) for n in range(6, 10)])
    code, out, _ = run(str(tmp_path / "it"), capsys=capsys)
    assert code == 1
    assert "documents that are trained on as well, 50.0% of all" in out


def test_a_run_is_checked_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = make_run(tmp_path)
    write_json(tmp_path / "run.json", config.to_json(tiny))
    code, out, _ = run(str(tmp_path / "run.json"), capsys=capsys)
    assert code == 0
    assert "rows/step" in out.splitlines()[0]
    code, out, _ = run(
        str(tmp_path / "run.json"), "--set", "streams.pages.path=gone", capsys=capsys
    )
    assert code == 1
    assert "gone: expected a folder of document shards, found nothing there" in out


def test_two_streams_of_one_name_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = config.to_json(make_run(tmp_path))
    assert isinstance(value, dict)
    value["data"]["streams"][1]["name"] = "text"  # type: ignore[index, call-overload]
    write_json(tmp_path / "run.json", value)
    code, out, _ = run(str(tmp_path / "run.json"), capsys=capsys)
    assert code == 1
    assert "streams: expected unique names, found 'text' twice" in out


def test_a_recipe_without_data_names_every_stream(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("kosmos2", capsys=capsys)
    assert code == 1
    for stream in ("text", "captions", "grounded", "interleaved"):
        assert f"--set streams.{stream}.path=FOLDER" in out


def test_a_name_that_is_nothing_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run("kosmos3", capsys=capsys)
    assert code == 1
    assert "hint: did you mean 'kosmos" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("somewhere", "--images", "photos"),
        ("somewhere", "--limit", "3"),
        ("somewhere", "--set", "seed=1"),
        ("rows.jsonl", "--format", "grit", "--sample", "3"),
        ("kosmos2", "--tokenizer", "a.model"),
    ],
)
def test_an_option_without_effect_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(*arguments, capsys=capsys)
    assert code == 2
    assert "to check, found" in err


def test_a_source_that_is_not_there_is_an_error_and_an_unknown_format_a_wrong_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run("nowhere.jsonl", "--format", "grit", capsys=capsys)
    assert code == 1
    assert "nowhere.jsonl" in out
    assert run("nowhere.jsonl", "--format", "gritty", capsys=capsys)[0] == 2


def test_ctrl_c_prints_what_was_found_and_exits_as_shells_expect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(tmp_path / "captions", [caption_document(n) for n in range(8)])
    seen = 0

    def stop(self: object, count: int = 1, **fields: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("kosmos.logs.Progress.advance", stop)
    code, out, _ = run(str(folder), capsys=capsys)
    assert code == 130
    assert "warning: 5 of 5  pictures of a single color" in out
    assert "interrupted after 5 documents" in out
    assert out.splitlines()[-1] == "no errors, 1 warning; interrupted, not all was read"
