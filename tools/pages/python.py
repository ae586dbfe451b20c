"""python.md: every public name, with what it can do."""

import ast
from collections.abc import Iterator

import kosmos
from tools.docstrings import (
    Field,
    docstring,
    fields_of,
    fields_table,
    is_property,
    methods_of,
    module_docstring,
    module_tree,
    signature,
    to_markdown,
)

RETURNED = {
    "GroundedSpan": "kosmos.generate.reply",
    "Located": "kosmos.generate.reply",
    "Encoded": "kosmos.document.encode",
    "Markup": "kosmos.text.markup",
    "Span": "kosmos.text.markup",
    "Dropped": "kosmos.text.markup",
}
"""Types that public names return, and where they live."""


def python_page() -> str:
    """The public names in their order, then what they return and raise."""
    parts = [
        "# Python",
        "The promised names, all of `kosmos.__all__`. Everything else can be imported and is "
        "documented where it stands, but may change between versions.",
    ]
    for name in kosmos.__all__:
        parts += _entry(name, kosmos._HOME[name])
    parts += ["## What they return"]
    for name, home in RETURNED.items():
        parts += _entry(name, home, level=3)
    parts += ["## Errors", to_markdown(module_docstring("kosmos.errors"))]
    return "\n\n".join(parts)


def _entry(name: str, home: str, *, level: int = 2) -> Iterator[str]:
    node = next(item for item in module_tree(home).body if getattr(item, "name", None) == name)
    yield f"{'#' * level} {name}"
    if isinstance(node, ast.FunctionDef):
        yield f"```python\n{signature(node, name=f'kosmos.{name}', bound=False)}\n```"
        yield to_markdown(docstring(node))
        return
    assert isinstance(node, ast.ClassDef)
    fields = fields_of(node)
    if fields and not fields[0].text:
        yield f"```python\n{name}(\n{_constructor(fields)}\n)\n```"
    yield to_markdown(docstring(node))
    inherited = [ast.unparse(base) for base in node.bases if ast.unparse(base) in kosmos.__all__]
    also = f" It also has all that {inherited[0]} has." if inherited else ""
    yield f"In `{home}`.{also}"
    if name == "Run":
        yield "Its fields are listed under [Config fields](config.md#run)."
        return
    documented = [field for field in fields if field.text]
    if documented:
        yield fields_table(documented, owner=name)
    for method in methods_of(node):
        yield f"{'#' * (level + 1)} {name}.{method.name}"
        if not is_property(method):
            yield f"```python\n{signature(method, name=method.name, bound=True)}\n```"
        yield to_markdown(docstring(method))


def _constructor(fields: list[Field]) -> str:
    return "\n".join(
        f"    {field.name}: {field.type}" + (f" = {field.default}," if field.default else ",")
        for field in fields
    )
