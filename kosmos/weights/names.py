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

HUGGINGFACE: Table = {
    "decoder.embedding": "text_model.model.embed_tokens",
    "decoder.layers.*.attention_norm": "text_model.model.layers.*.self_attn_layer_norm",
    "decoder.layers.*.attention.query": "text_model.model.layers.*.self_attn.q_proj",
    "decoder.layers.*.attention.key": "text_model.model.layers.*.self_attn.k_proj",
    "decoder.layers.*.attention.value": "text_model.model.layers.*.self_attn.v_proj",
    "decoder.layers.*.attention.inner_norm": "text_model.model.layers.*.self_attn.inner_attn_ln",
    "decoder.layers.*.attention.out": "text_model.model.layers.*.self_attn.out_proj",
    "decoder.layers.*.ffn_norm": "text_model.model.layers.*.final_layer_norm",
    "decoder.layers.*.ffn.fc1": "text_model.model.layers.*.ffn.fc1",
    "decoder.layers.*.ffn.norm": "text_model.model.layers.*.ffn.ffn_layernorm",
    "decoder.layers.*.ffn.fc2": "text_model.model.layers.*.ffn.fc2",
    "decoder.norm": "text_model.model.layer_norm",
    "connector.dense": "image_to_text_projection.dense",
    "connector.latents": "image_to_text_projection.latent_query",
    "connector.attention.query": "image_to_text_projection.x_attn.q_proj",
    "connector.attention.key": "image_to_text_projection.x_attn.k_proj",
    "connector.attention.value": "image_to_text_projection.x_attn.v_proj",
    "connector.attention.out": "image_to_text_projection.x_attn.out_proj",
    **{f"vision.{ours}": f"vision_model.model.{theirs}" for ours, theirs in VISION_TOWER.items()},
}

HUGGINGFACE_EMBEDDING = "text_model.model.embed_tokens.weight"
HUGGINGFACE_HEAD = "text_model.lm_head.weight"
"""The embedding a second time; present in some files, absent in most."""

CLIP_VISION: Table = {ours: f"vision_model.{theirs}" for ours, theirs in VISION_TOWER.items()}

RELEASE: Table = {
    "decoder.embedding": "gpt_model.decoder.embed_tokens",
    "decoder.layers.*.attention_norm": "gpt_model.decoder.layers.*.self_attn_layer_norm",
    "decoder.layers.*.attention.query": "gpt_model.decoder.layers.*.self_attn.q_proj",
    "decoder.layers.*.attention.key": "gpt_model.decoder.layers.*.self_attn.k_proj",
    "decoder.layers.*.attention.value": "gpt_model.decoder.layers.*.self_attn.v_proj",
    "decoder.layers.*.attention.inner_norm": "gpt_model.decoder.layers.*.self_attn.inner_attn_ln",
    "decoder.layers.*.attention.out": "gpt_model.decoder.layers.*.self_attn.out_proj",
    "decoder.layers.*.ffn_norm": "gpt_model.decoder.layers.*.final_layer_norm",
    "decoder.layers.*.ffn.fc1": "gpt_model.decoder.layers.*.ffn.fc1",
    "decoder.layers.*.ffn.norm": "gpt_model.decoder.layers.*.ffn.ffn_layernorm",
    "decoder.layers.*.ffn.fc2": "gpt_model.decoder.layers.*.ffn.fc2",
    "decoder.norm": "gpt_model.decoder.layer_norm",
    "connector.dense": "img_connector.dense",
    "connector.latents": "img_connector.latent_query",
    "connector.attention.query": "img_connector.x_attn.q_proj",
    "connector.attention.key": "img_connector.x_attn.k_proj",
    "connector.attention.value": "img_connector.x_attn.v_proj",
    "connector.attention.out": "img_connector.x_attn.out_proj",
    "vision.class_embedding": "img_model.visual.class_embedding",
    "vision.patch_embedding": "img_model.visual.conv1",
    "vision.position_embedding": "img_model.visual.positional_embedding",
    "vision.pre_norm": "img_model.visual.ln_pre",
    "vision.layers.*.attention_norm": "img_model.visual.transformer.resblocks.*.ln_1",
    "vision.layers.*.attention.query": "img_model.visual.transformer.resblocks.*.ts_attn.q_proj",
    "vision.layers.*.attention.key": "img_model.visual.transformer.resblocks.*.ts_attn.k_proj",
    "vision.layers.*.attention.value": "img_model.visual.transformer.resblocks.*.ts_attn.v_proj",
    "vision.layers.*.attention.out": "img_model.visual.transformer.resblocks.*.ts_attn.out_proj",
    "vision.layers.*.ffn_norm": "img_model.visual.transformer.resblocks.*.ln_2",
    "vision.layers.*.ffn.fc1": "img_model.visual.transformer.resblocks.*.mlp.c_fc",
    "vision.layers.*.ffn.fc2": "img_model.visual.transformer.resblocks.*.mlp.c_proj",
    "vision.post_norm": "img_model.visual.ln_post",
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
