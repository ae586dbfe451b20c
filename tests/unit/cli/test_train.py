"""kosmos train."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kosmos.cli.main import cli
from kosmos.config import to_json
from kosmos.errors import CheckpointError, ConfigError
from kosmos.files import read_jsonl, write_json
from tests.tiny_run import make_run


def train(*arguments: str) -> str:
    return CliRunner().invoke(cli, ["train", *arguments], catch_exceptions=False).stdout


def test_a_recorded_run_is_trained_again_resumed_and_not_overwritten(tmp_path: Path) -> None:
    file, out = tmp_path / "run.json", tmp_path / "out"
    write_json(file, to_json(make_run(tmp_path)))
    assert train(str(file), "--out", str(out), "--set", "train.steps=2") == f"{out / 'model'}\n"
    with pytest.raises(CheckpointError, match="expected an empty run folder"):
        train(str(file), "--out", str(out), "--set", "train.steps=2")
    # the run folder's own record is a run too, with what was set
    assert train(str(out / "run.json"), "--out", str(out), "--resume") == f"{out / 'model'}\n"
    assert len(list(read_jsonl(out / "metrics.jsonl"))) == 3  # two steps, held-out losses
    # each start is noted, and the card can be written again
    assert [row["step"] for row in read_jsonl(out / "sessions.jsonl")] == [0, 2]  # type: ignore[index, call-overload]
    card = out / "card.md"
    assert "Finished: 2 steps" in card.read_text(encoding="utf-8")
    card.unlink()
    arguments = ["card", str(out)]
    assert CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout == f"{card}\n"
    assert card.is_file()


def test_a_recipe_without_data_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tokenizer: expected a SentencePiece model") as error:
        train("kosmos1", "--out", str(tmp_path / "out"), "--set", "train.fresh=true")
    assert error.value.hint is not None
    assert "--set tokenizer=FILE" in error.value.hint
