"""kosmos.check.settings, and who tells them."""

from pathlib import Path

import pytest

from kosmos.check.run import check_ready
from kosmos.check.settings import Machine, doubts, this_processor
from kosmos.cli import training
from kosmos.config import replace
from kosmos.findings import Findings
from kosmos.model.config import ModelConfig
from kosmos.recipes.table import RECIPES
from kosmos.train.config import Run
from kosmos.train.trainer import train

PROCESSOR = Machine(is_gpu=False, memory_bytes=24 * 10**9, has_bfloat16=True)
GPU = Machine(is_gpu=True, memory_bytes=80 * 10**9, has_bfloat16=True)
CROSS = {"model.connector.kind": "cross-attention", "model.connector.width": 32}


def told(run: Run, machine: Machine | None = None) -> list[str]:
    return [doubt.where for doubt in doubts(run, machine)]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_meant_as_they_are(name: str) -> None:
    assert list(doubts(RECIPES[name](), GPU)) == []


def test_nothing_is_doubted_of_a_plain_run(run: Run) -> None:
    assert list(doubts(run, PROCESSOR)) == []


@pytest.mark.parametrize(
    ("setting", "changes", "what"),
    [
        (
            "train.vision",
            {"train.objective": "regions", "train.vision": "frozen"},
            "'frozen' has no",
        ),
        ("model.connector.num_layers", {**CROSS, "model.connector.num_layers": 3}, "3 has no"),
        ("model.connector.ffn_multiple", {**CROSS, "model.connector.ffn_multiple": 2}, "2 has no"),
        (
            "model.decoder.xpos_scale_base",
            {"model.decoder.positions": "sinusoidal", "model.decoder.xpos_scale_base": 64},
            "64 has no effect on sinusoidal",
        ),
        ("train.decay_all", {"train.weight_decay": 0.0, "train.decay_all": False}, "False leaves"),
        ("train.max_nonfinite", {"train.max_nonfinite": 3}, "3 has no effect"),
        ("data.skip_steps", {"data.skip_steps": ("2", "8-9", "11")}, "8-9, 11 has no effect"),
        ("data.micro_batch_tokens", {"data.micro_batch_tokens": 100}, "stream 'pages'"),
        ("train.heldout_every", {"train.heldout_every": 7}, "7 comes after the last step, 6"),
        (
            "train.heldout_every",
            {"streams.captions.heldout_path": ""},
            "3 has no effect: no stream",
        ),
        ("streams.text.missing_corpora", {"streams.text.missing_corpora": "drop"}, "'drop' has no"),
        ("layout.ground", {"layout.ground": False}, "False has no effect"),
        ("layout.line_tokens", {"layout.line_tokens": True}, "True has no effect"),
        (
            "num_cells",
            {"streams.captions.ground": False, "streams.pages.ground": False},
            "4 makes 16 location tokens that nothing teaches: ground=False for 'captions', 'pages'",
        ),
    ],
)
def test_a_setting_without_effect_is_told(
    run: Run, setting: str, changes: dict[str, object], what: str
) -> None:
    (doubt,) = doubts(replace(run, changes))
    assert doubt.where == setting
    assert what in doubt.what
    assert doubt.hint


def test_what_of_a_tower_learns_is_doubted_where_there_is_none(run: Run) -> None:
    blind = {"model": ModelConfig(decoder=run.model.decoder), "streams": run.data.streams[:1]}
    assert "train.vision" in told(replace(run, blind))
    assert "train.vision" not in told(replace(run, {**blind, "train.vision": "last-layer"}))


def test_locations_that_a_start_may_have_learned_are_not_doubted(run: Run) -> None:
    silent = {"streams.captions.ground": False, "streams.pages.ground": False}
    assert told(replace(run, silent)) == ["num_cells"]
    assert told(replace(run, {**silent, "train.start_from": "model"})) == []


@pytest.mark.parametrize(
    ("setting", "value", "machine", "kind_one"),
    [
        ("train.compile", True, PROCESSOR, GPU),
        (
            "train.precision",
            "bfloat16",
            Machine(is_gpu=False, memory_bytes=None, has_bfloat16=False),
            Machine(is_gpu=False, memory_bytes=None, has_bfloat16=None),
        ),
        (
            "train.recompute",
            True,
            PROCESSOR,
            Machine(is_gpu=True, memory_bytes=10**6, has_bfloat16=True),
        ),
    ],
)
def test_what_a_machine_makes_useless_is_told_on_that_machine_only(
    run: Run, setting: str, value: object, machine: Machine, kind_one: Machine
) -> None:
    changed = replace(run, {setting: value})
    assert told(changed, machine) == [setting]
    assert told(changed, kind_one) == told(changed) == []


def test_this_processor_shares_its_memory_among_processes() -> None:
    alone, one_of_four = this_processor(), this_processor(num_processes=4)
    assert not alone.is_gpu
    if alone.memory_bytes is not None:
        assert one_of_four.memory_bytes == alone.memory_bytes // 4


def test_training_warns_once_and_data_check_counts_a_warning(
    run: Run, tmp_path: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    doubted = replace(run, {"train.max_nonfinite": 3, "train.steps": 2, "train.heldout_every": 0})
    (doubt,) = doubts(doubted)
    with training.told(doubted, out=tmp_path / "out"):
        train(doubted, out=tmp_path / "out", cache_folder=cache_folder)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"{doubt.where}: {doubt.what}; hint: {doubt.hint}"]
    assert f"- `{doubt.where}`: {doubt.what}" in (tmp_path / "out" / "card.md").read_text()
    findings = Findings()
    check_ready(doubted, findings)
    assert doubt in list(findings)
