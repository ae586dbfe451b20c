"""The river: folders stand in the order the data flows, and imports only point upstream."""

import ast
from pathlib import Path

import pytest

from tools.layers import ALLOWED, SPRING

ROOT = Path(__file__).resolve().parents[2] / "kosmos"
FILES = sorted(ROOT.rglob("*.py"))


def imported_names(path: Path) -> set[str]:
    """Dotted names of this package that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("kosmos.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upstream(path: Path) -> None:
    home = path.relative_to(ROOT).parts[0].removesuffix(".py")
    packages = {name.split(".")[1] for name in imported_names(path)}
    above = ALLOWED if home.startswith("__") else ALLOWED.get(home, ())
    allowed = {*SPRING, "__version__", *above, home}
    assert packages <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_package_init_files_hold_only_a_docstring(path: Path) -> None:
    if path.name == "__init__.py" and path.parent != ROOT:
        body = ast.parse(path.read_text()).body
        assert len(body) == 1
        assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "module docstring"
    kinds = (ast.FunctionDef, ast.ClassDef)
    bare = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and any(node in getattr(owner, "body", []) for owner in _public_owners(tree))
        and not ast.get_docstring(node)
        # an overload is a signature of the function that follows it, which has the docstring
        and not any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
    ]
    assert bare == []


def _public_owners(tree: ast.Module) -> list[ast.Module | ast.ClassDef]:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [tree, *(node for node in classes if not node.name.startswith("_"))]
