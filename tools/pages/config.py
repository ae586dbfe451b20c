"""config.md: every config with its fields."""

import dataclasses
import typing
from collections.abc import Iterator, Sequence

from kosmos.corpus.formats.table import FORMATS
from kosmos.generate.config import Decoding
from kosmos.recipes.quickstart import Quickstart
from kosmos.train.config import Run
from tools.docstrings import class_node, fields_of, fields_table, inline

CONFIG_ROOTS: dict[str, Sequence[type]] = {
    "A run": [Run],
    "The quickstart": [Quickstart],
    "An import": [
        config for format_ in FORMATS.values() for config in reversed(format_.config.__mro__[:-1])
    ],
    "Choosing tokens": [Decoding],
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
    for title, roots in CONFIG_ROOTS.items():
        parts.append(f"## {title}")
        for config in (config for root in roots for config in reachable(root)):
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
    own = fields_of(node)
    more = [base.__name__ for base in config.__bases__ if base is not object]
    also = "".join(f" Has the fields of [{name}](#{name.lower()}) too." for name in more)
    yield f"{inline(said)} In `{config.__module__}`.{also}"
    if own:
        yield fields_table(own, owner=config.__name__)
