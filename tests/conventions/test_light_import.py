"""What must start at once imports nothing heavy."""

import subprocess
import sys
import time

import kosmos


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_the_package_and_its_types_import_no_torch() -> None:
    statement = "import kosmos; from kosmos import Box, Document, Text, Run, parse_markup"
    assert "torch" not in modules_after(statement)


def test_help_imports_no_torch_and_no_command() -> None:
    loaded = modules_after(
        "from kosmos.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    )
    assert "torch" not in loaded
    assert "kosmos.cli.train" not in loaded


def test_help_answers_in_well_under_half_a_second() -> None:
    def help_time_s() -> float:
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "kosmos", "--help"], capture_output=True, check=True)
        return time.perf_counter() - began_s

    def bare_time_s() -> float:
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], capture_output=True, check=True)
        return time.perf_counter() - began_s

    # the machine may be busy: what counts is the best of a few, over an empty interpreter
    best_s = min(help_time_s() for _ in range(5))
    assert best_s - min(bare_time_s() for _ in range(3)) < 0.5


def test_every_public_name_resolves() -> None:
    for name in kosmos.__all__:
        assert getattr(kosmos, name) is not None
