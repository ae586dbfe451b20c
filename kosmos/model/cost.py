"""What a model costs, from its config alone: parameters, operations, memory.

- :func:`parameter_table`, :func:`count_parameters`: exact, to the unit
- :func:`forward_flops`, :func:`training_flops`: floating point operations of the matrix products
- :func:`training_memory`: bytes, an estimate

Where an adapter learns, weights need no gradient of their own, but what lies above the lowest
adapter passes one on: a product forward, one back. Of attention's products both sides are
activations, which need one each. Counted is the whole decoder as above the lowest adapter, which
leaves out that the gradient ends in the lowest layer.

Operations are counted as ``torch.utils.flop_counter`` does: a multiply and an add are two, only
matrix products count, and causal attention counts whole although kernels skip half of it. Nothing
here needs torch.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kosmos.model.config import CHUNK_TOKENS, ModelConfig, VisionConfig
from kosmos.model.lora import LoraConfig, count_adapter_parameters, target_layers
from kosmos.model.parts import Part, parts_of, vision_part

VisionTraining = Literal["all", "last-layer", "frozen"]
"""What of the vision tower learns."""


def parameter_table(config: ModelConfig) -> dict[str, int]:
    """Parameters of each part; a part a model does not have is not there."""
    parts = parts_of(config)
    table = {
        f"{name}.{held}": count
        for name in ("decoder", "vision")
        if name in parts
        for held, count in parts[name].parameters.items()
    }
    if "connector" in parts:
        table["connector"] = parts["connector"].num_parameters
    return table


def count_parameters(config: ModelConfig) -> int:
    """Parameters of the whole model; the head is the embedding and counts once."""
    return sum(part.num_parameters for part in parts_of(config).values())


class _Products(NamedTuple):
    """Multiplications of a part."""

    linear: int
    """Of activations by weights."""
    attention: int
    """Of activations by each other."""


def _products(
    config: ModelConfig, *, tokens: int, pairs: int, head_tokens: int, images: int
) -> dict[str, _Products]:
    """Of each part, in a pass over so many tokens and pictures of all rows together."""
    counted = {}
    for name, part in parts_of(config).items():
        attention = images * part.num_layers * part.layer_products
        linear = images * part.products - attention
        if name == "decoder":
            attention = part.num_layers * 2 * pairs * config.decoder.width
            linear = tokens * part.products
            linear += head_tokens * config.decoder.vocab_size * config.decoder.width
        counted[name] = _Products(linear, attention)
    return counted


def forward_flops(
    config: ModelConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    past: int = 0,
    head_tokens: int | None = None,
    pairs: int | None = None,
) -> int:
    """Operations of one forward pass, images encoded and logits computed.

    Args:
        config: The model.
        tokens: New tokens of each row, image slots included.
        batch: Rows.
        images: Images encoded, in all rows together.
        past: Cached tokens before the new ones.
        head_tokens: Positions in all rows together that go through the head; None: all.
        pairs: Pairs of tokens of a row that attention compares, where that is less than every token
            with every other: the squares of the lengths of what lies in it, added up.
    """
    products = _products(
        config,
        tokens=batch * tokens,
        pairs=batch * (tokens * (past + tokens) if pairs is None else pairs),
        head_tokens=batch * tokens if head_tokens is None else head_tokens,
        images=images,
    )
    return sum(2 * (linear + attention) for linear, attention in products.values())


def training_flops(
    config: ModelConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
    pairs: int | None = None,
    vision: VisionTraining = "all",
    adapter: LoraConfig | None = None,
) -> int:
    """Operations of one training step without recomputation.

    What learns costs three forward passes; the frozen part of the vision tower costs one.

    Args:
        config: The model.
        tokens: As of :func:`forward_flops`, and so are the rest.
        batch: See there.
        images: See there.
        loss_tokens: See there, ``head_tokens``.
        pairs: See there.
        vision: What of the vision tower learns, if weights do.
        adapter: What learns; None: weights.
    """
    if adapter is None:
        flops = 3 * forward_flops(
            config, tokens=tokens, batch=batch, images=images, head_tokens=loss_tokens, pairs=pairs
        )
        frozen = _frozen(config, vision)
        return flops if frozen is None else flops - 2 * 2 * images * frozen.products
    targets = target_layers(config, adapter.targets)
    products = _products(
        config,
        tokens=batch * tokens,
        pairs=batch * (tokens**2 if pairs is None else pairs),
        head_tokens=batch * tokens if loss_tokens is None else loss_tokens,
        images=images,
    )
    passing = _passing(targets)
    flops = sum(
        2 * (2 * linear + 3 * attention if name in passing else linear + attention)
        for name, (linear, attention) in products.items()
    )
    # forward, the gradients of both matrices, and the gradient passed on
    return flops + sum(
        3 * 2 * (batch * tokens if name.startswith("decoder.") else images) * layers.rows
        * layers.adapter_parameters(adapter.rank)
        for name, layers in targets.items()
    )  # fmt: skip


class _Frozen(NamedTuple):
    """What of the vision tower does not learn."""

    parameters: int
    products: int


def _frozen(config: ModelConfig, vision: VisionTraining) -> _Frozen | None:
    if config.vision is None or vision == "all":
        return None
    part = vision_part(config.vision)
    learning, of_layer = 0, 0
    if vision == "last-layer":
        learning = part.layer_parameters
        of_layer = (part.products - part.end_products) // part.num_layers
    return _Frozen(part.num_parameters - learning, part.products - of_layer)


def _passing(targets: Collection[str]) -> set[str]:
    """Parts through which a gradient goes: those that have an adapter, or lie above one."""
    has = {name.partition(".")[0] for name in targets}
    return {"decoder"} | (has & {"vision"}) | ({"connector"} if has - {"decoder"} else set())


def tower_flops(config: VisionConfig) -> int:
    """Operations of one picture's way through the vision tower."""
    return 2 * vision_part(config).products


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes that training holds at the height of a step."""

    weights: int
    """Parameters in the precision they are kept in."""
    gradients: int
    """One for every parameter that learns, in the same precision."""
    optimizer: int
    """Adam's two moments of every parameter that learns, float32."""
    activations: int
    """What the backward pass of one micro-batch needs."""
    loss: int
    """The head's gradient, which exists from the forward pass on if the head learns, and a chunk of
    logits on the way there or a copy of that gradient on the way back."""

    @property
    def total(self) -> int:
        """All of them, as if they were there at once."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss


def training_memory(
    config: ModelConfig,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    loss_tokens: int | None = None,
    vision: VisionTraining = "all",
    adapter: LoraConfig | None = None,
    weight_bytes: int = 4,
    activation_bytes: int = 4,
    recompute: bool = False,
) -> TrainingMemory:
    """Estimate the memory of training on one device.

    Activations are those autograd keeps with fused attention kernels, and a byte per element for
    each mask of dropout. Measured on the small presets: 0.87 to 1.05 of what autograd kept, with an
    adapter 1.00 to 1.05. Allocator slack and the framework itself come on top.

    Args:
        config: The model.
        tokens: Of each row of a micro-batch, image slots included.
        batch: Rows of a micro-batch.
        images: Images of a micro-batch.
        loss_tokens: Positions of a micro-batch that go through the head; None: all.
        vision: What of the vision tower learns, if weights do.
        adapter: What learns; None: weights.
        weight_bytes: Per parameter and per gradient.
        activation_bytes: Per element; 2 in bfloat16.
        recompute: Layers keep their input alone and run again in the backward pass.
    """
    decoder, rows = config.decoder, batch * tokens
    held = count_parameters(config)
    head = decoder.vocab_size * decoder.width
    logits = min(CHUNK_TOKENS, rows if loss_tokens is None else loss_tokens) * decoder.vocab_size
    frozen = _frozen(config, vision)
    learning = held - (0 if frozen is None else frozen.parameters)
    targets: Collection[str] = ()
    passing = {"decoder", "connector", "vision"} - ({"vision"} if vision == "frozen" else set())
    if adapter is not None:
        targets = target_layers(config, adapter.targets)
        passing = _passing(targets)
        learning, vision = count_adapter_parameters(config, adapter), "all"
        held, head = held + learning, 0  # the head does not learn
    kept = (2 * decoder.num_layers + 1) * rows * decoder.width if decoder.dropout > 0 else 0
    for name, part in parts_of(config).items():
        if name not in passing:
            continue
        layers = 1 if name == "vision" and vision == "last-layer" else part.num_layers
        each = activation_bytes * part.kept(layers, recompute=recompute)
        mine = {target.removeprefix(f"{name}.") for target in targets if target.startswith(name)}
        if adapter is not None and mine:
            each += _kept_by_adapter(part, mine, adapter, activation_bytes, recompute=recompute)
        kept += (rows if name == "decoder" else images) * each
    return TrainingMemory(
        weights=weight_bytes * held,
        gradients=weight_bytes * learning,
        optimizer=8 * learning,
        activations=kept,
        loss=4 * (head + max(head, logits)),
    )


def _kept_by_adapter(
    part: Part,
    targets: Collection[str],
    adapter: LoraConfig,
    activation_bytes: int,
    *,
    recompute: bool,
) -> int:
    """Bytes that a token or picture keeps beyond what it does where the weights learn.

    A linear layer keeps what it reads for the gradient of its weight, one copy for the three that
    read the same; without an adapter it need not. An adapter keeps what it makes of it, and under
    dropout a copy and a mask of its own.
    """
    read: dict[tuple[str, int], list[int]] = {}
    total = 0
    for name, layers in part.linears.items():
        rows = layers.rows * (1 if recompute else layers.num_layers)
        shared = re.sub(r"\b(query|key|value)$", "heads", name), layers.rows
        read.setdefault(shared, [-rows * layers.inputs * activation_bytes])
        if name in targets:
            read[shared].append(rows * layers.inputs)
            total += rows * adapter.rank * activation_bytes
    for first, *sizes in read.values():
        copies = sizes if adapter.dropout > 0 else sizes[:1]
        total += first + sum(copies) * activation_bytes
        total += sum(sizes) if adapter.dropout > 0 else 0
    return total
