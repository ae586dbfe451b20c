"""A model folder with weights of one byte, written a matrix at a time.

Source weights are mapped, each matrix is converted, written to its place in the file and given
back. So a model need not fit into memory to be converted: the peak is its largest matrix, twice at
most, and what torch itself takes.
"""

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

import torch
from torch import Tensor, nn

from kosmos.errors import CheckpointError
from kosmos.files import Json, sha256_file
from kosmos.model.forms.int8 import is_int8, layer_names, plain_layer, quantize_rows
from kosmos.model.forms.packed import replace_child
from kosmos.model.kosmos import Kosmos
from kosmos.weights.folder import load_model, write_folder
from kosmos.weights.folder_config import WeightsRecord, check_apart, check_model_folder
from kosmos.weights.loaded import num_parameters, tensors_of
from kosmos.weights.tensors import CODES, WEIGHTS

_ALIGNMENT = 64
"""Of the first tensor in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """What a conversion came to."""

    num_parameters: int
    """Numbers in the weights."""
    bytes_before: int
    """Of all weights."""
    bytes_after: int
    """Of all weights, scales included."""
    seconds: float
    """From opening the source to the folder in its place."""


def quantize_folder(source: str | Path, target: str | Path) -> Quantized:
    """Write a model folder of ours or of Hugging Face's as one of ours with int8 weights.

    What is converted, and how, is in :mod:`kosmos.model.forms.int8`; the rest keeps its type.
    Weights go into one file, whatever their size.

    Args:
        source: The folder.
        target: Where to; a quantized folder that is there is replaced when the new one is
            complete.

    Raises:
        ConfigError: If something else is in the way, or the target is the source, or in it.
        CheckpointError: If the source is not a whole model, is quantized already or holds weights
            that are not finite.
        DataError: If the disk refuses.
    """
    check_apart(target, source)
    start = time.perf_counter()
    loaded = load_model(source, dtype="stored")
    model = loaded.model
    if is_int8(model):
        raise CheckpointError(
            f"{source}: expected floating-point weights, found int8",
            hint="quantize the folder that it was made from",
        )
    numbers = tensors_of(model)
    count, before = num_parameters(numbers), sum(tensor.nbytes for tensor in numbers.values())
    dtype = str(model.dtype).removeprefix("torch.")
    del numbers  # or every matrix would live until the end

    def write(scratch: Path) -> WeightsRecord:
        file = scratch / WEIGHTS
        _write(file, model)
        return WeightsRecord(
            dtype=dtype,
            num_parameters=count,
            sha256={file.name: sha256_file(file)},
            quantization="int8",
        )

    write_folder(
        Path(target),
        write,
        model=model.config,
        tokenizer=loaded.tokenizer,
        image=loaded.image,
        layout=loaded.layout,
        provenance=_provenance(loaded.provenance, Path(source)),
        check=functools.partial(check_model_folder, is_quantized=True),
    )
    return Quantized(
        num_parameters=count,
        bytes_before=before,
        bytes_after=(Path(target) / WEIGHTS).stat().st_size,
        seconds=time.perf_counter() - start,
    )


def _write(file: Path, model: Kosmos) -> None:
    """Write the model's weights, quantized; of the model nothing is left."""
    entries, header = _lay_out(model)
    with open(file, "w+b") as stream:
        stream.write(header)
        for name, tensor in _converted(model):
            start, stop = entries[name]
            assert tensor.nbytes == stop - start
            _put(stream, len(header) + start, tensor)


def _lay_out(model: Kosmos) -> tuple[dict[str, tuple[int, int]], bytes]:
    """Where the bytes of each tensor go, and the header of a safetensors file that says so."""
    quantized = {f"{name}.weight" for name in layer_names(model)}
    planned: dict[str, tuple[torch.dtype, list[int]]] = {}
    for name, parameter in model.named_parameters():
        shape = list(parameter.shape)
        planned[name] = (torch.int8 if name in quantized else parameter.dtype, shape)
        if name in quantized:
            planned[_scales(name)] = (torch.float32, shape[:1])
    codes = {dtype: code for code, dtype in CODES.items()}
    places: dict[str, tuple[int, int]] = {}
    fields: dict[str, Json] = {"__metadata__": {"format": "pt"}}
    end = 0
    sizes = {n: torch.Size(shape).numel() * t.itemsize for n, (t, shape) in planned.items()}
    # the format has no gaps; but if sizes with more factors of two come first, every tensor lies
    # at a multiple of what its size is one of, and so it can be mapped
    for name in sorted(planned, key=lambda name: -min(sizes[name] & -sizes[name], _ALIGNMENT)):
        dtype, shape = planned[name]
        start, end = end, end + sizes[name]
        places[name] = (start, end)
        fields[name] = {"dtype": codes[dtype], "shape": [*shape], "data_offsets": [start, end]}
    text = json.dumps(fields).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return places, len(text).to_bytes(8, "little") + text


def _converted(model: Kosmos) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the quantized model by name; layers are dropped as they are left behind."""
    for name in layer_names(model):
        layer = plain_layer(model, name)
        weight, scales = quantize_rows(layer.weight, name=f"{name}.weight")
        yield f"{name}.weight", weight
        yield _scales(f"{name}.weight"), scales
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            yield f"{name}.bias", layer.bias.detach()
        replace_child(model, name, nn.Identity())
        del layer  # or its weight would live until the next one is converted
    for name, parameter in model.named_parameters():
        yield name, parameter.detach()


def _scales(weight_name: str) -> str:
    return weight_name.removesuffix("weight") + "scales"


def _put(stream: BufferedRandom, place: int, tensor: Tensor) -> None:
    stream.seek(place)
    # numpy knows no bfloat16, but bytes are bytes
    stream.write(memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]


def _provenance(known: Json, source: Path) -> Json:
    made = {"quantized_from": source.resolve().name, "quantization": "int8"}
    return {**known, **made} if isinstance(known, dict) else {"source": known, **made}
