"""A whole model in the form its matrix kernels want; made when a model is only to answer.

- :func:`pack_model`, :func:`unpack_model`: weights rearranged for this processor, and back
- :func:`quantize_model`: weights of one byte
- :func:`count_parameters`: numbers of a model in any form
"""

import torch

from kosmos.model.forms.int8 import quantize_layers
from kosmos.model.forms.packed import (
    MIN_ELEMENTS,
    PackedLinear,
    can_pack,
    find_packed,
    pack_linears,
    page_out,
    unpack_linears,
)
from kosmos.model.kosmos import Kosmos


def pack_model(model: Kosmos, *, min_elements: int = MIN_ELEMENTS) -> int:
    """Pack every linear layer and the output head in place; it then computes the same, faster.

    The embedding table stays beside the packed head, to look rows up in; of a mapped one only the
    rows looked up stay in memory. What :func:`~kosmos.model.forms.packed.can_pack` declines stays
    as it is: all of a model on a GPU, of a quantized one, and of one as small as those of tests.

    Args:
        model: In evaluation mode.
        min_elements: Smallest matrix to pack.

    Returns:
        How many matrices were packed.
    """
    num_packed = 0
    table = model.decoder.embedding.weight
    if model.head is None and can_pack(table, min_elements=min_elements):
        # first, while the table read for it is all that is in memory
        model.head = PackedLinear(table).eval()
        page_out(table)
        num_packed = 1
    return num_packed + pack_linears(model, min_elements=min_elements)


def unpack_model(model: Kosmos) -> None:
    """Undo :func:`pack_model`: the weights are what they were, bit for bit."""
    model.head = None
    unpack_linears(model)


def is_packed(model: Kosmos) -> bool:
    """Whether any weight is packed."""
    return find_packed(model) is not None


def quantize_model(model: Kosmos, *, dtype: torch.dtype | None = None) -> None:
    """Quantize every linear layer and the embedding in place; see :mod:`kosmos.model.forms.int8`.

    Args:
        model: In evaluation mode, not packed.
        dtype: Type of what is not quantized, and so of activations; None: as it is.

    Raises:
        CheckpointError: If a weight is not finite, naming it.
        ConfigError: If the model is packed.
    """
    quantize_layers(model)
    if dtype is None:
        return
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not name.endswith(".scales"):
            parameter.data = parameter.data.to(dtype)


def count_parameters(model: Kosmos) -> int:
    """Numbers in the weights, the same in every form; the head and scales add none."""
    packed = [
        module
        for name, module in model.named_modules()
        if isinstance(module, PackedLinear) and name != "head"
    ]
    plain = [
        parameter for name, parameter in model.named_parameters() if not name.endswith(".scales")
    ]
    return sum(module.num_parameters for module in packed) + sum(p.numel() for p in plain)
