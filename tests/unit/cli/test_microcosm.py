import json

import pytest
from click.testing import CliRunner

from kosmos.cli.main import cli
from kosmos.errors import ConfigError

SMALL = ["--num-scenes", "20", "--set", "num_heldout=2", "--set", "num_eval=2"]


def run(*args):
    return CliRunner().invoke(cli, ["microcosm", "make", *args], catch_exceptions=False)


def test_make_prints_a_summary_as_json_and_talk_to_stderr(tmp_path):
    result = run(str(tmp_path / "world"), *SMALL, "--seed", "3", "--json")
    summary = json.loads(result.stdout)
    assert result.exit_code == 0
    assert "microcosm" in result.stderr
    assert summary["parts"]["train/captions"]["documents"] == 6
    assert summary["documents"] == sum(part["documents"] for part in summary["parts"].values())
    config = json.loads((tmp_path / "world" / "manifest.json").read_text())["config"]
    assert (config["seed"], config["num_scenes"], config["num_eval"]) == (3, 20, 2)


def test_making_it_again_keeps_it_and_another_needs_force(tmp_path):
    folder = str(tmp_path / "world")
    run(folder, *SMALL)
    assert "already there" in run(folder, *SMALL).stdout
    with pytest.raises(ConfigError, match="another"):
        run(folder, *SMALL, "--seed", "1")
    assert "already there" not in run(folder, *SMALL, "--seed", "1", "--force").stdout


def test_unknown_settings_fail_with_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match="num_scene") as error:
        run(str(tmp_path / "world"), "--set", "num_scene=3")
    assert "num_scenes" in error.value.hint
