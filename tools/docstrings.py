"""What sources say of themselves, as Markdown: docstrings, fields, signatures.

- :func:`module_docstring`, :func:`class_node`: a source file read without importing it
- :func:`fields_of`: the fields of a dataclass with the docstring below each
- :func:`signature`: a function or method as it is written
- :func:`to_markdown`: a Google docstring as Markdown

Sources are read as text, so that a page says what the source says (``Float32[Tensor, "tokens
vocab"]``) and is the same on every version of Python and torch.
"""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

_SECTIONS = {
    "Args": "Arguments",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
}
_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_TAG = re.compile(r"</?[A-Za-z_]\w*/?>")


class Field(NamedTuple):
    """One field of a dataclass, as its source has it."""

    name: str
    type: str
    default: str
    """As it is written; empty where a value is required."""
    text: str
    """The string below it."""


@cache
def module_tree(module: str) -> ast.Module:
    """The syntax tree of a module of this project, by its dotted name."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def module_docstring(module: str) -> str:
    """The docstring of a module."""
    return ast.get_docstring(module_tree(module)) or ""


def class_node(module: str, name: str) -> ast.ClassDef:
    """A class of a module."""
    return next(
        node
        for node in module_tree(module).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )


def fields_of(node: ast.ClassDef) -> list[Field]:
    """The annotated fields of a class, in order; the text is empty where there is none."""
    found = []
    following = [*node.body[1:], None]
    for statement, after in zip(node.body, following, strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        found.append(
            Field(
                name=statement.target.id,
                type=ast.unparse(statement.annotation),
                default="" if statement.value is None else _default(statement.value),
                text=text,
            )
        )
    return found


def methods_of(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Public methods and properties of a class; overloads are left to the one they describe."""
    return [
        item
        for item in node.body
        if isinstance(item, ast.FunctionDef)
        and not item.name.startswith("_")
        and not any(_name(decorator) == "overload" for decorator in item.decorator_list)
    ]


def is_property(node: ast.FunctionDef) -> bool:
    """Whether a method is read like a field."""
    return any(_name(decorator) == "property" for decorator in node.decorator_list)


def signature(node: ast.FunctionDef, *, name: str, bound: bool) -> str:
    """A function as it is called.

    Args:
        node: The function.
        name: What to call it.
        bound: Whether its first argument is ``self`` or ``cls``, which no caller writes.
    """
    arguments = re.sub(r"(: )'(\w+)'", r"\1\2", ast.unparse(node.args))
    if bound:
        arguments = arguments.partition(", ")[2]
    returns = "" if node.returns is None else f" -> {_unquoted(node.returns)}"
    line = f"{name}({arguments}){returns}"
    if len(line) <= 88:
        return line
    inner = "".join(f"    {part},\n" for part in _split_arguments(arguments))
    return f"{name}(\n{inner}){returns}"


def to_markdown(text: str) -> str:
    """A docstring as Markdown: roles and tags as code, drawings as blocks, sections as lists."""
    blocks: list[str] = []
    paragraph: list[str] = []
    lines = text.split("\n")
    at = 0

    def close() -> None:
        if paragraph:
            blocks.append(inline("\n".join(paragraph)))
            paragraph.clear()

    while at < len(lines):
        line = lines[at].rstrip()
        at += 1
        head = line.removesuffix(":")
        if not line:
            close()
        elif line.endswith("::"):
            # Markdown has no `::`; a sentence that leads to a drawing keeps one colon
            if line != "::":
                paragraph.append(line[:-1])
            close()
            drawing, at = _indented(lines, at)
            blocks.append(f"```text\n{_ROLE.sub(_role_name, drawing)}\n```")
        elif line.startswith(">>>"):
            close()
            end = next((i for i in range(at, len(lines)) if not lines[i].strip()), len(lines))
            blocks.append("\n".join(["```python", line, *lines[at:end], "```"]))
            at = end
        elif line.endswith(":") and head in _SECTIONS:
            close()
            body, at = _indented(lines, at)
            items = _items(body, named=head in {"Args", "Raises"})
            blocks.append(f"{_SECTIONS[head]}:\n\n{items}")
        else:
            paragraph.append(line)
    close()
    return "\n\n".join(blocks)


def inline(text: str) -> str:
    """Words of a docstring as words of Markdown."""
    text = _ROLE.sub(lambda match: f"``{_role_name(match)}``", text)
    pieces = re.split(r"(``.+?``|`[^`]+`)", text, flags=re.DOTALL)
    return "".join(
        f"`{piece.strip('`')}`" if piece.startswith("`") else _TAG.sub(r"`\g<0>`", piece)
        for piece in pieces
    )


def docstring(node: ast.AST) -> str:
    """The docstring of a class or a function, which must have one."""
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    text = ast.get_docstring(node)
    assert text, f"{node.name}: no docstring"
    return text


def fields_table(fields: list[Field], *, owner: str) -> str:
    """Fields as a table; each must have its docstring."""
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        assert field.text, f"{owner}.{field.name}: a field without a docstring"
        default = f"`{cell(field.default)}`" if field.default else "required"
        rows.append(
            f"| `{field.name}` | `{cell(field.type)}` | {default} | {cell(inline(field.text))} |"
        )
    return "\n".join(rows)


def cell(text: str) -> str:
    """Text for a cell of a table, where a bar would end it."""
    return text.replace("|", "\\|")


def _unquoted(annotation: ast.expr) -> str:
    """An annotation without the quotes that a class needs to name itself."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def _role_name(match: re.Match[str]) -> str:
    return match[1].rpartition(".")[2]


def _default(node: ast.expr) -> str:
    """A default as a reader wants it: what a factory makes, not the factory."""
    text = ast.unparse(node)
    if isinstance(node, ast.Call) and _name(node.func) == "field":
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "default_factory" not in given:
            return ast.unparse(given["default"]) if "default" in given else ""
        made = given["default_factory"]
        made = made.body if isinstance(made, ast.Lambda) else made
        text = ast.unparse(made)
        return text if text.endswith(")") else f"{text}()"
    return text


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _split_arguments(arguments: str) -> list[str]:
    """Cut at the commas that stand in no bracket and no string."""
    parts, depth, quote, start = [], 0, "", 0
    for at, char in enumerate(arguments):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(arguments[start:at].strip())
            start = at + 1
    return [*parts, arguments[start:].strip()]


def _indented(lines: list[str], at: int) -> tuple[str, int]:
    """The indented block that starts at a line, its indent taken away, and the line behind it."""
    end = at
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    block = lines[at:end]
    indent = min((len(line) - len(line.lstrip()) for line in block if line.strip()), default=0)
    return "\n".join(line[indent:].rstrip() for line in block).strip("\n"), end


def _items(body: str, *, named: bool) -> str:
    """A section's lines as a list; what is indented belongs to the item above."""
    items: list[str] = []
    for line in body.split("\n"):
        if items and (line.startswith(" ") or not named):
            items[-1] += " " + line.strip()
        else:
            items.append(line.strip())
    if not named:
        return inline(" ".join(items))
    rows = []
    for item in items:
        name, _, text = item.partition(":")
        rows.append(f"- `{name}`: {inline(text.strip())}")
    return "\n".join(rows)
