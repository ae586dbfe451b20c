"""Adapter folders: what LoRA learned, beside the weights it was learned on.

::

    adapter/
    ├── adapter_config.json          peft's: rank, alpha, the layers by name, where the base is
    ├── adapter_model.safetensors    base_model.model.LAYER.lora_A.weight and .lora_B.weight
    └── openkosmos.json              SHA-256 of the base's weights and tokenizer, image, layout,
                                     provenance

The first two are peft's own layout, so that ``peft.PeftModel.from_pretrained`` puts the folder on a
model of ours. Loading the folder loads its base and adds the adapter to the weights::

    W + (alpha / rank) B A

computed in float32. A base other than the one that was trained on is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from kosmos.config import from_json, to_json
from kosmos.document.layout import Layout
from kosmos.errors import CheckpointError, ConfigError, DataError
from kosmos.files import Json, atomic_folder, check_replaceable, read_json, sha256_file, write_json
from kosmos.image.config import ImageConfig
from kosmos.model.forms.int8 import is_int8
from kosmos.model.kosmos import Kosmos
from kosmos.weights.folder_config import TOKENIZER, read_config
from kosmos.weights.huggingface_config import is_huggingface
from kosmos.weights.loaded import as_path
from kosmos.weights.tensors import list_tensors, read_tensor

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_RECORD = "openkosmos.json"
FORMAT_VERSION = 1
_PREFIX = "base_model.model."
_SIDES = ("lora_A", "lora_B")
# fields of peft's config that change what its plain LoRA computes, by the value they have there
_PLAIN: dict[str, tuple[Json, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "use_qalora": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """What ``openkosmos.json`` says, but for the provenance, which is free JSON beside it."""

    format_version: int
    """Raised when older readers could not read a folder."""
    base: dict[str, str]
    """SHA-256 of each file of the base that the adapter depends on."""
    image: ImageConfig
    """Preprocessing of pictures in training."""
    layout: Layout
    """Layout of tokens in training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """What an adapter folder holds."""

    folder: Path
    """The folder."""
    base: Path
    """Folder of the model it was trained on."""
    record: AdapterRecord
    """Of which weights, and how pictures and words were laid out."""
    scale: float
    """alpha / rank."""
    matrices: dict[str, tuple[Tensor, Tensor]]
    """A (rank, inputs) and B (outputs, rank) of each layer by the layer's name."""
    provenance: Json
    """Where it comes from."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def save_adapter(
    folder: Path,
    *,
    tensors: Mapping[str, Tensor],
    fields: Mapping[str, Json],
    base: Path,
    image: ImageConfig,
    layout: Layout,
    provenance: Json,
) -> None:
    """Write an adapter folder; one that is there is replaced when the new one is complete.

    Args:
        folder: Where to.
        tensors: ``LAYER.lora_A.weight`` and ``LAYER.lora_B.weight``.
        fields: peft's config.
        base: Folder of the model it was trained on.
        image: How pictures became pixels.
        layout: How documents became tokens.
        provenance: Where it comes from.

    Raises:
        ConfigError: If something else than an adapter is in the way.
        DataError: If the disk refuses.
    """
    record = AdapterRecord(
        format_version=FORMAT_VERSION, base=base_digests(base), image=image, layout=layout
    )
    known = to_json(record)
    assert isinstance(known, dict)
    with atomic_folder(folder, check=check_adapter_folder) as scratch:
        save_file(
            {_PREFIX + name: tensor.contiguous() for name, tensor in tensors.items()},
            scratch / ADAPTER_WEIGHTS,
            metadata={"format": "pt"},
        )
        write_json(
            scratch / ADAPTER_CONFIG, {**fields, "base_model_name_or_path": str(base.resolve())}
        )
        write_json(scratch / ADAPTER_RECORD, {**known, "provenance": provenance})


def check_adapter_folder(folder: Path) -> None:
    """Fail unless a folder may be replaced: it is empty, or an adapter and no more.

    Raises:
        ConfigError: Naming what lies there.
    """
    files = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, ADAPTER_RECORD)
    check_replaceable(
        folder, "an adapter", files=files, is_result=lambda f: (f / ADAPTER_RECORD).is_file()
    )


def read_adapter(folder: str | Path) -> Adapter:
    """Read an adapter folder.

    Raises:
        CheckpointError: If a file is missing or damaged, or it is another kind of adapter than
            plain LoRA on a model of ours.
    """
    path = as_path(folder, what="an adapter")
    fields = _fields(path / ADAPTER_CONFIG)
    for name, plain in _PLAIN.items():
        if name in fields and fields[name] not in plain:
            raise CheckpointError(
                f"{path / ADAPTER_CONFIG}: {name}: expected {plain[0]!r}, found {fields[name]!r}",
                hint="plain LoRA, as kosmos train leaves it, is all that can be added to weights",
            )
    rank, alpha, base = (fields.get(n) for n in ("r", "lora_alpha", "base_model_name_or_path"))
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise CheckpointError(
            f"{path / ADAPTER_CONFIG}: expected numbers r and lora_alpha, found {rank!r}, {alpha!r}"
        )
    known: Any = _fields(path / ADAPTER_RECORD)
    provenance = known.pop("provenance", None)
    try:
        record = from_json(AdapterRecord, known, where=str(path / ADAPTER_RECORD))
    except ConfigError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    return Adapter(
        folder=path,
        base=Path(str(base)),
        record=record,
        scale=alpha / rank,
        matrices=_read_matrices(path / ADAPTER_WEIGHTS, rank),
        provenance=provenance,
    )


def check_base(adapter: Adapter, base: Path) -> None:
    """Fail unless a folder holds the weights and the tokenizer that an adapter was trained on.

    Raises:
        CheckpointError: If there is no model, or another.
    """
    if not base.is_dir():
        raise CheckpointError(
            f"{adapter.folder}: expected its base model in {base}, found nothing there",
            hint="kosmos weights merge BASE ADAPTER DST takes it from anywhere",
        )
    if base_digests(base) != adapter.record.base:
        raise CheckpointError(
            f"{base}: expected the weights that {adapter.folder} was trained on, found others",
            hint="the digests are in openkosmos.json; an adapter means nothing on another model",
        )


def base_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a model folder that its replies depend on.

    Of a folder of ours they are in its config; other folders are read.

    Raises:
        CheckpointError: If it is no model folder.
    """
    if is_adapter(folder):
        names = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, ADAPTER_RECORD)
        return {name: sha256_file(folder / name) for name in names}
    if is_huggingface(folder):
        files = {tensor.file for tensor in list_tensors(folder).values()}
        files |= {path for path in folder.glob("*.model") if path.is_file()}
        return {path.name: sha256_file(path) for path in sorted(files)}
    config, _ = read_config(folder)
    return {**config.weights.sha256, TOKENIZER: config.tokenizer.sha256}


