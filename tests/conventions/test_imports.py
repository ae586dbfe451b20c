"""How much a module pulls in: what the trainer reaches, and the longest chain of imports.

Counted as a reader meets them, in the sources: imports at the top of modules, without those that
are for types alone or wait in a function.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kosmos

PACKAGE = Path(kosmos.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}

MOST_OF_TRAINER = 91
"""Modules behind kosmos.train.trainer; to come down to 75, and never to go up."""
LONGEST_CHAIN = 14
"""Modules from the first that imports to the last that is imported."""


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that run when a module is imported."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            yield from statements([*node.body, *getattr(node, "orelse", [])])


@cache
def imports(module: str) -> frozenset[str]:
    found = set()
    for node in statements(ast.parse(MODULES[module].read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found & MODULES.keys() - {module})


@cache
def reached(module: str) -> frozenset[str]:
    below = imports(module)
    return below.union(*(reached(name) for name in below))


@cache
def longest(module: str) -> tuple[str, ...]:
    return (module, *max((longest(name) for name in imports(module)), key=len, default=()))


def test_the_trainer_pulls_in_no_more_than_it_did() -> None:
    found = reached("kosmos.train.trainer")
    assert {"kosmos.train.step", "kosmos.model.attention", "kosmos.errors"} <= found
    assert len(found) <= MOST_OF_TRAINER, sorted(found)


def test_no_chain_of_imports_is_long() -> None:
    chain = max((longest(module) for module in MODULES), key=len)
    assert chain[-1] == "kosmos.errors"
    assert len(chain) <= LONGEST_CHAIN, chain


FIRST = """
import os, sys
import torch

failed = []
for module in sys.argv[1:]:
    if not (child := os.fork()):
        __import__(module)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(module)
sys.exit(", ".join(failed) or 0)
"""


def test_any_command_and_part_of_a_model_may_be_imported_first() -> None:
    modules = [name for name in MODULES if name.startswith(("kosmos.cli.", "kosmos.model."))]
    command = [sys.executable, "-c", FIRST, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
