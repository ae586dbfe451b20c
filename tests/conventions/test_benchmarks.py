"""Every benchmark is in the table, and the page about them is made of what they found."""

import ast
import re
from pathlib import Path, PurePosixPath

import pytest

from benchmarks.harness.page import NAMES, PAGE, RESULTS, page

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
OTHERS = {"__init__", "all", "busy", "full_size"}


def test_page_is_what_the_results_make_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(RESULTS), "python -m benchmarks.all --page"


def test_every_file_is_in_the_table() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - OTHERS == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_is_called_as_its_file(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    (call,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "BENCHMARK"
    )
    assert isinstance(call, ast.Call)
    given = {word.arg: word.value for word in call.keywords}
    assert ast.literal_eval(given["name"]) == name
    assert "targets" in given


def test_results_name_no_place_of_the_machine_that_made_them() -> None:
    for file in RESULTS.glob("*.json"):
        words = re.split(r"[\s\"'=,:]+", file.read_text(encoding="utf-8"))
        assert [word for word in words if PurePosixPath(word).is_absolute()] == [], file
