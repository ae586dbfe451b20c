"""LoRA: which linear layers of a model get an adapter, and what it adds.

A linear layer of weight ``W`` computes ``W x + (alpha / rank) B A x`` instead of ``W x``, where
``A`` has ``rank`` rows, ``B`` as many columns, and both learn while ``W`` does not.

Targets are names as our modules have, without the numbers of layers: ``decoder.attention`` is all
four projections in each layer, ``decoder.attention.value`` one of them, ``connector`` all of it::

    decoder    attention.query, .key, .value, .out    ffn.fc1, .fc2
    vision     attention.query, .key, .value, .out    ffn.fc1, .fc2
    connector  dense, attention.query, .key, .value, .out; of a Perceiver also fc1, fc2, out

Source: LoRA (arXiv:2106.09685). Nothing here needs torch.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kosmos.config import check_numbers
from kosmos.errors import ConfigError
from kosmos.model.config import ModelConfig
from kosmos.model.parts import LinearLayers, parts_of

_LAYER = re.compile(r"\blayers\.\d+\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Small matrices that learn beside weights that do not."""

    rank: int = 16
    """Rows of the matrix that reads, columns of the one that writes."""
    alpha: float = 32.0
    """What they add is scaled by alpha / rank."""
    dropout: float = 0.0
    """On what they read; costs a copy of it for each of them."""
    targets: tuple[str, ...] = ("decoder.attention", "decoder.ffn")
    """Linear layers that get them, such as decoder.attention, decoder.ffn.fc1, connector, vision;
    see model/lora.py."""
    merge: bool = True
    """At the end, also leave a model folder with what was learned added to the weights; False:
    the adapter folder alone."""

    def __post_init__(self) -> None:
        check_numbers(self, "train.adapter", positive=("rank", "alpha"))
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"train.adapter.dropout: expected [0, 1), found {self.dropout}")


def target_name(module: str) -> str:
    """What a module is called as a target: ``decoder.layers.3.ffn.fc1`` is ``decoder.ffn.fc1``."""
    return _LAYER.sub("", module)


def linear_layers(config: ModelConfig) -> dict[str, LinearLayers]:
    """Every linear layer of a model that may have an adapter, by its target name."""
    return {
        f"{part}.{name}": layers
        for part, described in parts_of(config).items()
        for name, layers in described.linears.items()
    }


def target_layers(config: ModelConfig, targets: Sequence[str]) -> dict[str, LinearLayers]:
    """The layers that targets stand for.

    Raises:
        ConfigError: If a target is none, with the nearest one that is; or if there are none.
    """
    layers = linear_layers(config)
    if not targets:
        raise ConfigError(
            "train.adapter.targets: expected at least one, found none",
            hint="train.adapter=None trains the weights themselves",
        )
    chosen: set[str] = set()
    for target in targets:
        matching = {name for name in layers if name == target or name.startswith(f"{target}.")}
        if not matching:
            raise _unknown(target, list(layers))
        chosen |= matching
    return {name: layer for name, layer in layers.items() if name in chosen}


def count_adapter_parameters(config: ModelConfig, adapter: LoraConfig) -> int:
    """Numbers that learn."""
    layers = target_layers(config, adapter.targets).values()
    return sum(layer.adapter_parameters(adapter.rank) for layer in layers)


def _unknown(target: str, names: Sequence[str]) -> ConfigError:
    """Names of parts come before those of single layers: they are what is usually meant."""
    known = dict.fromkeys(
        ".".join(name.split(".")[:depth])
        for depth in (1, 2, 3)
        for name in names
        if name.count(".") >= depth - 1
    )
    # people write the end of a name, as other tools want it
    ends = [name for name in known if name.endswith(f".{target}")]
    near = ends or difflib.get_close_matches(target, known, n=1)
    return ConfigError(
        f"train.adapter.targets: expected names of linear layers, found {target!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}",
    )
