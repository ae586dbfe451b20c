"""The model card: what a folder's config says, for people."""

import json
from typing import Any

from kosmos.files import Json
from kosmos.model.parts import CONNECTORS


def model_card(name: str, record: dict[str, Json]) -> str:
    """A README in Markdown, made of facts only.

    Args:
        name: What the folder is called.
        record: The content of ``config.json``.
    """
    facts: Any = record
    decoder, vision = facts["model"]["decoder"], facts["model"]["vision"]
    weights, tokenizer = facts["weights"], facts["tokenizer"]
    rows = [
        ("Parameters", f"{weights['num_parameters']:,} ({_types(weights)})"),
        (
            "Decoder",
            f"{decoder['num_layers']} layers, width {decoder['width']}, {decoder['num_heads']} "
            f"heads, {decoder['positions']} positions, up to {decoder['max_tokens']} tokens",
        ),
        ("Vision", _vision(vision) if vision else "none: a language-only baseline"),
    ]
    if vision:
        rows.append(("Connector", _connector(facts["model"]["connector"])))
        rows.append(("Images", f"{facts['image']['size']} px, {facts['image']['geometry']}"))
    rows.append(
        (
            "Vocabulary",
            f"{decoder['vocab_size']:,} ids: {tokenizer['num_pieces']:,} pieces, "
            + (
                f"locations on a grid of {tokenizer['num_cells']} x {tokenizer['num_cells']}"
                if tokenizer["num_cells"]
                else "no locations"
            ),
        )
    )
    rows.append(("Format", f"{facts['format']} {facts['format_version']}"))
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    example = (
        'Document([Image("photo.jpg"), Text("An image of")])'
        if vision
        else 'Document([Text("Once upon a time")])'
    )
    provenance = json.dumps(facts["provenance"], indent=2, ensure_ascii=False)
    return f"""---
library_name: openkosmos
pipeline_tag: {"image-text-to-text" if vision else "text-generation"}
---

# {name}

A KOSMOS multimodal language model in openkosmos format.

| | |
|---|---|
{table}

## Use

```python
import kosmos
from kosmos import Document, Image, Text

model = kosmos.load("{name}")
print(model.generate({example}).text)
```

## Provenance

```json
{provenance}
```
"""


def _types(weights: dict[str, Any]) -> str:
    kind = weights.get("quantization")
    return f"{kind} weights, the rest {weights['dtype']}" if kind else str(weights["dtype"])


def _vision(vision: dict[str, Any]) -> str:
    return (
        f"CLIP, {vision['num_layers']} layers, width {vision['width']}, "
        f"patches of {vision['patch_size']} px"
    )


def _connector(connector: dict[str, Any]) -> str:
    has_layers = "num_layers" not in CONNECTORS[connector["kind"]].unused
    layers = f", {connector['num_layers']} layers" if has_layers else ""
    return f"{connector['kind']}, {connector['num_queries']} queries an image{layers}"
