"""Are two model folders the same model? Tensor by tensor, and by what they compute.

Logits of a Hugging Face folder are computed by transformers itself, so that agreement says
something about the conversion and not only about our reader. A checkpoint of the release, a file,
may stand for a folder; its code is not at hand, so its logits are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kosmos.config import to_json
from kosmos.errors import CheckpointError
from kosmos.files import Json, read_json
from kosmos.model.config import ModelConfig
from kosmos.runtime import generator, require
from kosmos.weights.convert import match
from kosmos.weights.fairseq import read_release
from kosmos.weights.folder import check_files
from kosmos.weights.folder_config import read_config
from kosmos.weights.huggingface import read_stored
from kosmos.weights.huggingface_config import is_huggingface, read_model_config
from kosmos.weights.loaded import as_path, load_weights, shape_model
from kosmos.weights.names import (
    HUGGINGFACE,
    HUGGINGFACE_IGNORED,
    RELEASE,
    RELEASE_IGNORED,
    Table,
)
from kosmos.weights.tensors import StoredTensor, list_tensors, read_tensor

LOGIT_TOLERANCE = 1e-4
"""Largest difference of logits, as a fraction of the largest logit (or of 1, if that is larger).
Float32 in two orders of summation: 2e-6 on models of two layers; it grows with depth."""

ROWS = 2
WORDS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far two folders are apart."""

    ours: str
    """The first folder."""
    theirs: str
    """The second."""
    tensor_differences: dict[str, float]
    """Largest absolute difference of each tensor, by our names."""
    max_logit_difference: float
    """Over seeded random tokens and pictures."""
    max_logit: float
    """Largest absolute logit, the scale of the difference."""
    damaged: tuple[str, ...]
    """Files that are not what their folder's checksums say."""

    @property
    def max_tensor_difference(self) -> float:
        """Over all tensors."""
        return max(self.tensor_differences.values())

    @property
    def worst_tensor(self) -> str:
        """Name of the tensor that differs most."""
        return max(self.tensor_differences, key=lambda name: self.tensor_differences[name])

    @property
    def passed(self) -> bool:
        """Equal tensors, whole files, and logits as close as float32 allows."""
        limit = LOGIT_TOLERANCE * max(self.max_logit, 1.0)
        # a NaN compares false, and must not pass
        close = self.max_logit_difference <= limit
        return close and self.max_tensor_difference == 0.0 and not self.damaged


def verify(ours: str | Path, theirs: str | Path, *, seed: int = 0) -> Verification:
    """Compare two models, each a folder of ours or of Hugging Face's, or a file of the release.

    Only one model is in memory at a time. Nothing is asked of the tokenizers.

    Args:
        ours: A folder or file.
        theirs: Another.
        seed: Of the random tokens and pictures.

    Raises:
        CheckpointError: If a folder does not load or is quantized, or they are not of one shape.
        MissingExtraError: If there is a Hugging Face folder and transformers is not installed.
    """
    first, second = (_open(folder) for folder in (ours, theirs))
    shape, other = _shape(first), _shape(second)
    if shape != other:
        differing = [
            f"{name} {shape.get(name)} and {other.get(name)}"
            for name in {**shape, **other}
            if shape.get(name) != other.get(name)
        ]
        raise CheckpointError(
            f"{first.path} and {second.path}: expected models of one shape, found "
            + ", ".join(differing)
        )
    differences = _compare_tensors(first, second)
    inputs = _inputs(first.config, seed)
    logits, others = (_logits(folder, inputs) for folder in (first, second))
    return Verification(
        ours=str(ours),
        theirs=str(theirs),
        tensor_differences=differences,
        max_logit_difference=(logits - others).abs().max().item(),
        max_logit=others.abs().max().item(),
        damaged=tuple(
            problem
            for folder in (first, second)
            if folder.kind == "ours"
            for problem in check_files(folder.path)
        ),
    )


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path
    config: ModelConfig
    stored: dict[str, StoredTensor]
    kind: Literal["ours", "huggingface", "release"]
    table: Table | None = None  # None: our own names
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Inputs:
    token_ids: Int[Tensor, "batch tokens"]
    slots: Bool[Tensor, "batch tokens"]
    pixels: Float[Tensor, "images 3 height width"] | None


