"""The examples of README and docs: found, run and compared; or run and written into the page.

A fenced block says in its info string what may be done with it::

    ```console run            commands after `$ `, each followed by what it prints; compared
    ```console run loose      run, must succeed; what it prints depends on a trained model
    ```python run             run; the blocks of a page share their names
    ```text output            what the block before it prints; compared, unless it is loose too
    ```jsonl file=rows.jsonl  written to that file before what follows is run

A comment before a block, ``<!-- run with: --limit 2 -->``, is added to its commands when they are
run, so that what a page shows at full size is still run. Commands are ``kosmos`` with ``<``, ``>``
and ``*``, ``torchrun ... -m kosmos``, ``cd`` and ``rm -r``. What counts as printed is stdout and
the ``error:`` and ``hint:`` lines of stderr. ``...`` stands for anything.

::

    python -m tools.examples QUICKSTART    run the pages on what `kosmos quickstart` left there
                                           and write what the examples print into them
"""

import contextlib
import glob
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kosmos.cli.main import main as kosmos

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("vision", "pretrain", "instruct", "evaluate")
"""What the quickstart leaves of its runs."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"(?:<!-- run with: (?P<extra>.*?) -->\n)?```(?P<info>[^\n]*)\n(?P<body>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page that is run, written or compared."""

    language: str
    flags: tuple[str, ...]
    body: str
    extra: str
    line: int
    """Where it begins on the page."""
    span: tuple[int, int]
    """Characters of its body on the page."""

    @property
    def is_loose(self) -> bool:
        """Whether what it shows may differ from what is printed."""
        return "loose" in self.flags

    @property
    def file(self) -> str:
        """The file it is written to; empty if it is not."""
        return next((f.removeprefix("file=") for f in self.flags if f.startswith("file=")), "")


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page that are marked, in order."""
    found = []
    for match in _FENCE.finditer(text):
        language, *flags = match["info"].split() or [""]
        if flags:
            found.append(
                Block(
                    language=language,
                    flags=tuple(flags),
                    body=match["body"],
                    extra=match["extra"] or "",
                    line=text.count("\n", 0, match.start("info")) + 1,
                    span=match.span("body"),
                )
            )
    return found


def run_page(text: str) -> Iterator[tuple[Block, str]]:
    """Run a page's blocks in the current folder.

    Yields:
        Each block whose body shows what was printed, and what that body should be: a console
        block with its commands, or the output of the Python block before it.

    Raises:
        ExampleError: If a command fails that should not, naming it.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks_of(text):
        if block.file:
            Path(block.file).write_text(block.body, encoding="utf-8")
        elif block.language == "console" and "run" in block.flags:
            yield block, _run_console(block)
        elif block.language == "python" and "run" in block.flags:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block.body, f"line {block.line}", "exec"), names)
            printed = out.getvalue()
        elif "output" in block.flags:
            yield block, printed


def agrees(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed; ``...`` in it stands for anything."""
    pattern = r".*?".join(map(re.escape, shown.split("...")))
    return re.fullmatch(pattern, printed, flags=re.DOTALL) is not None


class ExampleError(Exception):
    """An example that does not do what the page says."""


def commands_of(body: str) -> list[tuple[str, str]]:
    """The commands of a console block as they stand there, each with what it shows."""
    found: list[tuple[str, str]] = []
    goes_on = False
    for line in body.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line, ""))
        elif goes_on:
            found[-1] = (found[-1][0] + line, "")
        else:
            command, shown = found[-1]
            found[-1] = (command, shown + line)
        goes_on = found[-1][1] == "" and line.endswith("\\\n")
    return found


def _run_console(block: Block) -> str:
    parts = []
    for command, shown in commands_of(block.body):
        words = command.removeprefix("$ ").replace("\\\n", " ")
        extra = "" if words.startswith(("cd ", "rm ")) else block.extra
        code, printed = _run_command(f"{words} {extra}")
        if (code != 0) != ("error: " in shown):
            raise ExampleError(f"line {block.line}: {words.strip()}: exit code {code}\n{printed}")
        parts.append(command + printed)
    return "".join(parts)


def _run_command(line: str) -> tuple[int, str]:
    """Run a command, kosmos in this process; its exit code and what it printed."""
    words = [
        word
        for pattern in shlex.split(line, comments=True)
        for word in (sorted(glob.glob(pattern)) if "*" in pattern else [pattern])
    ]
    if words[0] == "cd":
        os.chdir(words[1])
        return 0, ""
    if words[:2] == ["rm", "-r"]:
        for folder in words[2:]:
            shutil.rmtree(folder)
        return 0, ""
    if words[0] == "torchrun":
        return _run_torchrun(words[1:])
    if words[0] != "kosmos":
        raise ExampleError(f"expected a kosmos command, found {line!r}")
    files = {}
    for sign in "<>":
        if sign in words:
            at = words.index(sign)
            files[sign] = words[at + 1]
            del words[at : at + 2]
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdin
    if "<" in files:
        data = io.BytesIO(Path(files["<"]).read_bytes())
        sys.stdin = io.TextIOWrapper(data, encoding="utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            kosmos(words[1:])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdin = before
    printed = out.getvalue()
    if ">" in files:
        Path(files[">"]).write_text(printed, encoding="utf-8")
        printed = ""
    return code, printed + _errors(err.getvalue())


def _run_torchrun(words: list[str]) -> tuple[int, str]:
    """Run torchrun on processes of one thread each, without GPUs."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ExampleError(f"torchrun {shlex.join(words)}: {done.stderr[-4000:]}")
    return 0, done.stdout + _errors(done.stderr)


def _errors(talk: str) -> str:
    lines = [line for line in talk.splitlines() if line.startswith(("error: ", "hint: "))]
    return "".join(f"{line}\n" for line in lines)


def lay_out(quickstart: Path, folder: Path) -> None:
    """Put what the pages rely on into the folder they are run in.

    Runs and indices stay behind: pages make their own.
    """

    def leave(at: str, names: list[str]) -> list[str]:
        # only there: the world has parts of such names too
        return [*STAGES] if Path(at) == quickstart else []

    shutil.copytree(quickstart, folder / "quickstart", ignore=leave)


def refresh(quickstart: Path) -> None:
    """Run every page on a finished quickstart and write what its examples print into it.

    Blocks that are run with more than the page shows are left as they are.
    """
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
            lay_out(quickstart, Path(scratch))
            new = text
            # from the end, so that earlier places stay where they are
            for block, printed in reversed(list(run_page(text))):
                keep = block.extra or agrees(block.body, printed)
                if not keep:
                    start, end = block.span
                    new = new[:start] + printed + new[end:]
        if new != text:
            page.write_text(new, encoding="utf-8")
            sys.stdout.write(f"written: {page.relative_to(ROOT)}\n")


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    refresh(Path(sys.argv[1]).resolve())
