"""The river: the folders of the package in the order the data flows, and whom each may import.

A test holds every import to this table; ARCHITECTURE.md shows it.
"""

SPRING = (
    *("errors", "config", "boxes", "files", "lines", "locks", "findings"),
    *("remote", "runtime", "logs"),
)
"""Modules that everyone may import."""

ALLOWED: dict[str, tuple[str, ...]] = {
    "text": (),
    "image": (),
    "document": ("text", "image"),
    "microcosm": ("text", "image", "document"),
    "corpus": ("text", "image", "document"),
    "data": ("text", "image", "document"),
    "model": (),
    "weights": ("text", "image", "document", "model"),
    "train": ("text", "image", "document", "data", "model", "weights"),
    "plan": ("text", "image", "document", "data", "model", "weights", "train"),
    "check": ("text", "image", "document", "corpus", "data", "model", "weights", "train", "plan"),
    "card": ("text", "image", "document", "data", "model", "train", "plan", "check"),
    "generate": ("text", "image", "document", "model", "weights"),
    "evaluate": ("text", "image", "document", "generate"),
    "recipes": ("text", "image", "document", "microcosm", "data", "model", "train"),
}
"""Beside the spring and itself."""
ALLOWED["cli"] = tuple(ALLOWED)


def import_table() -> str:
    """The table as Markdown."""
    lines = ["| package | may import |", "|---|---|"]
    for home, names in ALLOWED.items():
        lines.append(f"| `{home}` | {', '.join(f'`{name}`' for name in names) or 'nothing more'} |")
    return "\n".join(lines)
