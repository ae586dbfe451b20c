"""Tensors in safetensors files: what is there, taking them out, writing in shards.

- :func:`list_tensors`: names, shapes and types in a file or a folder, checked against its index
- :func:`take_tensors`: mapped, or read and converted; never holds a second copy
- :func:`read_tensors`: read into tensors that already exist
- :func:`write_tensors`: one file, or several with an index when it would be too large

The layout is Hugging Face's: ``model.safetensors``, or ``model-00001-of-00003.safetensors`` and so
on with ``model.safetensors.index.json``, so that other tools find the weights as well.
"""

import json
import mmap
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from kosmos.errors import CheckpointError, DataError
from kosmos.files import Json, read_json, write_json
from kosmos.model.forms.int8 import KERNEL_BYTES

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
CHUNK_BYTES = 8 * 2**20  # of a tensor that is converted on the way in

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""Types that weights may be loaded as."""

CODES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I8": torch.int8,
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies on disk.

    Args:
        file: The safetensors file.
        name: What the file calls it.
        dtype: Element type in the file.
        shape: Its shape.
        start: Offset of its first byte.
        num_bytes: How many bytes it takes.
    """

    file: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    num_bytes: int


def list_tensors(source: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, or of a folder that holds one or an index of several.

    Raises:
        CheckpointError: If a file is missing, truncated or not safetensors, or if the index and
            the files disagree.
    """
    if source.is_file():
        return _list_file(source)
    if (source / INDEX).is_file():
        return _list_shards(source)
    if not (source / WEIGHTS).is_file():
        pickled = sorted(source.glob("pytorch_model*.bin"))
        raise CheckpointError(
            f"{source}: expected {WEIGHTS} or {INDEX}, found "
            + (f"only {pickled[0].name}" if pickled else "neither"),
            hint="save it again with safe serialization; pickled weights run code when they load"
            if pickled
            else None,
        )
    return _list_file(source / WEIGHTS)


def _list_shards(folder: Path) -> dict[str, StoredTensor]:
    try:
        index = read_json(folder / INDEX)
    except DataError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    homes = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(homes, dict):
        raise CheckpointError(f"{folder / INDEX}: expected an object with 'weight_map'")
    tensors: dict[str, StoredTensor] = {}
    for file in sorted({str(home) for home in homes.values()}):
        if Path(file).name != file:
            raise CheckpointError(f"{folder / INDEX}: expected names of files, found {file!r}")
        found = _list_file(folder / file)
        listed = {name for name, home in homes.items() if home == file}
        if listed != set(found):
            name = min(listed ^ set(found))
            raise CheckpointError(
                f"{folder / file}: expected the {len(listed)} tensors in {INDEX}, found "
                f"{len(found)}; {name!r} is only in the {'index' if name in listed else 'file'}"
            )
        tensors.update(found)
    return tensors


def _list_file(file: Path) -> dict[str, StoredTensor]:
    if not file.is_file():
        raise CheckpointError(f"{file}: expected a safetensors file, found nothing there")
    try:
        # the library checks that the header is sound and that the file is as long as it says
        with safetensors.safe_open(file, framework="pt"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: expected a whole safetensors file, found {error}",
            hint="the file is truncated or damaged; copy or download it again",
        ) from error
    with open(file, "rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(header_bytes))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in CODES:
            raise CheckpointError(
                f"{file}: {name}: expected a type among {', '.join(CODES)}, "
                f"found {entry['dtype']!r}",
                hint="the only quantized weights are those of kosmos weights quantize",
            )
        start, stop = entry["data_offsets"]
        tensors[name] = StoredTensor(
            file=file,
            name=name,
            dtype=CODES[entry["dtype"]],
            shape=tuple(entry["shape"]),
            start=8 + header_bytes + start,
            num_bytes=stop - start,
        )
    return tensors


def take_tensors(
    stored: Mapping[str, StoredTensor], *, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Stored tensors in a type and on a device.

    In main memory and in their own type they are mapped: nothing is read until it is used, several
    processes share one copy, writing to one changes neither the file nor the others, and the pages
    of a tensor that is dropped are given back. A multiplication is as fast from mapped as from read
    memory (measured, 2 cores, 1 GB of weights). A file that is overwritten in place while it is
    mapped takes the process down; folders written by this package are replaced, which is safe.

    Args:
        stored: What to take, by any names.
        dtype: Type of the result.
        device: Device of the result.
    """
    mapped = {
        name: tensor
        for name, tensor in stored.items()
        if tensor.dtype == dtype and device.type == "cpu" and _is_mappable(tensor)
    }
    rest = {name: tensor for name, tensor in stored.items() if name not in mapped}
    read = {
        name: torch.empty(tensor.shape, dtype=dtype, device=device) for name, tensor in rest.items()
    }
    read_tensors(rest, read)
    return {**_map(mapped), **read}


def _is_mappable(stored: StoredTensor) -> bool:
    """Whether there is something to map, where the processor may read numbers of its type."""
    # int8 kernels read many numbers at once
    size = KERNEL_BYTES if stored.dtype == torch.int8 else stored.dtype.itemsize
    return stored.num_bytes > 0 and stored.start % size == 0


def _map(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in {tensor.file for tensor in stored.values()}:
        # one map a file, as each map holds a file descriptor and a system allows few; a tensor
        # keeps its window of the map alive, and the windows keep the map
        with open(file, "rb") as stream:
            whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        for name, tensor in stored.items():
            if tensor.file == file:
                window = memoryview(whole)[tensor.start : tensor.start + tensor.num_bytes]
                weakref.finalize(window, _give_back, whole, tensor).atexit = False
                flat = torch.frombuffer(window, dtype=tensor.dtype)
                tensors[name] = flat.view(tensor.shape)
    return tensors


def _give_back(whole: mmap.mmap, stored: StoredTensor) -> None:
    """Drop the pages that hold nothing but this tensor; a neighbor may share the outermost two."""
    if sys.platform == "win32":
        return  # has no such call; pages go with the map
    start = -(-stored.start // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (stored.start + stored.num_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if stop > start:
        whole.madvise(mmap.MADV_DONTNEED, start, stop - start)


def read_tensors(stored: Mapping[str, StoredTensor], targets: Mapping[str, Tensor]) -> None:
    """Read stored tensors into existing ones, changing type and device on the way.

    Where the type is the same and the target is in main memory the bytes go straight into place;
    otherwise through a buffer of 8 MiB. A memory map would count as a second copy until the
    system reclaims it.

    Args:
        stored: What to read, by the name of the target.
        targets: Contiguous tensors of the stored shapes; all are overwritten.
    """
    order = sorted(stored, key=lambda name: (stored[name].file, stored[name].start))
    files = sorted({tensor.file for tensor in stored.values()})
    for file in files:
        with open(file, "rb", buffering=0) as stream:
            for name in order:
                if stored[name].file == file:
                    stream.seek(stored[name].start)
                    _read_tensor(stream, stored[name], targets[name].detach())


def read_tensor(stored: StoredTensor) -> Tensor:
    """One stored tensor, in its own type."""
    target = torch.empty(stored.shape, dtype=stored.dtype)
    read_tensors({"": stored}, {"": target})
    return target


def _read_tensor(stream: FileIO, stored: StoredTensor, target: Tensor) -> None:
    flat = target.view(-1)
    if stored.dtype == target.dtype and target.device.type == "cpu":
        _fill(stream, stored, flat)
        return
    chunk = min(max(CHUNK_BYTES // stored.dtype.itemsize, 1), max(flat.numel(), 1))
    buffer = torch.empty(chunk, dtype=stored.dtype)
    for start in range(0, flat.numel(), chunk):
        part = buffer[: min(chunk, flat.numel() - start)]
        _fill(stream, stored, part)
        flat[start : start + part.numel()].copy_(part)


def _fill(stream: FileIO, stored: StoredTensor, flat: Tensor) -> None:
    """Fill a flat tensor in main memory from the stream's position."""
    # numpy knows no bfloat16, but bytes are bytes
    view = memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
    while view:
        count = stream.readinto(view)
        if not count:
            raise CheckpointError(
                f"{stored.file}: expected {len(view)} more bytes, found the end of the file",
                hint="the file changed while it was read; load it again",
            )
        view = view[count:]


def write_tensors(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write tensors as one safetensors file, or as shards with an index.

    Args:
        folder: Where; it must exist.
        tensors: By name. A tensor larger than a shard gets a shard of its own.
        max_shard_bytes: Largest sum of tensor bytes in a file.
        metadata: Words for each file's header; ``format: pt`` is added, other tools ask for it.

    Returns:
        The weight files, without the index.
    """
    words = {**(metadata or {}), "format": "pt"}
    shards = _divide(tensors, max_shard_bytes)
    if len(shards) == 1:
        _save(folder / WEIGHTS, shards[0], words)
        return [folder / WEIGHTS]
    files = [
        folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    homes: dict[str, Json] = {}
    for file, shard in zip(files, shards, strict=True):
        _save(file, shard, words)
        homes.update(dict.fromkeys(shard, file.name))
    total: Json = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": homes})
    return files


def _divide(tensors: Mapping[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    room = max_bytes
    for name, tensor in tensors.items():
        if tensor.nbytes > room and shards[-1]:
            shards.append({})
            room = max_bytes
        shards[-1][name] = tensor.detach()
        room -= tensor.nbytes
    return shards


def _save(file: Path, tensors: dict[str, Tensor], words: dict[str, str]) -> None:
    try:
        # the library makes files that only their owner may read; this one has the usual rights
        file.touch()
        mode = file.stat().st_mode
        save_file({name: t.contiguous() for name, t in tensors.items()}, file, metadata=words)
        file.chmod(mode)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: could not be written: {error}",
            hint="free some space or choose another folder",
        ) from error
