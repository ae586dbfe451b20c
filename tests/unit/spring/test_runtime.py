import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kosmos import runtime
from kosmos.errors import MissingExtraError


def test_random_streams_depend_on_seed_and_every_key() -> None:
    draws = {
        tuple(runtime.generator(seed, *keys).integers(0, 2**60, 4))
        for seed in (0, 1)
        for keys in ((), ("a",), ("a", 1), ("a", 2), ("b", 1))
    }
    assert len(draws) == 10
    again = tuple(runtime.generator(0, "a", 1).integers(0, 2**60, 4))
    assert again in draws


def test_a_missing_package_names_the_install_line() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'openkosmos\[train\]'"):
        runtime.require("a_package_that_is_not_there", extra="train")


def test_peak_memory_is_that_of_a_python_process() -> None:
    assert 5e6 < runtime.peak_memory_bytes() < 1e12


SHOW = "import kosmos, os; print([os.environ.get(n) for n in ('GOMP_SPINCOUNT', 'KMP_BLOCKTIME')])"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["10000", "1"]),
        ({"GOMP_SPINCOUNT": "7"}, ["7", "1"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, [None, None]),
    ],
)
def test_threads_that_wait_give_way_soon_unless_the_user_says_how(
    given: dict[str, str], found: list[str | None]
) -> None:
    ours = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    result = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        env={**clean, **given},
        check=True,
    )
    assert result.stdout.strip() == str(found)


WINDOWS = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import {module}
from kosmos.cli.main import main
main({words})
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("kosmos", ["--help"]),
        ("kosmos.generate.generator", ["caption", "--help"]),
        ("kosmos.corpus.importing", ["data", "import", "--help"]),
        ("kosmos.document.mirror", ["plan", "microcosm"]),
        ("kosmos.lines", ["recipe", "list"]),
        ("kosmos.weights.folder", ["weights", "import", "--help"]),
    ],
)
def test_what_windows_lacks_is_not_needed(module: str, words: list[str]) -> None:
    code = WINDOWS.format(module=module, words=words)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


POOL = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from kosmos.runtime import end_with_parent

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=end_with_parent) as pool:
        list(pool.map(time.sleep, [0.1] * 4))
        print(*[process.pid for process in multiprocessing.active_children()], flush=True)
        time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(map(is_running, workers))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until_s = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not any(map(is_running, workers))
