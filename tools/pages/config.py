"""config.md: every config with its fields."""

import dataclasses
import typing
from collections.abc import Iterator

from kosmos.corpus.formats.config import ImportConfig
from kosmos.generate.config import Decoding
from kosmos.recipes.quickstart import Quickstart
from kosmos.train.config import Run
from tools.docstrings import class_node, fields_of, fields_table, inline

CONFIG_ROOTS: dict[str, type] = {
    "A run": Run,
    "The quickstart": Quickstart,
    "An import": ImportConfig,
    "Decoding": Decoding,
}


def config_page() -> str:
    """Every config with its fields."""
    parts = [
        "# Config fields",
        "Configs are frozen dataclasses; every field can be changed with `--set name=value`, "
        "where a dotted name goes from config to config and an element of a list is addressed "
        "by its `name`: `--set train.steps=200`, `--set streams.text.path=DIR`. An unknown name "
        "fails with the nearest one, a value that does not fit with the type expected.",
    ]
    seen: set[type] = set()
    for title, root in CONFIG_ROOTS.items():
        parts.append(f"## {title}" if title != root.__name__ else "## Choosing tokens")
        for config in reachable(root):
            if config not in seen:
                seen.add(config)
                parts += _config(config)
    return "\n\n".join(parts)


def reachable(root: type) -> Iterator[type]:
    """A config and those inside it, each once, in the order of the fields."""
    seen = []

    def visit(kind: object) -> None:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if kind not in seen:
                seen.append(kind)
                for hint in typing.get_type_hints(kind).values():
                    visit(hint)
        else:
            for inner in typing.get_args(kind):
                visit(inner)

    visit(root)
    return iter(seen)


def _config(config: type) -> Iterator[str]:
    node = class_node(config.__module__, config.__name__)
    yield f"### {config.__name__}"
    said = (config.__doc__ or "").partition("\n")[0]
    yield f"{inline(said)} In `{config.__module__}`."
    yield fields_table(fields_of(node), owner=config.__name__)
