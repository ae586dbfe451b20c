"""Make docs/reference and the generated parts of ARCHITECTURE.md out of the sources.

::

    python -m tools.reference            write what is out of date
    python -m tools.reference --check    say what is, and exit with 1 if anything

Everything on these pages is a docstring, a table or a signature of the code; to change a page,
change the code. A test compares the pages with what this makes.
"""

import sys
import textwrap
from pathlib import Path

from tools.docstrings import module_docstring
from tools.layers import ALLOWED, SPRING, import_table
from tools.pages.cli import cli_page
from tools.pages.config import config_page
from tools.pages.experiments import recipes_page, tasks_page
from tools.pages.formats import formats_page
from tools.pages.python import python_page

ROOT = Path(__file__).resolve().parents[1]
NOTICE = "<!-- made by python -m tools.reference; change the code, not this page -->\n\n"


def pages() -> dict[Path, str]:
    """Every generated file with its content."""
    reference = ROOT / "docs" / "reference"
    made = {
        "cli.md": cli_page(),
        "config.md": config_page(),
        "recipes.md": recipes_page(),
        "tasks.md": tasks_page(),
        "python.md": python_page(),
        "formats.md": formats_page(),
    }
    found = {reference / name: NOTICE + text.strip() + "\n" for name, text in made.items()}
    architecture = ROOT / "ARCHITECTURE.md"
    parts = {"river": river(), "import table": import_table()}
    found[architecture] = filled(architecture.read_text(encoding="utf-8"), parts)
    return found


def filled(page: str, parts: dict[str, str]) -> str:
    """A page written by hand with its generated parts, which stand between two comments."""
    for name, text in parts.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        assert begin in page, f"no place for {name}"
        assert end in page, f"no end for {name}"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{text.strip()}\n{end}{after}"
    return page


def river() -> str:
    """Folders in order: what each is, and its modules."""
    package = ROOT / "kosmos"
    lines = ["```text", "kosmos/"]
    spring = " ".join(name for name in SPRING if (package / f"{name}.py").exists())
    lines.append(f"├── {spring:<44}  the spring: everyone may import it")
    for name in ALLOWED:
        folder = package / name
        modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        folders = sorted(f"{path.parent.name}/" for path in folder.glob("*/__init__.py"))
        said = module_docstring(f"kosmos.{name}").split("\n")[0].rstrip(".")
        branch, bar = ("└──", "   ") if name == "cli" else ("├──", "│  ")
        lines.append(f"{branch} {name + '/':<12} {said}")
        lines += [
            f"{bar}              {line}"
            for line in textwrap.wrap("  ".join([*modules, *folders]), 78)
        ]
    return "\n".join([*lines, "```"])


def main() -> None:
    """Write what is out of date, or only say it."""
    made = pages()
    stale = [
        path
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    check = "--check" in sys.argv[1:]
    for path in stale:
        sys.stdout.write(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path], encoding="utf-8")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
