"""LoRA from outside: small matrices that learn, put beside the linear layers of a model by peft.

The model's code does not change: a linear layer is replaced by one of peft's that calls it. What
peft makes is saved in its own layout (weights/adapter.py), and adding it to the weights needs no
peft.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kosmos.files import Json
from kosmos.model.kosmos import Kosmos
from kosmos.model.lora import LoraConfig, target_layers, target_name
from kosmos.runtime import generator, require
from kosmos.train.parallel import Processes, whole

_NAME = "default"
"""What peft calls the adapter; one is all we have."""

_log = logging.getLogger(__name__)


def attach(model: Kosmos, config: LoraConfig, *, seed: int) -> None:
    """Put adapters beside the targets, in place; nothing else of the model learns from then on.

    They begin as peft does by default: A uniform (Kaiming), B zero, so that the model computes what
    it did.

    Args:
        model: With the weights it starts from, not split yet.
        config: Which, and how large.
        seed: What they begin with follows from it.

    Raises:
        ConfigError: If a target is no linear layer of the model.
        MissingExtraError: If peft is not installed.
    """
    peft = require("peft", extra="finetune")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "adapter").integers(2**63)))
        peft.inject_adapter_in_model(_peft_config(peft, model, config), model, adapter_name=_NAME)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters()) - learning
    _log.info("adapter of %s numbers beside %s weights", f"{learning:,}", f"{total:,}")


def adapter_tensors(model: nn.Module, processes: Processes) -> dict[str, Tensor]:
    """The matrices in the memory of the first process, nothing in the others; every one must ask.

    Returns:
        By the names of peft's files, ``LAYER.lora_A.weight``.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if f".{_NAME}." in name:
            value = whole(parameter.detach())
            if processes.is_first:
                tensors[name.replace(f".{_NAME}.", ".")] = value.cpu()
    return tensors


def adapter_fields(model: Kosmos, config: LoraConfig) -> dict[str, Json]:
    """The config of the adapter as peft's own file has it.

    Args:
        model: Of the same shape, with or without the adapter.
        config: Of the adapter.
    """
    peft = require("peft", extra="finetune")
    fields: Mapping[str, Any] = _peft_config(peft, model, config).to_dict()
    plain: dict[str, Json] = {
        name: sorted(value) if isinstance(value, set) else value for name, value in fields.items()
    }
    # a name instead of an enumeration of names; and the folder is to be used, not trained on
    return {**plain, "peft_type": fields["peft_type"].value, "inference_mode": True}


def _peft_config(peft: Any, model: Kosmos, config: LoraConfig) -> Any:  # noqa: ANN401
    targets = target_layers(model.config, config.targets)
    names = [
        name
        for name, module in model.named_modules()
        # a layer that has an adapter already lies one level deeper
        if target_name(name) in targets and not name.endswith("base_layer")
    ]
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=names,
        bias="none",
    )
