"""kosmos data show and kosmos data leak-test."""

import dataclasses
import json
from pathlib import Path

import PIL.Image
import pytest
from click.testing import CliRunner, Result

from kosmos.check.leaks.leaktest import small_model
from kosmos.cli.main import cli
from kosmos.config import replace, to_json
from kosmos.data.loader import Loader
from kosmos.document.types import Document, Text
from kosmos.errors import ConfigError, DataError
from kosmos.files import write_json
from kosmos.model import decoder
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.weights.folder import save_model
from tests.tiny_run import NUM_CELLS, make_run, write_shards


def data(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    made = replace(make_run(folder), {"model.decoder.max_tokens": 512})
    pages = dataclasses.replace(made.data.streams[2], max_tokens=300)
    return replace(made, {"streams": (*made.data.streams[:2], pages)})


@pytest.fixture(scope="module")
def file(folder: Path, run: Run) -> Path:
    write_json(folder / "run.json", to_json(run))
    return folder / "run.json"


@pytest.fixture
def shards(folder: Path, file: Path) -> list[object]:
    """A folder of shards, and how to read it."""
    assert file.is_file()
    return [
        *(folder / "captions", "--tokenizer", folder / "tokenizer.model"),
        *("--num-cells", NUM_CELLS, "--packing", "isolated", "--max-tokens", 128),
        *("--set", "layout.num_image_tokens=4", "--set", "image.size=28"),
    ]


def test_rows_of_shards_are_told_document_by_document(shards: list[object]) -> None:
    text = data("show", *shards).stdout
    assert text.startswith("captions, row 1  isolated \u00b7 ")
    assert "\n  1  caption-2  tokens 0-" in text
    assert "     \u2039<s><image>[image 1: 4 slots]</image>\u203a<grounding>" in text
    assert "     \u2039<s><image>[image 2: 4 slots]</image>\u203a<grounding>" in text
    assert "\x1b" not in text  # plain where nobody looks
    assert max(map(len, text.splitlines())) <= 100


def test_tokens_are_told_one_by_one(shards: list[object]) -> None:
    lines = data("show", *shards, "--tokens").stdout.splitlines()
    assert lines[2].split() == ["token", "position", "document", "loss", "id", "text"]
    assert lines[3].split() == ["0", "0", "1", "-", "0", "<s>"]
    assert lines[5].split() == ["2-5", "2-5", "1", "-", "[image", "1:", "4", "slots]"]
    assert lines[7].split()[3] == "1"


def test_json_has_a_row_a_line(file: Path) -> None:
    lines = data("show", file, "--stream", "pages", "--row", 0, "--row", 1, "--json").stdout
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["name"] for row in rows] == ["pages, row 0", "pages, row 1"]
    assert all(len(row["tokens"]) == row["num_positions"] + 1 for row in rows)


