"""`kosmos quickstart` in small: every stage runs, what it suggests works, a second run resumes.

Small in size only: the stages, their code and their files are those of the full command. What the
model learns is not tested here but by the full run, whose figures stand in experiments/LOG.md.
"""

import json
import shlex
from pathlib import Path

import PIL.Image
import pytest
from click.testing import CliRunner, Result

from kosmos.cli.main import cli

SMALL = (
    "world.num_scenes=120", "world.num_heldout=6", "world.num_eval=6", "num_pieces=260",
    "num_examples=4",
    "vision.train.steps=2", "vision.train.warmup_steps=1", "vision.data.heldout_sequences=4",
    "pretrain.train.steps=3", "pretrain.train.warmup_steps=1", "pretrain.data.heldout_sequences=4",
    "instruct.train.steps=2", "instruct.train.warmup_steps=1", "instruct.data.heldout_sequences=4",
)  # fmt: skip


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def quickstart(out: Path, *more: str) -> Result:
    return run("quickstart", "--out", str(out), *(f"--set={text}" for text in SMALL), *more)


STAGES = ("vision", "pretrain", "instruct")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart") / "out"


@pytest.fixture(scope="module")
def printed(out: Path) -> str:
    return quickstart(out).stdout


def test_every_stage_leaves_its_files(out: Path, printed: str) -> None:
    for stage in STAGES:
        lines = (out / stage / "metrics.jsonl").read_text().splitlines()
        kinds = [json.loads(line)["kind"] for line in lines]
        assert kinds.count("train") in (2, 3)
        assert kinds[-1] == "heldout"
    assert (out / "model" / "model.safetensors").is_file()
    page = (out / "evaluate" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "referring" in printed


def test_it_says_what_the_picture_shows(printed: str) -> None:
    (line,) = (line for line in printed.splitlines() if "picture.png shows: " in line)
    things = line.partition("shows: ")[2].split(", ")
    assert things
    assert f'--expression "the {things[0]}"' in printed


def test_the_three_commands_it_suggests_work(out: Path, printed: str) -> None:
    suggested = [line.strip() for line in printed.partition("Try next:")[2].splitlines()]
    commands = [shlex.split(line)[1:] for line in suggested if line.startswith("kosmos ")]
    assert [command[0] for command in commands] == ["ground", "ask", "refer"]
    for command in commands:
        run(*command)
    with PIL.Image.open(out / "boxes.png") as drawn:
        assert min(drawn.size) >= 64


def test_a_second_run_makes_nothing_again(out: Path, printed: str) -> None:
    assert printed
    weights = out / "instruct" / "model" / "model.safetensors"
    before = weights.read_bytes(), (out / "pretrain" / "metrics.jsonl").read_bytes()
    facts = json.loads(quickstart(out, "--json").stdout)
    assert (weights.read_bytes(), (out / "pretrain" / "metrics.jsonl").read_bytes()) == before
    assert {row["task"] for row in facts["results"]["tasks"]} >= {"captioning", "vqa", "referring"}


def test_stages_that_disagree_about_the_grid_are_refused(tmp_path: Path) -> None:
    from kosmos.errors import ConfigError

    with pytest.raises(ConfigError, match=r"vision.num_cells: expected world.num_cells=8"):
        quickstart(tmp_path / "out", "--set=world.num_cells=8")
