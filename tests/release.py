"""Checkpoints in the layout of the original release's, made of any model of its kind."""

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kosmos.model.config import ModelConfig, VisionConfig
from kosmos.model.kosmos import Kosmos
from kosmos.weights.convert import rename
from kosmos.weights.loaded import tensors_of
from kosmos.weights.names import RELEASE, RELEASE_EMBEDDING, RELEASE_HEAD
from tests.tiny import tiny_config, tiny_tokenizer


def release_config() -> ModelConfig:
    """Tiny, of the tokenizer's vocabulary, with heads of 64 in the tower as in every ViT-L."""
    import dataclasses

    vision = VisionConfig(
        image_size=28, patch_size=14, width=128, num_layers=2, num_heads=2, ffn_width=48
    )
    config = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size)
    return dataclasses.replace(config, vision=vision)


def release_arguments(config: ModelConfig) -> dict[str, Any]:
    """The few of fairseq's hundreds that say what the model is, and some that do not."""
    decoder, connector = config.decoder, config.connector
    return {
        "arch": "unigptmodel_xl",
        "decoder_attention_heads": decoder.num_heads,
        "decoder_embed_dim": decoder.width,
        "activation_fn": "gelu",
        "dropout": decoder.dropout,
        "attention_dropout": connector.attention_dropout,
        "flash_attention": True,
        "sope_rel_pos": True,
        "tokens_per_sample": decoder.max_tokens,
        "max_target_positions": None,
        "visual_model_name": "ViT-L-14",
        "share_decoder_input_output_embed": True,
    }


def release_tensors(model: Kosmos) -> "OrderedDict[str, torch.Tensor]":
    """The state dict of the release's module for a model: with its buffers, and the shared head."""
    tensors = OrderedDict((rename(n, RELEASE), t) for n, t in tensors_of(model).items())
    tensors[RELEASE_HEAD] = tensors[RELEASE_EMBEDDING]
    tensors["gpt_model.decoder.embed_positions._float_tensor"] = torch.zeros(1)
    tensors["gpt_model.decoder.self_attn_sope.scale"] = torch.rand(32)
    tensors._metadata = OrderedDict({"": {"version": 1}})  # as of every state_dict
    return tensors


def write_release(
    file: Path,
    model: Kosmos,
    *,
    tensors: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    **entries: Any,
) -> Path:
    """Save a checkpoint as fairseq's trainer does.

    Args:
        file: Where to.
        model: Whose weights.
        tensors: Instead of the model's.
        arguments: Instead of those of the model's config.
        entries: Beside those that are always there, or instead of one.
    """
    chosen = release_arguments(model.config) if arguments is None else arguments
    content = {
        "args": None,
        "cfg": {
            "common": {"fp16": True, "seed": 2},
            "task": {"_name": "image_gpt_interleaved_laion_obj", "quantized_size": 32},
            "model": argparse.Namespace(**chosen),
        },
        "model": release_tensors(model) if tensors is None else tensors,
        "criterion": None,
        "optimizer_history": [
            {"criterion_name": "UniGPTLoss", "lr_scheduler_state": {}, "num_updates": 60_000}
        ],
        "task_state": {},
        "extra_state": {"metrics": OrderedDict(), "previous_training_time": 1.5, "val_loss": None},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(7)}}},
        **entries,
    }
    torch.save(content, file)
    return file
