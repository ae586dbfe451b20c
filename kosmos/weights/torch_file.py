"""What a file of ``torch.save`` holds, read without running any of it.

A pickle is a program: it names functions and calls them. Here every name, torch's own included,
becomes a :class:`Record` that keeps what it was called with, and no module is imported. What is
wanted is then looked up in the records::

    torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)   -> StoredTensor
    collections.OrderedDict(), argparse.Namespace(), omegaconf ... DictConfig   -> fields_of

The file is a zip whose entries are not compressed, so a tensor is a range of bytes in it::

    kosmos-2/data.pkl     the pickle; tensors refer to storages by key
    kosmos-2/data/0       the bytes of storage 0, aligned to 64

- :func:`open_torch_file`: the records, and where the storages lie
- :meth:`TorchFile.tensors`: a dictionary of tensors as places in the file
- :func:`fields_of`: the entries or attributes of a record

Source: torch/serialization.py; the format since torch 1.6 (2020).
"""

import io
import math
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import torch

from kosmos.errors import CheckpointError
from kosmos.weights.tensors import StoredTensor

_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}

_MAX_PROGRAM_BYTES = 64 * 2**20
_MAX_OPCODES = 2_000_000
"""Of the release's checkpoint, with the state of its optimizer, some 10^5; each may make a value of
a few hundred bytes."""
_MAX_DEPTH = 200
"""Python hashes and prints values in each other by calls in each other."""
_MAX_BITS = 512  # of a whole number; more than some thousand cannot be printed
_FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")

_LOCAL_HEADER_BYTES = 30
_ZIP_MAGIC = b"PK\x03\x04"
_OLD_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number torch wrote before 1.6

# whatever a program that is not one of ours can make the machine that reads it say
_UNREADABLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class Record:
    """A class or function that a pickle names (the type), and a call of it (the instance).

    Reading a pickle runs these methods and no others.
    """

    name: ClassVar[str] = ""
    """Module and name, as the pickle spells them."""

    args: tuple[object, ...]
    """What it was called with."""
    state: object
    """What was set as its attributes."""
    items: dict[object, object]
    """What was set by key."""

    def __new__(cls, *args: object, **_: object) -> "Record":
        """Remember a call."""
        record = super().__new__(cls)
        record.args, record.state, record.items = args, None, {}
        return record

    def __call__(self, *args: object) -> "Record":
        """Remember a call of what a call gave: how older pickles write methods."""
        return Record(self, *args)

    def __setstate__(self, state: object) -> None:
        """Remember attributes."""
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Remember an entry."""
        self.items[key] = value

    def append(self, value: object) -> None:
        """Take no notice: nothing that is wanted is a list of its own kind."""

    def extend(self, values: object) -> None:
        """Take no notice, as of one."""


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    kind: str
    num_elements: int


class _Unpickler(pickle.Unpickler):
    """Resolves every name to a record of its own, and storages to their keys."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._kinds: dict[str, type[Record]] = {}

    def find_class(self, module_name: str, global_name: str) -> type[Record]:
        """A new type that does nothing, whatever the name."""
        name = f"{module_name}.{global_name}"
        if name not in self._kinds:
            self._kinds[name] = type("Record", (Record,), {"name": name})
        return self._kinds[name]

    def persistent_load(self, pid: object) -> _Storage:
        """Torch's reference to a storage."""
        match pid:
            case ("storage", type() as kind, str() as key, _, int() as count) if issubclass(
                kind, Record
            ):
                return _Storage(key, kind.name, count)
        raise pickle.UnpicklingError("a reference that is not to a storage")


