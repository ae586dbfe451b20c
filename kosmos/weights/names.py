"""What our tensors are called elsewhere, as tables to read.

- :data:`HUGGINGFACE`: a Hugging Face Kosmos-2 folder
- :data:`CLIP_VISION`: the vision tower of a Hugging Face CLIP folder, ours relative to ``vision``
- :data:`RELEASE`: the ``model`` of a checkpoint of microsoft/unilm kosmos-2

A row renames a tensor, or a module and every tensor in it; ``*`` is the index of a layer. All
tables are one to one: shapes and values are the same on both sides, only names differ.

Source: transformers models/kosmos2 and models/clip; microsoft/unilm kosmos-2. ``pre_layrnorm`` is
misspelt in the former, and ``final_layer_norm`` in both is the norm before the feed-forward block.
"""

import re
from collections.abc import Mapping
from typing import TypeAlias

Table: TypeAlias = Mapping[str, str]

VISION_TOWER: Table = {
    "class_embedding": "embeddings.class_embedding",
    "patch_embedding": "embeddings.patch_embedding",
    "position_embedding": "embeddings.position_embedding.weight",
    "pre_norm": "pre_layrnorm",
    "layers.*.attention_norm": "encoder.layers.*.layer_norm1",
    "layers.*.attention.query": "encoder.layers.*.self_attn.q_proj",
    "layers.*.attention.key": "encoder.layers.*.self_attn.k_proj",
    "layers.*.attention.value": "encoder.layers.*.self_attn.v_proj",
    "layers.*.attention.out": "encoder.layers.*.self_attn.out_proj",
    "layers.*.ffn_norm": "encoder.layers.*.layer_norm2",
    "layers.*.ffn.fc1": "encoder.layers.*.mlp.fc1",
    "layers.*.ffn.fc2": "encoder.layers.*.mlp.fc2",
    "post_norm": "post_layernorm",
}

_DECODER: Table = {
    "embedding": "embed_tokens",
    "layers.*.attention_norm": "layers.*.self_attn_layer_norm",
    "layers.*.attention.query": "layers.*.self_attn.q_proj",
    "layers.*.attention.key": "layers.*.self_attn.k_proj",
    "layers.*.attention.value": "layers.*.self_attn.v_proj",
    "layers.*.attention.inner_norm": "layers.*.self_attn.inner_attn_ln",
    "layers.*.attention.out": "layers.*.self_attn.out_proj",
    "layers.*.ffn_norm": "layers.*.final_layer_norm",
    "layers.*.ffn.fc1": "layers.*.ffn.fc1",
    "layers.*.ffn.norm": "layers.*.ffn.ffn_layernorm",
    "layers.*.ffn.fc2": "layers.*.ffn.fc2",
    "norm": "layer_norm",
}
_CONNECTOR: Table = {
    "dense": "dense",
    "latents": "latent_query",
    "attention.query": "x_attn.q_proj",
    "attention.key": "x_attn.k_proj",
    "attention.value": "x_attn.v_proj",
    "attention.out": "x_attn.out_proj",
}


def _within(ours: str, theirs: str, table: Table) -> dict[str, str]:
    """A table of what lies in a part, for the whole model."""
    return {f"{ours}.{mine}": f"{theirs}.{other}" for mine, other in table.items()}


HUGGINGFACE: Table = {
    **_within("decoder", "text_model.model", _DECODER),
    **_within("connector", "image_to_text_projection", _CONNECTOR),
    **_within("vision", "vision_model.model", VISION_TOWER),
}

HUGGINGFACE_EMBEDDING = "text_model.model.embed_tokens.weight"
HUGGINGFACE_HEAD = "text_model.lm_head.weight"
"""The embedding a second time; present in some files, absent in most."""

CLIP_VISION: Table = {ours: f"vision_model.{theirs}" for ours, theirs in VISION_TOWER.items()}

_RESBLOCK = "transformer.resblocks.*"
RELEASE: Table = {
    **_within("decoder", "gpt_model.decoder", _DECODER),
    **_within("connector", "img_connector", _CONNECTOR),
    **_within(
        "vision",
        "img_model.visual",
        {
            "class_embedding": "class_embedding",
            "patch_embedding": "conv1",
            "position_embedding": "positional_embedding",
            "pre_norm": "ln_pre",
            "layers.*.attention_norm": f"{_RESBLOCK}.ln_1",
            "layers.*.attention.query": f"{_RESBLOCK}.ts_attn.q_proj",
            "layers.*.attention.key": f"{_RESBLOCK}.ts_attn.k_proj",
            "layers.*.attention.value": f"{_RESBLOCK}.ts_attn.v_proj",
            "layers.*.attention.out": f"{_RESBLOCK}.ts_attn.out_proj",
            "layers.*.ffn_norm": f"{_RESBLOCK}.ln_2",
            "layers.*.ffn.fc1": f"{_RESBLOCK}.mlp.c_fc",
            "layers.*.ffn.fc2": f"{_RESBLOCK}.mlp.c_proj",
            "post_norm": "ln_post",
        },
    ),
}

RELEASE_EMBEDDING = "gpt_model.decoder.embed_tokens.weight"
RELEASE_HEAD = "gpt_model.decoder.output_projection.weight"
"""The embedding a second time; saved because the release's modules share it."""

RELEASE_IGNORED = (
    r"gpt_model\.decoder\.embed_positions\._float_tensor",
    r"gpt_model\.decoder\.self_attn_sope\.scale",
)
"""Patterns of names that carry no weight: a mark of the device, and the scale of the xPos that the
release builds and never applies."""

HUGGINGFACE_IGNORED = (r"vision_model\.model\.embeddings\.position_ids",)
"""Patterns of names that carry no weight: a buffer that older versions saved."""

CLIP_IGNORED = (
    r"vision_model\.embeddings\.position_ids",
    r"text_model\..*",
    r"text_projection\.weight",
    r"visual_projection\.weight",
    r"logit_scale",
)
"""Patterns of what a CLIP folder holds beside the tower: the text side and the projections."""


def invert(table: Table) -> dict[str, str]:
    """The same table read from right to left."""
    return {theirs: ours for ours, theirs in table.items()}


def translate(name: str, table: Table) -> str | None:
    """The name a table gives, or None where no row applies.

    >>> translate("decoder.layers.7.ffn_norm.bias", HUGGINGFACE)
    'text_model.model.layers.7.final_layer_norm.bias'

    Args:
        name: A tensor's full name.
        table: :data:`HUGGINGFACE`, :data:`CLIP_VISION` or the inverse of one.
    """
    starred = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
    indices = re.findall(r"(?<=\.)(\d+)(?=\.)", name)
    # a row names the tensor itself or a module that holds it
    for row in (starred, starred.rpartition(".")[0]):
        if row in table:
            renamed = table[row] + starred[len(row) :]
            for index in indices:
                renamed = renamed.replace("*", index, 1)
            return renamed
    return None
