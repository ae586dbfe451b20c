"""Arrays of a batch as tensors on the model's device."""

import numpy as np
import torch
from torch import Tensor


def as_tensor(array: np.ndarray | None, device: torch.device) -> Tensor:
    """A copy of an array, not a view of it.

    Matrix kernels round by the alignment of their operands, and only memory of torch's own is
    always aligned the same; a view would make a resumed run differ in the last bit.
    """
    assert array is not None
    return torch.tensor(array).to(device, non_blocking=True)