@dataclass(frozen=True, slots=True)
class TorchFile:
    """An opened file.

    Args:
        path: Where it is.
        content: What was saved, in plain values and records.
        storages: First byte and number of bytes of each storage, by key.
    """

    path: Path
    content: object
    storages: Mapping[str, tuple[int, int]]

    def tensors(self, values: Mapping[str, object]) -> dict[str, StoredTensor]:
        """The values that are tensors, as places in the file.

        Raises:
            CheckpointError: If one reaches beyond its storage, is not contiguous or of a type we
                do not know, naming it.
        """
        calls = {name: _tensor_call(value) for name, value in values.items()}
        return {name: self._place(name, call) for name, call in calls.items() if call is not None}

    def _place(self, name: str, call: tuple[object, ...]) -> StoredTensor:
        match call:
            case (_Storage() as storage, int() as offset, tuple() as sizes, tuple() as strides, *_):
                shape = tuple(size for size in sizes if isinstance(size, int))
            case _:
                raise self._wrong(name, "a tensor as torch saves it", "another call")
        dtype = _STORAGES.get(storage.kind)
        if dtype is None or storage.key not in self.storages:
            raise self._wrong(name, f"a storage among {', '.join(_STORAGES)}", storage.kind)
        is_sound = len(shape) == len(sizes) == len(strides)
        if not is_sound or not _is_contiguous(shape, strides):
            raise self._wrong(name, "a contiguous tensor", f"{sizes} with strides {strides}")
        first, room = self.storages[storage.key]
        start = offset * dtype.itemsize
        num_bytes = math.prod(shape) * dtype.itemsize
        if min(offset, *shape, 0) < 0 or start + num_bytes > room:
            raise self._wrong(name, f"{list(shape)} {dtype} from {offset} on", f"{room} bytes")
        return StoredTensor(self.path, name, dtype, shape, first + start, num_bytes)

    def _wrong(self, name: str, expected: str, found: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {name}: expected {expected}, found {found}")


def open_torch_file(path: Path) -> TorchFile:
    """Read a file's records. No code of the file runs, and no tensor is read.

    Raises:
        CheckpointError: If it is missing, truncated, of torch's older format, or not torch's.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a file of torch.save, found nothing there")
    with open(path, "rb") as stream:
        _check_magic(stream.read(len(_OLD_MAGIC)), path)
        entries, root, pickled = _read_archive(stream, path)
        storages = {
            name.removeprefix(f"{root}data/"): (_first_byte(stream, entry, path), entry.file_size)
            for name, entry in entries.items()
            if name.startswith(f"{root}data/")
        }
    return TorchFile(path, _unpickle(pickled, path), storages)


def fields_of(value: object) -> dict[str, object]:
    """The entries of a dictionary, or the attributes of an object, that a pickle held.

    An omegaconf ``DictConfig`` gives the values of its nodes. Anything else gives nothing.
    """
    if isinstance(value, Record):
        content = value.items or value.state
        if isinstance(content, dict) and isinstance(content.get("_content"), dict):
            content = {name: _node(node) for name, node in content["_content"].items()}
        value = content
    if not isinstance(value, dict):
        return {}
    return {name: entry for name, entry in value.items() if isinstance(name, str)}


def _node(value: object) -> object:
    """The value of an omegaconf node, or the node itself if it holds others."""
    state = value.state if isinstance(value, Record) else None
    return state["_val"] if isinstance(state, dict) and "_val" in state else value


def _tensor_call(value: object) -> tuple[object, ...] | None:
    """What torch's function that makes a tensor was called with; of a parameter, its tensor's."""
    if isinstance(value, Record) and value.name == "torch._utils._rebuild_parameter":
        value = value.args[0] if value.args else None
    is_tensor = isinstance(value, Record) and value.name.startswith("torch._utils._rebuild_tensor")
    return value.args if is_tensor and isinstance(value, Record) else None


def _is_contiguous(shape: tuple[int, ...], strides: tuple[object, ...]) -> bool:
    """Whether the numbers lie in order, without gaps."""
    if 0 in shape:
        return True
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _unpickle(pickled: bytes, path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # of escapes in strings, which a damaged file may hold
            warnings.simplefilter("ignore", DeprecationWarning)
            _check_program(pickled)
        return _Unpickler(io.BytesIO(pickled)).load()
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path}: data.pkl: expected values, tensors and attributes, found "
            f"{type(error).__name__}: {error}",
            hint="the file is damaged, or made to do harm; nothing in it was run",
        ) from error


def _check_program(pickled: bytes) -> None:
    """Fail on what would harm the one who runs it, even where every name stands for nothing.

    Values that lie too deep in each other are found by keeping, of every value on the stack that
    the program would work on, how deep it is.
    """
    stack: list[int | None] = []  # None: a mark
    memo: dict[int, int] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        name, place = opcode.name, argument if isinstance(argument, int) else 0
        # a slot far out of range would make the reader set aside memory up to it; extension
        # codes would be looked up in this process before find_class is asked
        is_far = name.endswith("PUT") and place > len(pickled)
        if name.startswith("EXT") or is_far or place.bit_length() > _MAX_BITS:
            raise pickle.UnpicklingError(f"{name} {argument if place.bit_length() < 64 else ''}")
        if number == _MAX_OPCODES:
            raise pickle.UnpicklingError(f"more than {_MAX_OPCODES:,} instructions")
        if name.endswith("PUT") or name == "MEMOIZE":
            memo[len(memo) if name == "MEMOIZE" else place] = stack[-1] or 0
        elif name.endswith("GET"):
            stack.append(memo[place])
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            _step(opcode, stack)


def _step(opcode: pickletools.OpcodeInfo, stack: list[int | None]) -> None:
    """What an instruction takes from the stack and leaves on it."""
    before, taken = list(opcode.stack_before), list[int | None]()
    if pickletools.markobject in before:
        while (top := stack.pop()) is not None:
            taken.append(top)
        before = before[: before.index(pickletools.markobject)]
    taken += [stack.pop() for _ in before]
    depths = [depth or 0 for depth in taken]
    if opcode.name in _FILLING:  # what is filled was the first
        deepest = max([depths[-1], *(depth + 1 for depth in depths[:-1])])
    else:
        deepest = 1 + max(depths, default=0)
    if deepest > _MAX_DEPTH:
        raise pickle.UnpicklingError(f"values more than {_MAX_DEPTH} deep in each other")
    stack += [None if left is pickletools.markobject else deepest for left in opcode.stack_after]


def _read_archive(stream: BinaryIO, path: Path) -> tuple[dict[str, zipfile.ZipInfo], str, bytes]:
    """The zip's entries, the folder they are in, and the pickle."""
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            program = next((name for name in entries if name.endswith("/data.pkl")), "")
            if program:
                _check_entries(entries, program, path)
            pickled = archive.read(program) if program else b""
            root = program.removesuffix("data.pkl")
            order = b"little"
            if f"{root}byteorder" in entries:
                with archive.open(f"{root}byteorder") as said:
                    order = said.read(16)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(path, str(error)) from error
    if not program:
        raise CheckpointError(f"{path}: expected data.pkl of torch.save, found another zip file")
    if order != b"little":
        raise _not_as_saved(path, f"{order!r} byte order")
    return entries, root, pickled


def _check_entries(entries: Mapping[str, zipfile.ZipInfo], program: str, path: Path) -> None:
    """Fail on entries that would grow in reading, or a program too large for what it can say."""
    for name, entry in entries.items():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise _not_as_saved(path, f"{name} compressed")
    if entries[program].file_size > _MAX_PROGRAM_BYTES:
        raise CheckpointError(
            f"{path}: {program}: expected at most {_MAX_PROGRAM_BYTES:,} bytes, found "
            f"{entries[program].file_size:,}",
            hint="data.pkl says where tensors are; what is not a tensor belongs into other files",
        )


def _not_as_saved(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected bytes as torch.save leaves them, found {found}",
        hint="load and save it again with torch.save",
    )


def _first_byte(stream: BinaryIO, entry: zipfile.ZipInfo, path: Path) -> int:
    """Where the content of an entry begins: behind a header whose length only it knows."""
    stream.seek(entry.header_offset)
    header = stream.read(_LOCAL_HEADER_BYTES)
    lengths = header[26:28], header[28:30]
    first = stream.tell() + sum(int.from_bytes(length, "little") for length in lengths)
    if not header.startswith(_ZIP_MAGIC) or first + entry.file_size > path.stat().st_size:
        raise _damaged(path, f"{entry.filename} beyond its end")
    return first


def _check_magic(start: bytes, path: Path) -> None:
    if start.startswith(_ZIP_MAGIC):
        return
    if start == _OLD_MAGIC:
        raise CheckpointError(
            f"{path}: expected the zip format of torch 1.6 and later, found the older one",
            hint="where you trust the file: torch.save(torch.load(old, weights_only=False), new)",
        )
    raise CheckpointError(
        f"{path}: expected a file of torch.save, found {start[:4]!r} at its start"
    )


def _damaged(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected a whole file of torch.save, found {found}",
        hint="the file is truncated or damaged; copy or download it again",
    )
