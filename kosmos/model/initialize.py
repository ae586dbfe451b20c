"""Fresh weights by the papers' and the release's rules, a pure function of a seed.

======================================  ======================================================
parameters                              drawn from
======================================  ======================================================
every linear layer, unless below        U(+-1/sqrt(inputs)), weight and bias: PyTorch's default
decoder fc1, fc2, value, out            the same times gamma = sqrt(ln(2 layers)), biases too
decoder embedding                       N(0, width^-0.5); the padding row is zero
every norm, unless below                gain 1, bias 0
connector latents                       N(0, 1)
connector attention query, key, value   weight Xavier uniform with gain 1/sqrt(2); bias default
connector attention out                 weight Xavier uniform; bias 0
Perceiver's last norm                   gain decoder width^-0.5 if the decoder scales embeddings,
                                        so that soft tokens enter it at the scale of words
vision class and position embeddings    N(0, width^-0.5), or the positions sines and cosines of
                                        row and column: ``VisionConfig.initial_positions``
vision patch embedding                  U(+-1/sqrt(inputs)), the default of a convolution
vision query, key, value                weight N(0, width^-0.5); bias 0
vision fc1                              weight N(0, (2 width)^-0.5); bias 0
vision out, fc2                         weight N(0, (2 layers width)^-0.5); bias 0
======================================  ======================================================

MAGNETO's paper says Xavier with gain gamma; the release scales PyTorch's default instead, and with
it the biases. We follow the release. The vision rules are those by which OpenAI's CLIP initializes
its transformers; they matter only where no CLIP weights are loaded.

Source: MAGNETO (arXiv:2210.06423) section 3; torchscale ``decoder.py`` (init_scale) and unilm
kosmos-2 ``models/connector.py``; openai/CLIP ``model.py``.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kosmos.errors import ConfigError
from kosmos.model.config import ModelConfig, VisionConfig
from kosmos.model.kosmos import Kosmos
from kosmos.runtime import generator


class Draw(NamedTuple):
    """A distribution around zero, or a constant."""

    kind: Literal["uniform", "normal", "constant"]
    scale: float
    """Bound, standard deviation or value."""


def initialize(model: Kosmos, seed: int) -> None:
    """Set every parameter anew, by the table above.

    Each parameter has a generator of its own, made from the seed and its name: the values do not
    depend on device, thread count or what else the model has. Drawn in float32 and then converted.

    Args:
        model: Any model whose parameters have memory.
        seed: What the values follow from.

    Raises:
        ConfigError: If the model is on the meta device.
    """
    draws = initial_draws(model)
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ConfigError(
                f"{name}: expected a parameter with memory, found one on the meta device",
                hint="model.to_empty(device=...) first",
            )
        kind, scale = draws[name]
        values = torch.empty(parameter.shape)
        if kind == "constant":
            values.fill_(scale)
        else:
            rng = torch.Generator()
            rng.manual_seed(int(generator(seed, "initialize", name).integers(2**63)))
            if kind == "uniform":
                values.uniform_(-scale, scale, generator=rng)
            else:
                values.normal_(0.0, scale, generator=rng)
        with torch.no_grad():
            parameter.copy_(values)
    with torch.no_grad():
        model.decoder.embedding.weight[model.config.decoder.pad_id] = 0.0
        vision = model.config.vision
        if model.vision is not None and vision is not None and vision.initial_positions == "grid":
            model.vision.position_embedding.copy_(grid_positions(vision))


def grid_positions(config: VisionConfig) -> Float[Tensor, "patches width"]:
    """Sines and cosines of each patch's row and column; the class token's row is zero.

    Half the features tell the row and half the column, at wavelengths from 2 pi to 200 pi patches.
    They begin at half size, which is the size of what the patches themselves bring.

    Source: Better plain ViT baselines (arXiv:2205.01580), there fixed; here only the beginning.
    """
    side = config.image_size // config.patch_size
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    num_waves = config.width // 4
    frequencies = 100.0 ** -(torch.arange(num_waves) / num_waves)
    angles = [place.reshape(-1, 1) * frequencies for place in (row, column)]
    waves = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    positions = torch.zeros(side * side + 1, config.width)
    positions[1:, : waves.shape[1]] = 0.5 * waves
    return positions


def initial_draws(model: Kosmos) -> dict[str, Draw]:
    """What each parameter is drawn from, by its name."""
    draws: dict[str, Draw] = {}
    for name, module in model.named_modules():
        for key, _ in module.named_parameters(recurse=False):
            draws[f"{name}.{key}"] = _draw(model.config, f"{name}.{key}", module)
    return draws


def _draw(config: ModelConfig, name: str, module: nn.Module) -> Draw:
    part, *path = name.split(".")
    if part == "vision" and config.vision is not None:
        found = _vision_draw(config.vision, path)
    elif part == "connector":
        found = _connector_draw(config, path, module)
    else:
        found = _decoder_draw(config, path, module)
    return found or _default_draw(path[-1], module)


def _default_draw(key: str, module: nn.Module) -> Draw:
    """What PyTorch does."""
    if isinstance(module, nn.LayerNorm):
        return Draw("constant", 1.0 if key == "weight" else 0.0)
    assert isinstance(module, nn.Linear | nn.Conv2d)
    return Draw("uniform", module.weight[0].numel() ** -0.5)


def _decoder_draw(config: ModelConfig, path: list[str], module: nn.Module) -> Draw | None:
    if path[0] == "embedding":
        return Draw("normal", config.decoder.width**-0.5)
    if isinstance(module, nn.Linear) and path[-2] in ("fc1", "fc2", "value", "out"):
        gamma = math.sqrt(math.log(2 * config.decoder.num_layers))
        return Draw("uniform", gamma * module.in_features**-0.5)
    return None


def _connector_draw(config: ModelConfig, path: list[str], module: nn.Module) -> Draw | None:
    if path[-1] == "latents":
        return Draw("normal", 1.0)
    if path[0] == "norm" and path[-1] == "weight" and config.decoder.scale_embedding:
        return Draw("constant", config.decoder.width**-0.5)
    if "attention" in path and isinstance(module, nn.Linear):
        if path[-1] == "weight":
            gain = 1.0 if path[-2] == "out" else math.sqrt(0.5)
            return Draw("uniform", gain * math.sqrt(6 / (2 * module.in_features)))
        return Draw("constant", 0.0) if path[-2] == "out" else None
    return None


def _vision_draw(config: VisionConfig, path: list[str]) -> Draw | None:
    width = config.width
    if path[0] in ("class_embedding", "position_embedding"):
        return Draw("normal", width**-0.5)
    if path[0] == "layers" and path[-2] in ("query", "key", "value", "out", "fc1", "fc2"):
        if path[-1] == "bias":
            return Draw("constant", 0.0)
        stds = {"fc1": 2 * width, "out": 2 * config.num_layers * width}
        stds["fc2"] = stds["out"]
        return Draw("normal", stds.get(path[-2], width) ** -0.5)
    return None
