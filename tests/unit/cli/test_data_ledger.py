"""kosmos data ledger."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kosmos.cli.main import cli
from kosmos.data.loader import Loader
from kosmos.errors import ConfigError
from kosmos.files import write_json
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.record import run_record
from tests.tiny_run import make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as it is before the first step: a record and indices."""
    out = tmp_path_factory.mktemp("run")
    run = make_run(out, steps=30)
    loader = Loader(
        run.data,
        Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells),
        seed=run.seed,
        cache_folder=out / "index",
    )
    write_json(out / "run.json", run_record(run, loader))
    return out


def ledger(*arguments: str) -> list[str]:
    found = CliRunner().invoke(cli, ["data", "ledger", *arguments], catch_exceptions=False)
    return found.stdout.splitlines()


def test_a_step_is_a_table_of_its_samples(folder: Path) -> None:
    head, *lines = ledger(str(folder), "--step", "7")
    assert head.split() == [
        "step",
        "data",
        "step",
        "batch",
        "stream",
        "corpus",
        "row",
        "epoch",
        "documents",
    ]
    assert len(lines) == 7  # two rows of text, four captions, a row of pages
    assert all(line.split()[:2] == ["7", "7"] for line in lines)
    assert "caption-" in "".join(lines)


def test_json_is_an_object_for_each_sample(folder: Path) -> None:
    samples = [json.loads(line) for line in ledger(str(folder), "--steps", "2-3", "--json")]
    assert [sample["step"] for sample in samples] == [2] * 7 + [3] * 7
    assert {sample["stream"] for sample in samples} == {"text", "captions", "pages"}


def test_a_document_is_looked_up(folder: Path) -> None:
    whole = ledger(str(folder), "--document", "caption-5")[1:]
    assert [line.split()[-1] for line in whole] == ["caption-5"] * 4  # 30 steps of 4, of 30
    last = int(whole[-1].split()[0])
    assert ledger(str(folder), "--document", "caption-5", "--steps", f"{last}-30")[1:] == whole[-1:]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "expected --step, --steps or --document"),
        (("--step", "0"), "--step: expected 1 to 30"),
        (("--step", "31"), "--step: expected 1 to 30"),
        (("--steps", "9-3"), "--step: expected 1 to 30"),
        (("--steps", "some"), "--steps: expected steps such as 100-102, found 'some'"),
        (("--step", "3", "--steps", "1-2"), "expected --step or --steps, found both"),
    ],
)
def test_what_is_asked_wrongly_is_told(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ledger(str(folder), *arguments)
