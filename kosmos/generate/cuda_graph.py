"""CUDA graphs of decode steps, over a static cache: what a GPU can record and replay.

At batch one a step is some hundred small kernels, and starting them takes longer than running them.
A CUDA graph starts them all at once, but replays the same kernels on the same memory: the number of
tokens, the length of the cache and every address must stay. So a step of static shape always looks
at the whole cache, with a mask for what is not there yet, and writes to slots that a tensor names.
Rows that are done stay in it as padding. On a CPU nothing is gained by that; there
:class:`~kosmos.generate.rollout.Rollout` lets the shapes follow the work.
"""

from weakref import WeakSet

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kosmos.model.cache import KVCache
from kosmos.model.config import DecoderConfig
from kosmos.model.kosmos import Kosmos

_CAPACITY_STEP = 256
"""Caches are a multiple of so many slots long, so that prompts of like length share a graph."""

_MOST_KEPT = 4
"""Steps whose caches and graphs are kept while nobody uses them."""

_MOST_CACHE_BYTES = 8 * 2**30
"""Most bytes of static caches in use at a time."""

_WARM_UPS = 3
"""Steps before recording, in which libraries allocate what they need (PyTorch's advice)."""


class StaticCache(KVCache):
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

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return self.keys.nbytes + self.values.nbytes

    def restart(self) -> None:
        """Forget everything; the next pass reads prompts."""
        self.forget()
        self.slots = None

    def extend(
        self,
        tokens: int,
        valid: Bool[Tensor, "batch tokens"] | None = None,
        blocks: Int[Tensor, "#batch tokens"] | None = None,
    ) -> None:
        """As any cache while prompts are read; slots are counted by the caller in steps."""
        if self.slots is None:
            super().extend(tokens, valid, blocks)

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
        self.cache = StaticCache(
            model.config.decoder, batch=rows, capacity=capacity, dtype=model.dtype, device=device
        )
        self._token_ids = torch.zeros((rows, width), dtype=torch.long, device=device)
        self._positions = torch.zeros((rows, width), dtype=torch.long, device=device)
        self._visible = torch.ones((rows, width, capacity), dtype=torch.bool, device=device)
        self._slots = torch.arange(width, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._hidden: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, new tokens of a row, slots of a row."""
        return (*self._token_ids.shape, self.cache.capacity)

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
    """Steps by shape, lent to one reader at a time.

    Args:
        model: In evaluation mode; its weights stay where they are.
    """

    def __init__(self, model: Kosmos) -> None:
        self._model = model
        self._free: list[GraphedStep] = []  # the least recently used first
        # a reader that died with what it was lent is forgotten
        self._lent: WeakSet[GraphedStep] = WeakSet()

    def take(self, *, rows: int, width: int, prompt: int, room: int) -> GraphedStep | None:
        """A step whose cache is empty, and nobody else's until it is given back.

        Args:
            rows: Rows of the cache.
            width: Most new tokens of a row in a step; rounded up to a power of two.
            prompt: Slots of a row that prompts take.
            room: Most steps.

        Returns:
            None where the cache, with those lent already, would be larger than 8 GiB, since steps
            whose shapes follow the work take what is used only, or where positions lie in several
            blocks of xPos.
        """
        width = 1 << (width - 1).bit_length()
        capacity = -(-(prompt + room * width) // _CAPACITY_STEP) * _CAPACITY_STEP
        decoder = self._model.config.decoder
        num_bytes = 2 * decoder.num_layers * rows * capacity * decoder.width
        num_bytes *= self._model.dtype.itemsize
        is_large = num_bytes + sum(step.cache.num_bytes for step in self._lent) > _MOST_CACHE_BYTES
        # a recorded step cannot look whether xPos has come to another block of positions
        is_far = decoder.positions == "xpos" and prompt + room > decoder.xpos_block
        if is_large or is_far:
            return None
        shape = (rows, width, capacity)
        step = next((step for step in self._free if step.shape == shape), None)
        if step is None:
            step = GraphedStep(self._model, rows=rows, width=width, capacity=capacity)
        else:
            self._free.remove(step)
            step.cache.restart()
        self._lent.add(step)
        return step

    def give_back(self, step: GraphedStep) -> None:
        """Lend a step to whoever wants one of its shape next."""
        self._lent.discard(step)
        self._free.append(step)
        del self._free[:-_MOST_KEPT]
