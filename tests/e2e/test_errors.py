"""What the system, the disk or a hostile file refuses is told in our own form by every command."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kosmos.cli.main import main
from kosmos.logs import Progress

LONG = "x" * 300
INPUTS: dict[str, bytes] = {
    "caps.jsonl": b'{"text": "a"}\n',
    "deep.json": b"[" * 50_000,
    "digits.json": b'{"seed": ' + b"9" * 5000 + b"}",
    "bytes.json": b"\xff\xfe\xfd",
    "list.json": b"[1, 2]",
    "surrogate.json": rb'{"model": "\ud800"}',
    "infinite.json": b'{"train": {"clip_norm": Infinity}}',
    "nul.json": rb'{"data": {"tokenizer": "a\u0000b"}}',
}
FILES = (*INPUTS, "nothing", "folder", LONG, f"{LONG}/x", "caps.jsonl/x", "/dev/null")
READING = (
    "report FILE",
    "recipe show FILE",
    "plan FILE",
    "data check FILE",
    "data show FILE",
    "data ledger FILE --step 1",
    "data import pairs FILE out",
    "data import coco FILE out",
    "card FILE",
    "train FILE --out out",
    "train microcosm --out out --set tokenizer=FILE",
    "caption --model FILE --image caps.jsonl",
    "weights import FILE out",
    "weights export FILE out",
    "weights verify FILE FILE",
    "weights quantize FILE out",
    "evaluate --model FILE --tasks vqa --data-dir folder --out out",
)
WRITING = (
    "data import jsonl caps.jsonl PLACE",
    "tokenizer train folder --out PLACE",
    "microcosm make PLACE --num-scenes 1",
    "quickstart --out PLACE",
    "train microcosm --out PLACE",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, data in INPUTS.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that fails says on stderr; a traceback fails the test by itself."""
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    out, err = capsys.readouterr()
    assert stop.value.code in (1, 2), out + err
    assert "Traceback" not in err
    # of a check, findings are its data
    lines = [line.strip() for line in (out + err).splitlines()]
    return next(line for line in lines if line.startswith("error: "))


