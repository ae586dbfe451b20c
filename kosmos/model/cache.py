"""Keys and values of the tokens seen so far, in buffers with room for those to come.

A step writes its own tokens and attends to a view of the filled part: nothing is concatenated. Keys
are stored already rotated (xPos), so no step touches the old ones. Padding is remembered, so a
left-padded prompt needs telling only once, and positions count real tokens only.

A row need not be one sequence. It may hold a prompt and, behind it, the tokens of every branch that
grew from it (beams, candidates), in the order they came; who sees which is said with each pass
(``visible`` of :meth:`kosmos.model.kosmos.Kosmos.forward`). So a prompt is held once however many
branches it has, and branches that are exchanged or forgotten move nothing.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kosmos.errors import ConfigError
from kosmos.model.config import DecoderConfig


class KVCache:
    """Attention state of a batch of rows that grow together.

    Args:
        config: The decoder it belongs to.
        batch: Rows.
        capacity: Most tokens of a row, padding and image slots included.
        dtype: Of keys and values; the model's.
        device: The model's.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value in (("batch", batch), ("capacity", capacity)):
            if value <= 0:
                raise ConfigError(f"cache.{name}: expected a positive number, found {value}")
        head_dim = config.width // config.num_heads
        shape = (config.num_layers, batch, config.num_heads, capacity, head_dim)
        self.keys: Tensor = torch.empty(shape, dtype=dtype, device=device)
        self.values: Tensor = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0
        """Tokens written so far, padding included."""
        self._start = 0  # where the tokens of the pass under way begin
        # of each slot the block of its position, -1 if it is padding, [batch capacity]; None while
        # all are in the first and nothing is padding
        self._blocks: Tensor | None = None
        self._is_far = False  # whether there is another block than the first

    @property
    def batch(self) -> int:
        """Rows."""
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        """Most tokens of a row."""
        return self.keys.shape[3]

    @property
    def valid(self) -> Bool[Tensor, "batch length"] | None:
        """False where a written token is padding; None if none is."""
        return None if self._blocks is None else self._blocks[:, : self.length] >= 0

    @property
    def blocks(self) -> Int[Tensor, "batch length"] | None:
        """Block of xPos that each written token's position is in; None: all are in the first."""
        if self._blocks is None or not self._is_far:
            return None
        return self._blocks[:, : self.length].clamp(min=0)

    def next_positions(self) -> Int[Tensor, "#batch 1"]:
        """Position of the next real token of each row: the number of real tokens before it."""
        if self.valid is None:
            return torch.full((1, 1), self.length, device=self.keys.device)
        return self.valid.sum(dim=1, keepdim=True)

    def forget(self) -> None:
        """Forget all tokens."""
        self.length, self._blocks, self._is_far = 0, None, False

    def extend(
        self,
        tokens: int,
        valid: Bool[Tensor, "batch tokens"] | None = None,
        blocks: Int[Tensor, "#batch tokens"] | None = None,
    ) -> None:
        """Make room for the tokens of one forward pass; the decoder calls it before its layers.

        Args:
            tokens: New tokens of each row.
            valid: False where a new token is padding.
            blocks: Block of xPos that each new token's position is in; None: the first.

        Raises:
            ConfigError: If they do not fit.
        """
        if self.length + tokens > self.capacity:
            raise ConfigError(
                f"cache: expected at most {self.capacity} tokens, found {self.length} written "
                f"and {tokens} more",
                hint="allocate the cache with a larger capacity",
            )
        self._is_far |= blocks is not None
        if self._blocks is None and (valid is not None or blocks is not None):
            self._blocks = self.keys.new_zeros((self.batch, self.capacity), dtype=torch.long)
        self._start, self.length = self.length, self.length + tokens
        if self._blocks is not None:
            new = self._blocks[:, self._start : self.length]
            new.copy_(torch.zeros_like(new) if blocks is None else blocks.expand_as(new))
            if valid is not None:
                new.masked_fill_(~valid, -1)

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch heads tokens head"],
        values: Float[Tensor, "batch heads tokens head"],
    ) -> tuple[Float[Tensor, "batch heads length head"], Float[Tensor, "batch heads length head"]]:
        """Write a layer's keys and values of the pass under way; return all of that layer's."""
        self.keys[layer, :, :, self._start : self.length] = keys
        self.values[layer, :, :, self._start : self.length] = values
        return self.keys[layer, :, :, : self.length], self.values[layer, :, :, : self.length]

    def keep(self, rows: Int[Tensor, " rows"]) -> None:
        """Forget all rows but these; row ``i`` then is what row ``rows[i]`` was.

        Args:
            rows: Rows to keep, in their new order.
        """
        if self._blocks is not None:
            self._blocks = self._blocks[rows]
        self.keys, self.values = (
            self._moved(old, len(rows), self.capacity, rows) for old in (self.keys, self.values)
        )

    def reserve(self, tokens: int) -> None:
        """Make sure that more tokens fit, in larger buffers if they do not fit in these.

        Buffers grow by half at least, so what is copied stays in proportion to what is written.

        Args:
            tokens: New tokens of each row.
        """
        wanted = self.length + tokens
        if wanted <= self.capacity:
            return
        capacity = max(wanted, self.capacity * 3 // 2)
        if self._blocks is not None:
            self._blocks = F.pad(self._blocks, (0, capacity - self.capacity))
        self.keys, self.values = (
            self._moved(old, self.batch, capacity, None) for old in (self.keys, self.values)
        )

    def truncate(self, length: int) -> None:
        """Forget all but the first tokens of each row, to continue them in another way.

        Raises:
            ConfigError: If fewer are there.
        """
        if not 0 <= length <= self.length:
            raise ConfigError(
                f"cache.truncate: expected a length in [0, {self.length}], found {length}"
            )
        self.length = length

    def _moved(self, old: Tensor, batch: int, capacity: int, rows: Tensor | None) -> Tensor:
        layers, _, heads, _, head = old.shape
        new = old.new_empty((layers, batch, heads, capacity, head))
        for source, target in zip(old, new, strict=True):  # one layer at a time: the copy is small
            filled = source[:, :, : self.length]
            target[:, :, : self.length] = filled if rows is None else filled[rows]
        return new
