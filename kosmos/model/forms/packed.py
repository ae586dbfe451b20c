"""Linear layers whose weights lie as the processor's matrix kernels read them.

A plain weight is rearranged inside every multiplication, or read in an order that wastes bandwidth.
oneDNN, which torch brings, can be given the weight rearranged once. Measured at 2048 x 8192 on two
cores of an AVX-512 machine, against ``F.linear``: 1.6 times as fast for 1 row, 3 to 5 times for 2
to 17, 1.8 times for 83, 1.5 times for 257. Results differ from the plain ones by the order of
summation only. Query, key and value as one matrix would gain up to 0.4 ms of 2.5 more for 1 row and
nothing from 5 rows on (measured); they stay three.

A packed layer answers, and does nothing else: it is not trained, saved or moved.

- :func:`can_pack`: the rule by which a weight is packed
- :class:`PackedLinear`: one layer
- :func:`pack_linears`, :func:`unpack_linears`: all layers of a module, in place
- :func:`page_out`: let go of the memory of a weight that is rarely read
"""

import ctypes
import mmap
import sys
from typing import NoReturn

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kosmos.errors import ConfigError

MIN_ELEMENTS = 2**18
"""Weights from which on packing pays. A call takes 15 microseconds more than ``F.linear``: at 256 x
256 that makes 1 row 4 times as slow, at 512 x 512 it is even and 8 rows gain 1.4 (measured)."""

ROWS_HINT = 83
"""Rows that oneDNN is told to expect, a picture and a question. The layout it chooses for many rows
is good for few as well; the one it chooses for 1 row is a third slower for 4 to 16, and takes 4
times as long to make (measured with hints of none, 1, 2, 4, 8 and 83)."""

MIN_ROWS = 5
"""Fewer rows are filled up to this many: the kernel for 1 to 3 of them reads 21 to 25 GB/s where
that for 5 and 6 reads 30 to 36, all that the memory has (measured, 2048 x 8192, 2048 x 2048, 8192
x 2048 and 2048 x 65037, two cores; a layout made for 1 row reads as much at 1 row, and a third less
at 4 to 16)."""

_MADV_PAGEOUT = 21  # Linux 5.4, <asm-generic/mman-common.h>

_DTYPES = (torch.float32, torch.bfloat16)


def can_pack(weight: Tensor, *, min_elements: int = MIN_ELEMENTS) -> bool:
    """Whether a weight is packed.

    It is if it lies in main memory, is of float32 (or of bfloat16 on a processor that oneDNN
    multiplies it on), has at least so many elements, and torch was built with oneDNN and may use
    it. Else the plain layer is the fastest there is.

    Args:
        weight: A matrix.
        min_elements: Smallest matrix for which packing pays.
    """
    if weight.device.type != "cpu" or weight.dtype not in _DTYPES or weight.dim() != 2:
        return False
    if weight.numel() < max(min_elements, 1):
        return False
    # switched off by torch.backends.mkldnn.flags(enabled=False), absent on Apple's processors
    if not torch._C._has_mkldnn or not torch._C._get_mkldnn_enabled():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


class PackedLinear(nn.Module):
    """``x W^T + b`` with ``W`` rearranged once; the plain weight is not kept.

    Args:
        weight: A matrix that :func:`can_pack` accepts.
        bias: Of the weight's type, or None.
    """

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.dtype = weight.dtype
        # neither parameters nor buffers: torch has no operations on such tensors but this one
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS_HINT)
        self._bias = None if bias is None else bias.detach()

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Multiply any number of rows.

        Raises:
            ConfigError: If the inputs are of another type than the weight was.
        """
        if inputs.dtype != self.dtype:
            raise ConfigError(f"packed layer: expected {self.dtype}, found {inputs.dtype}")
        rows = inputs.reshape(-1, self.in_features)
        num_missing = max(MIN_ROWS - len(rows), 0)
        if num_missing:
            rows = F.pad(rows, (0, 0, 0, num_missing))
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._packed, self._bias, "none", [], ""
        )
        if num_missing:
            outputs = outputs[: len(outputs) - num_missing]
        return outputs.view(*inputs.shape[:-1], self.out_features)

    @property
    def num_parameters(self) -> int:
        """Numbers in weight and bias."""
        bias = 0 if self._bias is None else self._bias.numel()
        return self.out_features * self.in_features + bias

    def to_linear(self) -> nn.Linear:
        """The plain layer, weight and bias bit for bit."""
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features, bias=self._bias is not None)
        linear.weight = nn.Parameter(self._packed.to_dense().contiguous())
        if self._bias is not None:
            linear.bias = nn.Parameter(self._bias)
        return linear.train(self.training)

    def train(self, mode: bool = True) -> "PackedLinear":
        """Stay in evaluation mode.

        Raises:
            ConfigError: If training is asked for.
        """
        if mode:
            self._refuse("weights that can be trained")
        self.training = False
        return self

    def _apply(self, *_: object, **__: object) -> NoReturn:
        self._refuse("weights that can be moved or converted")

    def _save_to_state_dict(self, *_: object, **__: object) -> NoReturn:
        self._refuse("weights that can be saved")

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigError(
            f"model: expected {what}, found them packed for this processor",
            hint="load the folder with pack=False, or forms.convert.unpack_model(model)",
        )


def pack_linears(module: nn.Module, *, min_elements: int = MIN_ELEMENTS) -> int:
    """Pack, in place, every linear layer that :func:`can_pack` accepts.

    One after the other, each plain weight dropped before the next is packed: what is needed is the
    size of the weights and one matrix more. Packing again changes nothing.

    Args:
        module: In evaluation mode.
        min_elements: Smallest matrix to pack.

    Returns:
        How many were packed.
    """
    names = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]
    num_packed = 0
    for name in names:
        linear = module.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        if can_pack(linear.weight, min_elements=min_elements):
            replace_child(module, name, PackedLinear(linear.weight, linear.bias).eval())
            num_packed += 1
        del linear  # or its weight would live until the next one is packed
    return num_packed


def unpack_linears(module: nn.Module) -> None:
    """Make every packed layer a plain one again, in place."""
    names = [name for name, child in module.named_modules() if isinstance(child, PackedLinear)]
    for name in names:
        packed = module.get_submodule(name)
        assert isinstance(packed, PackedLinear)
        replace_child(module, name, packed.to_linear())
        del packed


def find_packed(module: nn.Module) -> str | None:
    """Name of the first packed layer, None if there is none."""
    packed = (name for name, child in module.named_modules() if isinstance(child, PackedLinear))
    return next(packed, None)


def page_out(weight: Tensor) -> None:
    """Ask the system to take the memory of a weight back, until it is read again.

    Nothing is lost: mapped pages come back from the file, written ones from swap, and what can go
    nowhere stays. Only Linux has such a call; elsewhere pages go when memory is short.
    """
    if sys.platform != "linux" or weight.device.type != "cpu" or not weight.is_contiguous():
        return
    page = mmap.PAGESIZE
    start = -(-weight.data_ptr() // page) * page
    num_bytes = (weight.data_ptr() + weight.nbytes) // page * page - start
    if num_bytes > 0:
        # the answer does not matter: this is a wish
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(num_bytes), ctypes.c_int(_MADV_PAGEOUT)
        )


def replace_child(module: nn.Module, name: str, child: nn.Module) -> None:
    """Put a module in the place of the one with a dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, child)