@pytest.mark.parametrize("file", FILES, ids=lambda name: name[:20])
@pytest.mark.parametrize("command", READING)
def test_a_file_that_cannot_be_used_is_named(
    command: str, file: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = told(command.replace("FILE", file), capsys)
    assert file[:20].partition("/")[0] in line or "expected" in line
    assert not (place / "out").exists() or not list((place / "out").rglob("*.tar"))


@pytest.mark.parametrize("name", ["caps.jsonl", "caps.jsonl/x", LONG, "/dev/null", "/proc/x"])
@pytest.mark.parametrize("command", WRITING)
def test_a_place_that_cannot_be_written_is_named(
    command: str, name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = told(command.replace("PLACE", name), capsys)
    assert "expected" in line or "could not be" in line or "is a file" in line
    assert (place / "caps.jsonl").read_bytes() == INPUTS["caps.jsonl"]


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A place where this process may not do everything."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        for name in ("unreadable", "results.json", "run.json"):
            (path / name).touch(mode=0o000)
            (path / name).chmod(0o000)
        (path / "closed").mkdir(mode=0o000)
        if user == 0:
            os.seteuid(65534)
        else:
            path.chmod(0o555)
        try:
            yield path
        finally:
            os.seteuid(user)
            path.chmod(0o755)


@pytest.mark.parametrize(
    "command",
    [
        "report PLACE",
        "report PLACE/closed",
        "card PLACE",
        "recipe show PLACE/run.json",
        "plan PLACE/run.json",
        "data check PLACE/closed",
        "data import jsonl PLACE/unreadable PLACE/out",
        "microcosm make PLACE/world --num-scenes 1",
        "microcosm make PLACE/closed --num-scenes 1",
    ],
)
def test_what_may_not_be_read_or_written_is_named(
    command: str, as_nobody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = told(command.replace("PLACE", str(as_nobody)), capsys)
    assert str(as_nobody) in line
    assert "ermission" in line


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed=" + "9" * 5000, "seed: expected int, found '9999"),
        ("train.learning_rate=" + "9" * 400, "expected float, found '9999"),
        ("model=" + "[" * 5000, "model: expected a ModelConfig or the name of one, found '[[[["),
        ("train.clip_norm=NaN", "train.clip_norm: expected a finite number, found nan"),
        ("train.clip_norm=-Infinity", "train.clip_norm: expected a finite number, found -inf"),
        ("train.clip_norm=1e999", "train.clip_norm: expected a finite number, found inf"),
        ("data.image.mean=[0.5, NaN, 0.5]", "expected a finite number, found nan"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(
    assignment: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plan", "microcosm", "--set", assignment])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


# --- stdout, stdin, signals: of a process of its own


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line in a shell, where ``kosmos`` is ours."""
    ours = f"{sys.executable} -m kosmos"
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        ["sh", "-c", command.replace("kosmos", ours)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, **environment},
        check=False,
    )


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("kosmos recipe list >/dev/full", 1, "error: stdout: could not be written: No space left"),
        ("kosmos --help >/dev/full", 1, "error: stdout: could not be written: No space left"),
        ("kosmos recipe list >&-", 1, "error: stdout: could not be written: not writable"),
        ("kosmos recipe nothing >&-", 2, "error: No such command 'nothing'"),
        ("kosmos recipe list <&- | head -n 1", 0, ""),
        ("kosmos recipe show kosmos2 2>&- | head -n 1", 0, ""),
        ("kosmos nothing 2>/dev/full", 2, ""),
    ],
)
def test_a_closed_or_full_stdout_is_told_or_borne(
    command: str, code: int, message: str, buffered: str
) -> None:
    found = run(command, PYTHONUNBUFFERED=buffered)
    assert found.returncode == code, found
    assert found.stderr.startswith(message)
    assert found.stderr.count("\n") <= 2


def test_words_that_stdout_cannot_hold_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "ž漢.txt").write_text("words\n")
    command = f"kosmos data import text {tmp_path} {tmp_path}/ž漢"
    for encoding, shown in (("latin-1", r"\u017e\u6f22"), ("utf-8", "ž漢")):
        found = run(f"{command} --force", PYTHONIOENCODING=encoding)
        assert found.returncode == 0, found.stderr
        assert shown in found.stdout
    found = run("kosmos data import text x y --set 'ž=1'", PYTHONIOENCODING="ascii")
    assert found.returncode == 2
    assert r"\u017e" in found.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_json_whatever_stdout_can_hold(encoding: str) -> None:
    command = "kosmos recipe show microcosm --set tokenizer=ž漢\U0001f600"
    found = run(command, PYTHONIOENCODING=encoding)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["data"]["tokenizer"] == "ž漢\U0001f600"


INTERRUPTED = """
import os, signal
from kosmos.cli import main
def list_recipes(as_json): os.kill(os.getpid(), signal.SIGINT)
import kosmos.cli.recipe as recipe
recipe.command.commands["list"].callback = list_recipes
main.main(["recipe", "list"])
"""


def test_an_interrupted_command_says_so_and_no_more() -> None:
    found = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (130, "\nerror: interrupted\n")


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from kosmos.cli import recipe

    for error in (KeyError("x"), ValueError("x"), RuntimeError("x")):

        def fail(error: Exception = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(recipe.command.commands["list"], "callback", fail)
        with pytest.raises(type(error)):
            main(["recipe", "list"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: Default"),
        (RecursionError("maximum depth"), "values nest too deep: maximum depth"),
        (OverflowError("int too large"), "a number is too large: int too large"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "text cannot be converted: 'utf-8'"),
        (ValueError("embedded null byte"), "a file's name holds a NUL character"),
        (ValueError("Exceeds the limit for integer string conversion"), "a number is too large"),
        (OSError(28, "No space left on device", "a/b"), "a/b: No space left on device"),
    ],
)
@pytest.mark.parametrize("flag", [(), ("--debug",)])
def test_what_may_happen_to_anybody_is_an_error_and_debug_shows_where(
    error: Exception,
    message: str,
    flag: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from kosmos.cli import recipe

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(recipe.command.commands["list"], "callback", fail)
    with pytest.raises(SystemExit) as stop:
        main(["recipe", "list", *flag])
    err = capsys.readouterr().err
    assert stop.value.code == 1
    assert f"error: {message}" in err
    assert ("Traceback" in err) == bool(flag)


@pytest.mark.parametrize(
    ("words", "is_quiet"),
    [
        (("recipe", "list"), False),
        (("--quiet", "recipe", "list"), True),
        (("recipe", "--quiet", "list"), True),
        (("recipe", "list", "--quiet"), True),
    ],
)
def test_quiet_stands_before_or_behind_a_command(
    words: tuple[str, ...],
    is_quiet: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from kosmos.cli import recipe

    def work(**_: object) -> None:
        logging.getLogger("kosmos.work").info("talk")
        logging.getLogger("kosmos.work").warning("a warning")
        with Progress("work", total=1, unit="pieces") as progress:
            progress.advance()

    monkeypatch.setattr(recipe.command.commands["list"], "callback", work)
    with pytest.raises(SystemExit, match="0"):
        main([*words])
    talk = "" if is_quiet else "talk\n"
    shown = "" if is_quiet else "work  1/1 pieces  0:00 left\n"
    assert capsys.readouterr().err == f"{talk}a warning\n{shown}"
