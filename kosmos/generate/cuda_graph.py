"""Decode steps of fixed shape, so that a GPU can record one and replay it.

At batch one a step is some hundred small kernels, and starting them takes longer than running them.
A CUDA graph starts them all at once, but replays the same kernels on the same memory: the number of
tokens, the length of the cache and every address must stay. So a step of fixed shape always looks
at the whole cache, with a mask for what is not there yet, and writes to slots that a tensor names.
Rows that are done stay in it as padding. On a CPU nothing is gained by that; there
:class:`~kosmos.generate.rollout.Rollout` lets the shapes follow the work.

- :class:`GraphedStep`: one shape, its cache and, on a GPU, its graph
- :class:`GraphedSteps`: the shapes used lately
"""

from collections import OrderedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kosmos.model.cache import KVCache
from kosmos.model.config import DecoderConfig
from kosmos.model.kosmos import Kosmos

_CAPACITY_STEP = 256
"""Caches are a multiple of so many slots long, so that prompts of like length share a graph."""

_MOST_KEPT = 4
"""Shapes whose caches and graphs are kept."""

_MOST_CACHE_BYTES = 8 * 2**30
"""Largest cache that is given a fixed shape."""

_WARM_UPS = 3
"""Steps before recording, in which libraries allocate what they need (PyTorch's advice)."""


class FixedCache(KVCache):
    """A cache that reads prompts as any other, and then is written where a tensor says."""

    def __init__(
        self,
        config: DecoderConfig,
        *,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(config, batch=batch, capacity=capacity, dtype=dtype, device=device)
        # what is masked is multiplied by zero, which does not make a number of what is none
        self.keys.zero_()
        self.values.zero_()
        self.slots: Tensor | None = None
        """Where the tokens of a step go; None while prompts are read."""

    def restart(self) -> None:
        """Forget everything; the next pass reads prompts."""
        self.length = 0
        self.slots = None
        self._valid = None

    def extend(self, tokens: int, valid: Bool[Tensor, "batch tokens"] | None = None) -> None:
        """As any cache while prompts are read; slots are counted by the caller in steps."""
        if self.slots is None:
            super().extend(tokens, valid)

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch heads tokens head"],
        values: Float[Tensor, "batch heads tokens head"],
    ) -> tuple[Float[Tensor, "batch heads length head"], Float[Tensor, "batch heads length head"]]:
        """Write a layer's keys and values; in a step, return the whole buffers."""
        if self.slots is None:
            return super().append(layer, keys, values)
        self.keys[layer].index_copy_(2, self.slots, keys)
        self.values[layer].index_copy_(2, self.slots, values)
        return self.keys[layer], self.values[layer]


class GraphedStep:
    """One decode step: ``width`` new tokens in each of ``rows`` rows, over ``capacity`` slots.

    Args:
        model: In evaluation mode.
        rows: Rows of the cache.
        width: New tokens of a row.
        capacity: Slots of a row.
    """

    def __init__(self, model: Kosmos, *, rows: int, width: int, capacity: int) -> None:
        device = model.device
        self._model = model
        self.cache = FixedCache(
            model.config.decoder, batch=rows, capacity=capacity, dtype=model.dtype, device=device
        )
        self._token_ids = torch.zeros((rows, width), dtype=torch.long, device=device)
        self._positions = torch.zeros((rows, width), dtype=torch.long, device=device)
        self._visible = torch.ones((rows, width, capacity), dtype=torch.bool, device=device)
        self._slots = torch.arange(width, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._hidden: Tensor | None = None

    @property
    def width(self) -> int:
        """New tokens of a row."""
        return self._token_ids.shape[1]

    def __call__(
        self,
        token_ids: Int[Tensor, "rows width"],
        *,
        positions: Int[Tensor, "rows width"],
        visible: Bool[Tensor, "rows width capacity"],
    ) -> Float[Tensor, "rows width features"]:
        """Hidden states of new tokens, which are added to the cache.

        Args:
            token_ids: Of the new tokens.
            positions: Depth of each in its branch.
            visible: Which slots each sees; its own among them.

        Returns:
            A buffer that the next step overwrites.
        """
        start = self.cache.length
        self._token_ids.copy_(token_ids)
        self._positions.copy_(positions)
        self._visible.copy_(visible)
        self._slots.copy_(torch.arange(start, start + self.width))
        self.cache.slots = self._slots
        if self._model.device.type == "cuda" and self._graph is None:
            self._record()
        if self._graph is None:
            self._hidden = self._forward()
        else:
            self._graph.replay()
        self.cache.length = start + self.width
        assert self._hidden is not None
        return self._hidden

    def _forward(self) -> Tensor:
        hidden: Tensor = self._model(
            self._token_ids, positions=self._positions, visible=self._visible, cache=self.cache
        )
        return hidden

    def _record(self) -> None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):  # each writes the same slots, as the replay will
                self._forward()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._hidden = self._forward()


class GraphedSteps:
    """Steps by shape, the least recently used let go.

    Args:
        model: In evaluation mode; its weights stay where they are.
    """

    def __init__(self, model: Kosmos) -> None:
        self._model = model
        self._kept: OrderedDict[tuple[int, int, int], GraphedStep] = OrderedDict()

    def take(self, *, rows: int, width: int, prompt: int, room: int) -> GraphedStep | None:
        """A step whose cache is empty.

        Args:
            rows: Rows of the cache.
            width: Most new tokens of a row in a step; rounded up to a power of two.
            prompt: Slots of a row that prompts take.
            room: Most steps.

        Returns:
            None where the cache would be larger than 8 GiB; steps whose shapes follow the work
            are the better choice then, as they take what is used only.
        """
        width = 1 << (width - 1).bit_length()
        capacity = -(-(prompt + room * width) // _CAPACITY_STEP) * _CAPACITY_STEP
        decoder = self._model.config.decoder
        num_bytes = 2 * decoder.num_layers * rows * capacity * decoder.width
        if num_bytes * self._model.dtype.itemsize > _MOST_CACHE_BYTES:
            return None
        key = (rows, width, capacity)
        step = self._kept.pop(key, None) or GraphedStep(
            self._model, rows=rows, width=width, capacity=capacity
        )
        self._kept[key] = step
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        step.cache.restart()
        return step