def add_adapter(model: Kosmos, adapter: Adapter) -> None:
    """Add an adapter to the weights of a model, in place; they keep their type.

    Raises:
        CheckpointError: If the model is quantized, or lacks a layer or has it in another shape.
    """
    if is_int8(model):
        raise CheckpointError(
            f"{adapter.folder}: expected a base with floating-point weights, found int8",
            hint="merge with the folder that it was made from, and quantize the result",
        )
    parameters = dict(model.named_parameters())
    for name, (reads, writes) in adapter.matrices.items():
        weight = parameters.get(f"{name}.weight")
        shape = (len(writes), reads.shape[1])
        if weight is None or weight.shape != shape:
            found = "none" if weight is None else f"shape {tuple(weight.shape)}"
            raise CheckpointError(
                f"{adapter.folder}: expected a model with {name}.weight of shape {shape}, "
                f"found {found}"
            )
        exact = torch.promote_types(weight.dtype, torch.float32)
        change = writes.to(weight.device, exact) @ reads.to(weight.device, exact) * adapter.scale
        # a new tensor: mapped weights are the file's
        weight.data = (weight.data.to(exact) + change).to(weight.dtype)


def _fields(file: Path) -> dict[str, Json]:
    try:
        fields = read_json(file)
    except DataError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {type(fields).__name__}")
    return fields


def _read_matrices(file: Path, rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    stored = list_tensors(file)
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stored.items():
        layer, _, side = name.removesuffix(".weight").removeprefix(_PREFIX).rpartition(".")
        if side not in _SIDES or not name.startswith(_PREFIX) or len(tensor.shape) != 2:
            raise CheckpointError(
                f"{file}: expected {_PREFIX}LAYER.lora_A.weight or .lora_B.weight, found {name}"
            )
        found.setdefault(layer, {})[side] = read_tensor(tensor)
    matrices = {}
    for layer, sides in found.items():
        shapes = [tuple(sides[side].shape) if side in sides else () for side in _SIDES]
        if len(sides) != len(_SIDES) or shapes[0][0] != rank or shapes[1][1] != rank:
            raise CheckpointError(
                f"{file}: {layer}: expected two matrices of rank {rank}, found shapes {shapes}"
            )
        matrices[layer] = (sides["lora_A"], sides["lora_B"])
    if not matrices:
        raise CheckpointError(f"{file}: expected the matrices of an adapter, found none")
    return matrices
