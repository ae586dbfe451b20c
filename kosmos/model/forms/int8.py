"""Weights of one byte: every linear layer and the embedding, which is also the output head.

A row ``w`` of a matrix, the weights of one output, becomes whole numbers and one scale::

    scale = max |w| / 127        q = round(w / scale)        |w - q scale| <= scale / 2

Activations stay what they are. On a CPU they are rounded to bfloat16 on the way into a
multiplication, because torch's int8 kernel is fast for that type only (3 times as fast as float32
weights for 1 row; with float32 activations half as fast), and so are its sums on the way out;
the scale and the bias are applied in float32. Both roundings are relative, 0.2% on average, beside
some 0.9% that the weights lose. Elsewhere the rows are turned back into the activations' type, a
slice at a time, and multiplied as ever.

The vision tower is converted as well: on 257 patches it is as fast as float32 weights (1.3 times
with bfloat16 units), and a quarter of the size. Convolution, norms, biases and position embeddings
keep their type.

- :func:`quantize_rows`, :func:`dequantize_rows`: the arithmetic
- :func:`multiply_int8`: activations by a quantized matrix
- :class:`Int8Linear`, :class:`Int8Embedding`: the layers
- :func:`quantize_layers`, :func:`shape_int8`: all layers of a module, in place
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, Int8
from torch import Tensor, nn

from kosmos.errors import CheckpointError, ConfigError
from kosmos.model.forms.packed import find_packed, replace_child

LEVELS = 127
"""Largest whole number; -128 stays unused, so that a row and its negative are alike."""

SLICE_ELEMENTS = 2**21
"""Weights turned into floating point at a time, 4 MB of bfloat16: they stay in the cache. Four
times as many are 2 to 5 times as slow (measured, 2048 x 8192 and 8192 x 2048)."""

KERNEL_BYTES = 32
"""torch's int8 kernel reads 16 weights at a time from addresses that are multiples of 16 and never
asks whether there are as many (torch 2.13, AVX-512: wrong results and segmentation faults for rows
of 24, 31 and 100, and for a matrix mapped from an odd place of a file). Rows must be a multiple of
this and lie at one: twice 16, for processors that read more at a time."""

_Pair = tuple[Int8[Tensor, "outputs inputs"], Float32[Tensor, " outputs"]]


def quantize_rows(weight: Float[Tensor, "outputs inputs"], *, name: str = "weight") -> _Pair:
    """Whole numbers and a scale for each row.

    Args:
        weight: Of any floating type; the arithmetic is float32.
        name: What the matrix is called in messages.

    Raises:
        CheckpointError: If a weight is not finite.
    """
    numbers = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(len(weight), device=weight.device)
    for rows in _slices(weight):
        part = weight[rows].detach().float()
        # a row of zeros, such as the padding token's, has a scale too
        scale = part.abs().amax(dim=1).div_(LEVELS).clamp_min_(torch.finfo(torch.float32).tiny)
        if not bool(scale.isfinite().all()):
            raise CheckpointError(f"{name}: expected finite weights, found NaN or infinity")
        part = (part / scale.unsqueeze(1)).round_().clamp_(-LEVELS, LEVELS)
        numbers[rows], scales[rows] = part.to(torch.int8), scale
    return numbers, scales


def dequantize_rows(
    numbers: Int8[Tensor, "outputs inputs"], scales: Float[Tensor, " outputs"]
) -> Float32[Tensor, "outputs inputs"]:
    """The weights that whole numbers and scales stand for."""
    return numbers.float() * scales.float().unsqueeze(1)


def multiply_int8(
    inputs: Float[Tensor, "*batch inputs"],
    numbers: Int8[Tensor, "outputs inputs"],
    scales: Float[Tensor, " outputs"],
) -> Float32[Tensor, "*batch outputs"]:
    """Activations by a quantized matrix.

    On a CPU every path computes the same: bfloat16 activations by whole numbers, summed in float32,
    the sum rounded to bfloat16, then scaled. So a row's result does not depend, but for the order
    of summation, on how many rows come with it.
    """
    rows = inputs.flatten(0, -2) if inputs.dim() > 1 else inputs.unsqueeze(0)
    if rows.device.type != "cpu":
        sums = torch.cat(
            [
                F.linear(rows, dequantize_rows(numbers[part], scales[part]).to(rows.dtype))
                for part in _slices(numbers)
            ],
            dim=1,
        ).float()
    else:
        sums = _sums(rows.bfloat16().contiguous(), numbers).float().mul_(scales)
    return sums.view(*inputs.shape[:-1], len(numbers))


def _sums(rows: Tensor, numbers: Tensor) -> Tensor:
    """Products in bfloat16 without the scales, on a CPU, by what is fastest."""
    has_units = _has_bfloat16_units()
    # for 83 rows, in ms at 2048 x 8192: kernel 18, slices 8 with units and 21 without; for 8 rows
    # 2.2, 2.7 and 9
    most = 12 if has_units else 128
    is_readable = numbers.shape[1] % KERNEL_BYTES == 0 and numbers.data_ptr() % KERNEL_BYTES == 0
    if 0 < len(rows) < most and is_readable and numbers.is_contiguous():
        ones = rows.new_ones(len(numbers))
        outputs: Tensor = torch._weight_int8pack_mm(rows, numbers, ones)
        return outputs
    sums = rows.new_empty((len(rows), len(numbers)))
    operand = rows if has_units else rows.float()
    for part in _slices(numbers):
        # whole numbers up to 127 are exact in bfloat16
        sums[:, part] = F.linear(operand, numbers[part].to(operand.dtype))
    return sums


@cache
def _has_bfloat16_units() -> bool:
    """Whether the processor multiplies bfloat16 itself; where torch cannot tell, it does not."""
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _slices(matrix: Tensor) -> list[slice]:
    """Rows of a matrix that are worked on together."""
    outputs, inputs = matrix.shape
    step = max(SLICE_ELEMENTS // max(inputs, 1), 1)
    return [slice(start, min(start + step, outputs)) for start in range(0, outputs, step)]


class Int8Linear(nn.Module):
    """A linear layer with quantized weights; its results are of its inputs' type.

    Args:
        weight: Whole numbers.
        scales: Of each output.
        bias: Of any floating type, or None.
    """

    def __init__(
        self,
        weight: Int8[Tensor, "outputs inputs"],
        scales: Float32[Tensor, " outputs"],
        bias: Float[Tensor, " outputs"] | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Multiply any number of rows."""
        outputs = multiply_int8(inputs, self.weight, self.scales)
        if self.bias is not None:
            outputs += self.bias
        return outputs.to(inputs.dtype)


