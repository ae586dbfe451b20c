"""All benchmarks, each in a process of its own, and the page made of what they found.

::

    python -m benchmarks.all                                everything, as `make bench` does
    python -m benchmarks.all --only decode beam             some
    python -m benchmarks.all --size tiny --results DIR      a trial that leaves the page alone
    python -m benchmarks.all --page                         the page again, from what is there

Options it does not know go to every benchmark: ``--threads 2 --photos DIR``. What is found is kept
in ``benchmarks/results``, a file for each, and ``docs/performance.md`` is made of these.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.page import NAMES, PAGE, RESULTS, page
from kosmos.files import write_text

ROOT = Path(__file__).resolve().parents[1]


def main(words: Sequence[str] | None = None) -> int:
    """Run them and write the page.

    Returns:
        The exit code: 1 if any failed; the others have their results all the same.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where JSON files go")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    args, others = parser.parse_known_args(words)
    failed = [] if args.page else [name for name in args.only if not _run(name, args, others)]
    if args.results == RESULTS:
        write_text(PAGE, page(RESULTS))
        print(f"written: {PAGE.relative_to(ROOT)}")
    if failed:
        print(f"failed: {' '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, args: argparse.Namespace, others: Sequence[str]) -> bool:
    """One benchmark; a process of its own, so that none finds the memory of another."""
    start = time.monotonic()
    file = args.results.resolve() / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *others]
    done = subprocess.run(command, cwd=ROOT, check=False)
    print(f"{name}: {time.monotonic() - start:.0f} s\n", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
