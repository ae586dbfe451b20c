"""A checkpoint's files, read without running anything that is in them.

torch keeps what a checkpoint holds in a pickle, ``.metadata``, and so does it with every value that
is no tensor. A pickle is a program, and its checksum lies in the same folder as itself. So names
that it may call are these alone: the records of torch's own format, types and shapes of tensors;
values beside the tensors are read as ``torch.load(weights_only=True)`` does.
"""

import io
import pickle
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import metadata as records
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.serialization import _get_layout

METADATA = ".metadata"


def _path(*parts: object) -> str:
    """In place of a path, which nothing here asks for."""
    return "/".join(map(str, parts))


_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    **{
        (records.__name__, kind.__name__): kind
        for kind in (
            records.BytesStorageMetadata,
            records.ChunkStorageMetadata,
            records.Metadata,
            records.MetadataIndex,
            records.StorageMeta,
            records.TensorProperties,
            records.TensorStorageMetadata,
            records._MEM_FORMAT_ENCODING,
        )
    },
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): _StorageInfo,
    ("torch.serialization", "_get_layout"): _get_layout,
    ("torch", "Size"): torch.Size,
    ("pathlib", "PosixPath"): _path,
    ("pathlib", "WindowsPath"): _path,
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of torch's format and no others."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """What a name stands for.

        Raises:
            UnpicklingError: If it is none of the format's.
        """
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"a pickle that calls {module}.{name}")
        return _ALLOWED[module, name]


class CheckpointReader(FileSystemReader):
    """Reads the tensors of a checkpoint.

    Args:
        folder: Of the checkpoint.
        files: Names of its files; nothing else is opened.

    Raises:
        ValueError: If ``.metadata`` is no record of a checkpoint, or names another file.
    """

    def __init__(self, folder: Path, files: Collection[str]) -> None:
        super().__init__(folder)
        try:
            found = _Unpickler(io.BytesIO((folder / METADATA).read_bytes())).load()
            places = [(at.relative_path, at.transform_descriptors) for at in _places(found)]
        except Exception as error:  # whatever a program that is not ours makes the reader say
            raise ValueError(str(error) or type(error).__name__) from error
        for name, transforms in places:
            if name not in files or transforms:
                raise ValueError(f"a record of {name!r}, which is none of the checkpoint's files")
        self._metadata: Metadata = found

    def read_metadata(self, *_: object, **__: object) -> Metadata:
        """What was read already."""
        return self._metadata


class CheckpointPlanner(DefaultLoadPlanner):
    """Reads values that are no tensors: numbers, words, and lists of them."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put a value into the state."""
        place = self.mappings[read_item.dest_index.fqn]
        set_element(self.original_state_dict, place, torch.load(value, weights_only=True))


def _places(found: object) -> Collection[_StorageInfo]:
    """Where everything lies."""
    if not isinstance(found, Metadata) or not isinstance(found.storage_data, dict):
        raise TypeError(f"a pickle of {type(found).__name__}")
    return found.storage_data.values()