class Int8Embedding(nn.Module):
    """A quantized embedding table that is also the output head.

    Args:
        weight: Whole numbers.
        scales: Of each token.
    """

    def __init__(
        self, weight: Int8[Tensor, "vocab width"], scales: Float32[Tensor, " vocab"]
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)

    def forward(self, token_ids: Int[Tensor, "*batch"]) -> Float32[Tensor, "*batch width"]:
        """Embeddings of tokens."""
        return self.weight[token_ids].float() * self.scales[token_ids].float().unsqueeze(-1)

    def logits(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of every token, in the type of the hidden states."""
        return multiply_int8(hidden, self.weight, self.scales).to(hidden.dtype)


def quantize_layers(module: nn.Module) -> None:
    """Quantize every linear layer and embedding in place, one after the other.

    Each plain weight is dropped before the next is converted, so what is needed beside the result
    is one matrix.

    Raises:
        CheckpointError: If a weight is not finite, naming it; the layers before it are quantized.
        ConfigError: If layers are packed.
    """
    packed = find_packed(module)
    if packed is not None:
        raise ConfigError(
            f"{packed}: expected a plain layer to quantize, found a packed one",
            hint="load the folder again, or unpack_model(model)",
        )
    for name in layer_names(module):
        layer = plain_layer(module, name)
        weight, scales = quantize_rows(layer.weight, name=f"{name}.weight")
        replace_child(module, name, _quantized(layer, weight, scales))
        del layer  # or its weight would live until the next one is converted


def shape_int8(module: nn.Module) -> None:
    """Give a module on the meta device the shapes and types that a quantized one has."""
    for name in layer_names(module):
        layer = plain_layer(module, name)
        weight = torch.empty(layer.weight.shape, dtype=torch.int8, device="meta")
        scales = torch.empty(len(weight), device="meta")
        replace_child(module, name, _quantized(layer, weight, scales))


def layer_names(module: nn.Module) -> list[str]:
    """Names of the layers that :func:`quantize_layers` converts."""
    kinds = (nn.Linear, nn.Embedding)
    return [name for name, child in module.named_modules() if isinstance(child, kinds)]


def plain_layer(module: nn.Module, name: str) -> nn.Linear | nn.Embedding:
    """A layer of :func:`layer_names`."""
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Linear | nn.Embedding)
    return layer


def is_int8(module: nn.Module) -> bool:
    """Whether any layer is quantized."""
    return any(isinstance(child, Int8Linear | Int8Embedding) for child in module.modules())


def _quantized(layer: nn.Linear | nn.Embedding, weight: Tensor, scales: Tensor) -> nn.Module:
    if isinstance(layer, nn.Embedding):
        return Int8Embedding(weight, scales).train(layer.training)
    return Int8Linear(weight, scales, layer.bias).train(layer.training)
