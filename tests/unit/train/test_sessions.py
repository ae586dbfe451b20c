"""kosmos.train.sessions."""

import sys
from pathlib import Path

import pytest
import torch

from kosmos.train.sessions import note_session, read_sessions

ARGUMENTS = ["train", "tiny", "--out", "runs/a b"]


def note(folder: Path, *, num_processes: int = 1, step: int = 0) -> list[str]:
    note_session(
        folder,
        step=step,
        index_folder=folder / "index",
        num_processes=num_processes,
        num_threads=3,
        device=None,
    )
    command: list[str] = read_sessions(folder)[-1]["command"]
    return command


def test_each_start_is_a_line_with_what_it_ran_on(tmp_path: Path) -> None:
    assert read_sessions(tmp_path) == []
    note(tmp_path)
    note(tmp_path, step=40)
    first, second = read_sessions(tmp_path)
    assert (first["step"], second["step"]) == (0, 40)
    assert (first["processes"], first["threads"], first["device"]) == (1, 3, None)
    assert first["index"] == str(tmp_path / "index")
    assert first["processor"]
    assert torch.__version__.startswith(first["versions"]["torch"])
    assert first["began"] <= second["began"]


@pytest.mark.parametrize(
    ("program", "processes", "on_each", "expected"),
    [
        ("/venv/bin/kosmos", 1, None, ["kosmos"]),
        ("/code/kosmos/__main__.py", 1, None, ["kosmos"]),
        ("mine.py", 1, None, ["mine.py"]),
        ("/code/kosmos/__main__.py", 2, "2", ["torchrun", "--nproc-per-node", "2", "-m", "kosmos"]),
        ("mine.py", 2, None, ["torchrun", "--nproc-per-node", "2", "mine.py"]),
        (
            "/venv/bin/kosmos",
            16,
            "8",
            ["torchrun", "--nnodes", "2", "--nproc-per-node", "8", "-m", "kosmos"],
        ),
    ],
)
def test_the_command_is_what_a_person_would_type(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    processes: int,
    on_each: str | None,
    expected: list[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [program, *ARGUMENTS])
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if on_each is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", on_each)
    assert note(tmp_path, num_processes=processes) == [*expected, *ARGUMENTS]
