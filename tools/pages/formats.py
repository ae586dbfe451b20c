"""formats.md: every file format, as the module that defines it draws it."""

from kosmos.corpus.formats.table import FORMATS
from kosmos.data.index import ARRAYS
from tools.docstrings import (
    cell,
    class_node,
    docstring,
    fields_of,
    fields_table,
    module_docstring,
    module_tree,
    to_markdown,
)

FORMAT_MODULES = {
    "Document shards": "kosmos.document.shards",
    "Documents in shards": "kosmos.document.serialize",
    "Manifest of shards": "kosmos.document.manifest",
    "Cache of remote shards": "kosmos.document.mirror",
    "Microcosm folder": "kosmos.microcosm.dataset",
    "Import folder": "kosmos.corpus.importing",
    "Data index": "kosmos.data.index",
    "Run folder": "kosmos.train.trainer",
    "Run record and sessions": "kosmos.train.record",
    "Metrics": "kosmos.train.metrics",
    "Events": "kosmos.train.events",
    "Run card": "kosmos.card.write",
    "Checkpoints": "kosmos.train.checkpoint",
    "Model folder": "kosmos.weights.folder",
    "Adapter folder": "kosmos.weights.adapter",
    "Hugging Face model folder": "kosmos.weights.huggingface",
    "Checkpoint of the release": "kosmos.weights.fairseq",
    "Requests file": "kosmos.generate.request_file",
    "Answers file": "kosmos.generate.sinks.answers_file",
    "Results folder": "kosmos.evaluate.runner",
}
SHARED_MODULES = (
    "kosmos.corpus.formats.tsv",
    "kosmos.corpus.formats.interleaved",
    "kosmos.corpus.formats.parquet",
    "kosmos.corpus.formats.archives",
)
"""Of several readers."""
FORMAT_RECORDS = {
    "Data index": ["kosmos.data.index:IndexKey"],
    "Model folder": [
        "kosmos.weights.folder_config:FolderConfig",
        "kosmos.weights.folder_config:TokenizerRecord",
        "kosmos.weights.folder_config:WeightsRecord",
    ],
    "Adapter folder": ["kosmos.weights.adapter:AdapterRecord"],
    "Results folder": [
        "kosmos.evaluate.results:Results",
        "kosmos.evaluate.results:TaskResult",
        "kosmos.evaluate.results:Measured",
        "kosmos.evaluate.task:Prediction",
    ],
}


def formats_page() -> str:
    """Every file format, as the module that defines it draws it; and what can be imported."""
    parts = [
        "# File formats",
        "Stages of the project meet in files. Everything below appears under its name only when "
        "it is whole, and names the digests of what it was made from.",
    ]
    for title, module in FORMAT_MODULES.items():
        parts += [f"## {title}", f"In `{module}`.", to_markdown(module_docstring(module))]
        if title == "Data index":
            rows = [f"| `{name}` | {cell(said)} |" for name, said in ARRAYS.items()]
            parts.append("\n".join(["| array | what it holds |", "|---|---|", *rows]))
        for record in FORMAT_RECORDS.get(title, ()):
            home, _, name = record.partition(":")
            node = class_node(home, name)
            parts += [f"### {name}", to_markdown(docstring(node).split("\n\n")[0])]
            parts.append(fields_table(fields_of(node), owner=name))
    rows = ["| format | what it is |", "|---|---|"]
    rows += [f"| [`{name}`](#{name}) | {cell(format_.help)} |" for name, format_ in FORMATS.items()]
    parts += [
        "## What `kosmos data import` reads",
        "\n".join(rows),
    ]
    for name, format_ in FORMATS.items():
        read = format_.reader
        functions = module_tree(read.__module__).body
        function = next(n for n in functions if getattr(n, "name", "") == read.__name__)
        parts += [f"### {name}", to_markdown(docstring(function))]
        config = format_.config.__name__
        parts.append(
            f"Settings: [{config}](config.md#{config.lower()}). "
            f"Reader: `{read.__module__}.{read.__name__}`."
        )
    readers = (format_.reader.__module__ for format_ in FORMATS.values())
    for module in dict.fromkeys((*readers, *SHARED_MODULES)):
        parts += [f"### In `{module}`", to_markdown(module_docstring(module))]
    return "\n\n".join(parts)
