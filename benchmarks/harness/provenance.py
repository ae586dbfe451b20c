"""Where a figure comes from: the command that made it, and the commit."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command_line(name: str, words: Sequence[str]) -> str:
    """What was typed; folders are the machine's own, so of a path only the name is kept."""
    kept = []
    given = iter(words)
    for word in given:
        if word in ("--work", "--json"):
            next(given, None)
        else:
            kept.append(Path(word).name)
    return shlex.join(["python", "-m", f"benchmarks.{name}", *kept])


def commit() -> str:
    """The commit that was measured, marked where sources differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], check=False, cwd=ROOT, capture_output=True, text=True
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    found = git("rev-parse", "--short", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--", "kosmos", "benchmarks/*.py", "benchmarks/harness")
    return f"{found} and changes" if changed else found
