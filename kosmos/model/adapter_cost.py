"""What training costs where an adapter learns and not the weights.

- :func:`adapter_flops`: operations of the matrix products
- :func:`adapter_memory`: bytes, an estimate
- :func:`flops_of`, :func:`memory_of`: those, or model/cost.py's, as a run has an adapter or not

Weights that stay need no gradient of their own, but what lies above the lowest adapter passes one
on: a product forward, one back. Of attention's products both sides are activations, which need one
each. Nothing here needs torch.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from kosmos.model.config import ModelConfig
from kosmos.model.cost import (
    TrainingMemory,
    VisionTraining,
    forward_flops,
    logits_rows,
    tower_flops,
    training_flops,
    training_memory,
)
from kosmos.model.lora import LinearLayers, LoraConfig, linear_layers, target_layers


def adapter_flops(
    config: ModelConfig,
    adapter: LoraConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
    pairs: int | None = None,
) -> int:
    """Operations of one training step without recomputation; arguments as of ``training_flops``.

    Counts the whole decoder as above the lowest adapter, which leaves out that the gradient ends in
    the lowest layer.
    """
    targets = target_layers(config, adapter.targets)
    text = replace(config, vision=None, connector=None)

    def decoder(pairs: int | None) -> int:
        return forward_flops(text, tokens=tokens, batch=batch, head_tokens=loss_tokens, pairs=pairs)

    flops = 2 * decoder(pairs) + (decoder(pairs) - decoder(0))
    rows = {"decoder": batch * tokens}
    if config.vision is not None and config.connector is not None and images:
        seen = forward_flops(config, tokens=0, images=images)
        tower = images * tower_flops(config.vision)
        patches, queries = config.vision.num_patches + 1, config.connector.num_queries
        rows |= {"vision": images * patches, "connector": images * (patches + queries)}
        flops += tower * (2 if _has(targets, "vision") else 1)
        below = _has(targets, "vision") or _has(targets, "connector")
        flops += (seen - tower) * (2 if below else 1)
    # forward, the gradients of both matrices, and the gradient passed on
    return flops + sum(
        3 * 2 * rows.get(name.partition(".")[0], 0) * layers.adapter_parameters(adapter.rank)
        for name, layers in targets.items()
    )


def adapter_memory(
    config: ModelConfig,
    adapter: LoraConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
    weight_bytes: int = 4,
    activation_bytes: int = 4,
    recompute: bool = False,
) -> TrainingMemory:
    """Estimate the memory of training on one device; arguments as of ``training_memory``.

    Measured on the small presets, without dropout: 1.00 to 1.05 of what autograd kept.
    """
    targets = target_layers(config, adapter.targets)
    learning = sum(layers.adapter_parameters(adapter.rank) for layers in targets.values())
    sees = _has(targets, "vision") or _has(targets, "connector")
    whole = training_memory(
        config,
        tokens=tokens,
        batch=batch,
        images=images if sees else 0,  # else no gradient passes through them
        vision="all" if _has(targets, "vision") else "frozen",
        weight_bytes=weight_bytes,
        activation_bytes=activation_bytes,
        recompute=recompute,
    )
    rows = {"decoder": batch * tokens}
    if config.vision is not None and config.connector is not None:
        patches = config.vision.num_patches + 1
        rows["vision"] = images * patches
        rows["connector"] = images * (patches + config.connector.num_queries)
    change = sum(
        rows[part] * _kept(config, adapter, targets, part, activation_bytes, recompute=recompute)
        for part in rows
        if _has(targets, part)
    )
    return replace(
        whole,
        weights=whole.weights + weight_bytes * learning,
        gradients=weight_bytes * learning,
        optimizer=8 * learning,
        activations=whole.activations + change,
        # the head does not learn
        loss=4 * logits_rows(batch * tokens, loss_tokens) * config.decoder.vocab_size,
    )


def flops_of(
    config: ModelConfig,
    *,
    adapter: LoraConfig | None,
    vision: VisionTraining,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
    pairs: int | None = None,
) -> int:
    """Operations of one training step; ``adapter`` is what learns, or None where weights do."""
    if adapter is None:
        return training_flops(
            config,
            tokens=tokens,
            batch=batch,
            images=images,
            loss_tokens=loss_tokens,
            pairs=pairs,
            vision=vision,
        )
    return adapter_flops(
        config,
        adapter,
        tokens=tokens,
        batch=batch,
        images=images,
        loss_tokens=loss_tokens,
        pairs=pairs,
    )


def memory_of(
    config: ModelConfig,
    *,
    adapter: LoraConfig | None,
    vision: VisionTraining,
    activation_bytes: int,
    recompute: bool,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
) -> TrainingMemory:
    """Bytes of training on one device; ``adapter`` is what learns, or None where weights do.

    Weights are float32 whatever is computed in.
    """
    if adapter is None:
        return training_memory(
            config,
            tokens=tokens,
            batch=batch,
            images=images,
            loss_tokens=loss_tokens,
            vision=vision,
            activation_bytes=activation_bytes,
            recompute=recompute,
        )
    return adapter_memory(
        config,
        adapter,
        tokens=tokens,
        batch=batch,
        images=images,
        loss_tokens=loss_tokens,
        activation_bytes=activation_bytes,
        recompute=recompute,
    )


def _kept(
    config: ModelConfig,
    adapter: LoraConfig,
    targets: Mapping[str, LinearLayers],
    part: str,
    activation_bytes: int,
    *,
    recompute: bool,
) -> int:
    """Bytes that a token of a part keeps beyond what it does where the weights learn.

    A linear layer keeps what it reads for the gradient of its weight, one copy for the three that
    read the same; without an adapter it need not. An adapter keeps what it makes of it, and under
    dropout a copy and a mask of its own.
    """
    read: dict[str, list[int]] = {}
    for name, layers in linear_layers(config).items():
        if name.startswith(f"{part}."):
            shared = re.sub(r"\.(query|key|value)$", ".heads", name)
            num_layers = 1 if recompute else layers.num_layers
            read.setdefault(shared, [-num_layers * layers.inputs * activation_bytes])
            if name in targets:
                read[shared].append(num_layers * layers.inputs)
    total = 0
    for first, *sizes in read.values():
        copies = sizes if adapter.dropout > 0 else sizes[:1]
        total += first + sum(copies) * activation_bytes
        total += sum(sizes) if adapter.dropout > 0 else 0
    made = sum(1 if recompute else targets[name].num_layers for name in targets if part in name)
    return total + made * adapter.rank * activation_bytes


def _has(targets: Mapping[str, LinearLayers], part: str) -> bool:
    return any(name.startswith(f"{part}.") for name in targets)