def _open(folder: str | Path) -> _Folder:
    if Path(folder).is_file():
        release = read_release(Path(folder))
        return _Folder(
            release.path, release.config, release.stored, "release", RELEASE, RELEASE_IGNORED
        )
    path = as_path(folder, what="a model")
    if is_huggingface(path):
        fields: Any = read_json(path / "config.json")
        config = read_model_config(fields, where=str(path / "config.json"))
        return _Folder(
            path, config, read_stored(path), "huggingface", HUGGINGFACE, HUGGINGFACE_IGNORED
        )
    config_of_ours, _ = read_config(path)
    if config_of_ours.weights.quantization is not None:
        raise CheckpointError(
            f"{path}: expected floating-point weights, found {config_of_ours.weights.quantization}",
            hint="kosmos weights quantize measures what quantized weights cost",
        )
    return _Folder(path, config_of_ours.model, list_tensors(path), "ours")


def _shape(folder: _Folder) -> dict[str, Json]:
    """What must agree for two models to take the same inputs; dropout, for one, need not."""
    decoder, connector = folder.config.decoder, folder.config.connector
    names = ("vocab_size", "width", "num_layers", "ffn_width")
    shape: dict[str, Json] = {f"decoder.{name}": getattr(decoder, name) for name in names}
    if connector is not None:
        shape["connector.num_queries"] = connector.num_queries
    vision = to_json(folder.config.vision)
    if isinstance(vision, dict):
        # how a tower's positions began is no part of what it is
        shape |= {f"vision.{n}": v for n, v in vision.items() if n != "initial_positions"}
    return shape


def _compare_tensors(first: _Folder, second: _Folder) -> dict[str, float]:
    pairs, others = _pair(first), _pair(second)
    return {
        name: _difference(first.stored[pairs[name]], second.stored[others[name]]) for name in pairs
    }


def _pair(folder: _Folder) -> Mapping[str, str]:
    model = shape_model(folder.config)
    return match(
        {name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
        {name: tensor.shape for name, tensor in folder.stored.items()},
        where=str(folder.path),
        table=folder.table,
        ignored=folder.ignored,
    )


def _difference(first: StoredTensor, second: StoredTensor) -> float:
    mine, other = read_tensor(first), read_tensor(second)
    if mine.dtype == other.dtype and torch.equal(mine, other):
        return 0.0
    return (mine.double() - other.double()).abs().max().item()


def _inputs(config: ModelConfig, seed: int) -> _Inputs:
    """Rows of random words, each after a random picture if the model sees."""
    rng = generator(seed, "verify")
    queries = config.connector.num_queries if config.connector is not None else 0
    tokens = min(queries + WORDS, config.decoder.max_tokens)
    ids = rng.integers(0, config.decoder.vocab_size, (ROWS, tokens))
    # transformers takes the padding id for padding wherever it stands
    ids[ids == config.decoder.pad_id] = 0
    slots = np.zeros((ROWS, tokens), dtype=bool)
    slots[:, 1 : 1 + queries] = True
    pixels = None
    if config.vision is not None:
        size = config.vision.image_size
        noise = rng.standard_normal((ROWS, 3, size, size), dtype=np.float32)
        pixels = torch.from_numpy(noise)
    return _Inputs(torch.from_numpy(ids), torch.from_numpy(slots), pixels)


@torch.inference_mode()
def _logits(folder: _Folder, inputs: _Inputs) -> Float[Tensor, "batch tokens vocab"]:
    if folder.kind == "huggingface":
        return _their_logits(folder.path, inputs)
    model = load_weights(
        folder.config,
        folder.stored,
        where=str(folder.path),
        table=folder.table,
        ignored=folder.ignored,
    )
    hidden = model(
        inputs.token_ids,
        image_slots=None if inputs.pixels is None else inputs.slots,
        image_embeddings=None if inputs.pixels is None else model.encode_images(inputs.pixels),
    )
    return model.logits(hidden)


def _their_logits(path: Path, inputs: _Inputs) -> Float[Tensor, "batch tokens vocab"]:
    transformers = require("transformers", extra="huggingface")
    model = transformers.Kosmos2ForConditionalGeneration.from_pretrained(
        path, dtype=torch.float32, local_files_only=True
    ).eval()
    logits: Tensor = model(
        pixel_values=inputs.pixels,
        input_ids=inputs.token_ids,
        image_embeds_position_mask=inputs.slots,
    ).logits
    return logits