def test_a_step_shows_the_very_batches_that_it_trains_on(
    file: Path, run: Run, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    loader = Loader(
        run.data,
        tokenizer,
        seed=run.seed,
        cache_folder=tmp_path / "index",
    )
    arguments = ("show", file, "--step", 3, "--limit", 0, "--json", "--index", tmp_path / "index")
    rows = [json.loads(line) for line in data(*arguments).stdout.splitlines()]
    batches = loader.step(2)  # metrics and the command line count steps from 1
    assert len(rows) == sum(len(batch.token_ids) for batch in batches) == 7
    shown = iter(rows)
    for batch in batches:
        for place, ids in enumerate(batch.token_ids):
            row = next(shown)
            assert row["name"] == (
                f"step 3, micro-batch {batch.place}, {batch.stream}, row {place}"
            )
            assert row["token_ids"][:-1] == ids[: row["num_positions"]].tolist()
            assert row["learned"][1:] == batch.loss_weights[place, : row["num_positions"]].tolist()


def test_what_is_not_shown_is_counted(file: Path) -> None:
    result = data("show", file, "--step", 1, "--limit", 2)
    assert result.stdout.count("step 1, micro-batch") == 2
    assert "5 more rows; --limit 0 shows all" in result.stderr


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_a_row_is_drawn(shards: list[object], suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"row{suffix}"
    data("show", *shards, "--out", out)
    if suffix == ".png":
        with PIL.Image.open(out) as picture:
            assert min(picture.size) > 800
    else:
        text = out.read_text()
        assert text.startswith("<svg" if suffix == ".svg" else "<!doctype html>")
        assert "caption-2" in text


def test_isolated_shards_pass_the_leak_test(shards: list[object]) -> None:
    result = data("leak-test", *shards)
    assert result.exit_code == 0
    assert "ok      no document moves another: " in result.stdout
    assert "FAILED" not in result.stdout
    assert "nothing" in result.stdout


def test_a_run_is_tested_stream_by_stream_and_says_who_sees_whom(file: Path) -> None:
    lines = data("leak-test", file, "--json").stdout.splitlines()
    reports = {report["name"]: report for report in map(json.loads, lines)}
    assert list(reports) == ["text", "captions", "pages"]
    assert all(report["passed"] for report in reports.values())
    assert [report["isolated"] for report in reports.values()] == [False, False, True]
    said = {check["name"]: check for check in reports["text"]["checks"]}
    assert "by design" in said["later documents of a row see earlier ones"]["found"]


def test_a_leak_ends_the_command_with_the_pair(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decoder.causal_pattern
    monkeypatch.setattr(
        decoder, "causal_pattern", lambda *a, **kw: whole(*a, **(kw | {"segments": None}))
    )
    with pytest.raises(DataError, match=r"stream 'pages': expected document 'page-\d' not to move"):
        data("leak-test", file, "--stream", "pages")


def test_a_model_folder_is_tested(file: Path, run: Run, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    save_model(
        tmp_path / "model",
        model=small_model(run.model),
        tokenizer=tokenizer,
        image=run.data.image,
        layout=run.data.layout,
        provenance=None,
    )
    result = data("leak-test", file, "--stream", "pages", "--model", tmp_path / "model")
    assert result.exit_code == 0
    assert "FAILED" not in result.stdout
    with pytest.raises(ConfigError, match=r"vocab_size: expected"):
        arguments = ("--model", tmp_path / "model", "--set", "num_cells=5")
        data("leak-test", file, "--stream", "captions", *arguments)


def test_what_is_left_out_is_told(shards: list[object]) -> None:
    result = data("show", *shards[:-6], "--max-tokens", 34, *shards[-4:])
    assert "tokens (19.7%) left out, as ends of documents longer than a row of 34" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "nothing"], "--stream: expected one of text, captions, pages"),
        (["--row", "1000"], "--row: expected 0 to"),
        (["--row", "0", "--step", "1"], "--row: expected it without --step"),
        (["--out", "row.gif"], r"--out: expected .png, .svg or .html"),
        (["--packing", "single"], "--packing: expected it with a folder of shards"),
    ],
)
def test_what_cannot_be_shown_is_refused(file: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data("show", file, *arguments)


def test_a_model_folder_says_how_shards_are_read(run: Run, file: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    save_model(
        tmp_path / "model",
        model=small_model(run.model),
        tokenizer=tokenizer,
        image=run.data.image,
        layout=run.data.layout,
        provenance=None,
    )
    few = ("show", file.parent / "captions", "--tokenizer", tmp_path / "model", "--row", 2)
    result = data(*few)
    assert "[image 1: 4 slots]" in result.stdout  # 64 without it
    assert "not said" not in result.stderr
    ours = json.loads(data("show", file, "--stream", "captions", "--row", 2, "--json").stdout)
    assert json.loads(data(*few, "--json").stdout)["token_ids"] == ours["token_ids"]


def test_what_nobody_said_of_shards_is_told(folder: Path, file: Path) -> None:
    assert file.is_file()
    few = ("show", folder / "captions", "--tokenizer", folder / "tokenizer.model")
    told = data(*few, "--set", "image.size=28").stderr
    assert "not said, and taken for the model's: num_cells=32, layout.num_image_tokens=64" in told
    assert "image.size" not in told
    told = data(*few, "--num-cells", NUM_CELLS).stderr
    assert "num_cells" not in told


def test_what_documents_say_moves_no_cursor(folder: Path, file: Path, tmp_path: Path) -> None:
    assert file.is_file()
    evil = Document([Text("\x1b[2J a star\x07")], id="\x1b[31mred\u202e")
    shards = write_shards(tmp_path / "evil", [evil])
    few = ("show", shards, "--tokenizer", folder / "tokenizer.model")
    for more in ((), ("--tokens",), ("--json",)):
        told = data(*few, *more).stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(told)
    assert "\\x1b[31mred\\u202e" in data(*few).stdout


def test_shards_need_a_tokenizer(folder: Path, file: Path) -> None:
    assert file.is_file()
    with pytest.raises(ConfigError, match="expected --tokenizer with a folder of shards"):
        data("show", folder / "captions")
