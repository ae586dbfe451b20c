"""kosmos plan."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kosmos.cli.main import cli
from kosmos.config import to_json
from kosmos.errors import ConfigError
from kosmos.files import write_json
from tests.tiny_run import make_run


def plan(*arguments: str) -> str:
    return CliRunner().invoke(cli, ["plan", *arguments], catch_exceptions=False).stdout


def test_the_table_sets_our_sums_beside_the_papers() -> None:
    lines = plan("kosmos1").splitlines()
    assert any(line.startswith("tokens a step") and "paper: 1,200,000" in line for line in lines)
    assert any(line.split()[:2] == ["text", "256"] and "41.7%" in line for line in lines)
    assert any(line.startswith("parameters") and "1,671,775,232" in line for line in lines)
    assert not any(line.startswith("time") for line in lines)


def test_a_rate_gives_a_time() -> None:
    assert "time" in plan("kosmos2", "--flops-per-s", "4e14")
    slow, fast = (
        json.loads(plan("kosmos2", "--json", "--flops-per-s", rate)) for rate in ("1e14", "2e14")
    )
    assert slow["time_s"] == pytest.approx(2 * fast["time_s"])


def test_json_holds_everything_and_settings_count() -> None:
    whole = json.loads(plan("kosmos1", "--json"))
    short = json.loads(plan("kosmos1", "--json", "--set", "train.steps=3000"))
    assert short["total_tokens"] == pytest.approx(whole["total_tokens"] / 100)
    assert [stream["name"] for stream in whole["streams"]] == ["text", "captions", "interleaved"]
    assert whole["memory_bytes"] < whole["processor_memory_bytes"]
    assert whole["memory"]["weights"] == 4 * whole["num_parameters"]
    assert whole["time_s"] is None


@pytest.mark.parametrize("recipe", ["microcosm", "finetune-lora"])
def test_what_a_processor_holds_is_the_sum_of_what_is_printed(recipe: str) -> None:
    lines = plan(recipe).splitlines()
    device, processor = (
        [float(number.replace(",", "")) for number in re.findall(r"([\d,.]+) MB", line)]
        for line in lines
        if line.startswith(("on a GPU", "on a processor"))
    )
    whole, *beside = processor
    assert len(beside) == 3  # the program, what was freed, the copy
    assert whole == pytest.approx(device[0] + sum(beside), abs=0.3)


def test_processes_share_the_memory() -> None:
    one, eight = (json.loads(plan("kosmos2", "--json", "--processes", n)) for n in ("1", "8"))
    assert eight["memory"]["weights"] == one["memory"]["weights"] // 8
    assert "on each of 8" in plan("kosmos2", "--processes", "8")


def test_a_setting_without_effect_is_told_beside_the_plan() -> None:
    arguments = ["plan", "kosmos1", "--json", "--set", "train.max_nonfinite=3"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    (warning,) = json.loads(result.stdout)["warnings"]
    assert warning["setting"] == "train.max_nonfinite"
    told = f"warning: train.max_nonfinite: {warning['what']}\nhint: {warning['hint']}\n"
    assert result.stderr == told


def test_a_time_is_measured_or_follows_from_a_rate_but_not_both(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_json(file, to_json(make_run(tmp_path)))
    found = json.loads(plan(str(file), "--json", "--measure"))
    parts = found["parts_s"]
    assert set(parts["streams"]) == {"text", "captions", "pages"}
    assert found["step_s"] == pytest.approx(sum(parts["streams"].values()) + parts["optimizer"])
    assert found["time_s"] == pytest.approx(6 * found["step_s"])
    lines = plan(str(file), "--measure").splitlines()
    assert any(line.startswith("time, captions") for line in lines)
    both = ["plan", str(file), "--measure", "--flops-per-s", "1e9"]
    assert CliRunner().invoke(cli, both).exit_code == 2


def test_parts_that_do_not_fit_are_told() -> None:
    with pytest.raises(ConfigError, match=r"streams.text.max_tokens: expected at most"):
        plan("kosmos1", "--set", "streams.text.max_tokens=4096")
