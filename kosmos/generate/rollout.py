"""A batch of prompts read once and continued token by token: the only caller of the cached model.

Prompts of unequal length are padded on the left, padding is never attended to and takes no
position, so a row means the same in any company. Between steps rows may leave, be exchanged or be
multiplied; the cache follows.

- :class:`Prompt`: one row to continue
- :class:`Rows`: what a search needs of a model
- :class:`Rollout`: that, over a :class:`~kosmos.model.kosmos.Kosmos`
- :func:`token_log_probs`: log-probabilities of given tokens, without holding all logits
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kosmos.document.encode import Encoded
from kosmos.errors import CheckpointError
from kosmos.model.cache import KVCache
from kosmos.model.kosmos import Kosmos

_CHUNK_TOKENS = 256
"""Positions whose logits exist at once while scoring; 64 MiB of float32 with 65,037 ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One row to continue."""

    encoded: Encoded
    """Its tokens."""
    soft_tokens: Float[Tensor, "images queries width"] | None
    """Its images, encoded; None if it has none."""
    name: str
    """What to call it in messages."""

    @property
    def token_ids(self) -> list[int]:
        """Ids as plain numbers."""
        return [int(token_id) for token_id in self.encoded.token_ids]


@runtime_checkable  # so that shape checks in tests can look at it
class Rows(Protocol):
    """Rows that grow by one token at a time, and the log-probabilities of the next one."""

    log_probs: Float[Tensor, "rows vocab"]
    """Of the token after each prompt, float32."""

    def step(self, rows: Sequence[int], token_ids: Sequence[int]) -> Float[Tensor, "rows vocab"]:
        """Make row ``i`` the old row ``rows[i]`` continued with ``token_ids[i]``.

        Rows not named leave; a row named twice is continued twice.

        Returns:
            Log-probabilities of the next token of each new row.
        """
        ...


class Rollout:
    """:class:`Rows` over a model with a cache.

    Args:
        model: In evaluation mode.
        prompts: What to continue; at least one.
        room: Most tokens that will be stepped over.
        score_prompts: Also add up the log-probabilities of the prompts.

    Raises:
        CheckpointError: If a logit is not finite, naming the step and the prompt.
    """

    log_probs: Tensor
    prompt_log_probs: list[float]
    """Sum over each prompt's tokens after ``<s>``; zeros unless asked for."""

    def __init__(
        self, model: Kosmos, prompts: Sequence[Prompt], *, room: int, score_prompts: bool = False
    ) -> None:
        self._model = model
        self._names = [prompt.name for prompt in prompts]
        self._origin = list(range(len(prompts)))
        self._step = 0
        hidden, self._cache = read_prompts(model, prompts, room=room)
        self._prompt_length = self._cache.length
        self.log_probs = self._next(hidden[:, -1])
        self.prompt_log_probs = [0.0] * len(prompts)
        if score_prompts:
            for row, prompt in enumerate(prompts):
                # one row at a time, its left padding cut off
                own = hidden[row, -len(prompt.encoded) : -1]
                targets = torch.as_tensor(prompt.encoded.token_ids[1:], device=own.device)
                self.prompt_log_probs[row] = float(token_log_probs(model, own, targets).sum())

    def step(self, rows: Sequence[int], token_ids: Sequence[int]) -> Float[Tensor, "rows vocab"]:
        """As :class:`Rows` says."""
        self._step += 1
        device = self._cache.keys.device
        if list(rows) != list(range(self._cache.batch)):
            origin = [self._origin[row] for row in rows]
            shared = self._prompt_length if origin == self._origin else 0
            self._cache.reorder(torch.tensor(rows, device=device), shared_tokens=shared)
            self._origin = origin
        ids = torch.tensor(token_ids, device=device).unsqueeze(1)
        return self._next(self._model(ids, cache=self._cache)[:, -1])

    def _next(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocab"]:
        logits = self._model.logits(hidden).float()
        finite = logits.isfinite().all(dim=-1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            found = "NaN" if bool(logits[row].isnan().any()) else "infinity"
            raise CheckpointError(
                f"{self._names[self._origin[row]]}: expected finite logits, found {found} "
                f"at step {self._step} (0 is the first token of the reply)",
                hint="the weights hold such numbers, or overflow in a 16-bit dtype: try float32",
            )
        return logits.log_softmax(dim=-1)


def read_prompts(
    model: Kosmos, prompts: Sequence[Prompt], *, room: int
) -> tuple[Float[Tensor, "batch tokens width"], KVCache]:
    """Read a batch of prompts in one pass, padded on the left.

    Args:
        model: In evaluation mode.
        prompts: At least one.
        room: Tokens that the cache shall have space for behind the prompts.
    """
    weight = model.head_weight
    longest = max(len(prompt.encoded) for prompt in prompts)
    shape = (len(prompts), longest)
    token_ids = torch.full(shape, model.config.decoder.pad_id)
    slots, valid = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    for row, prompt in enumerate(prompts):
        start = longest - len(prompt.encoded)
        token_ids[row, start:] = torch.as_tensor(prompt.encoded.token_ids)
        slots[row, start:] = torch.as_tensor(prompt.encoded.image_slots)
        valid[row, start:] = True
    soft = [prompt.soft_tokens for prompt in prompts if prompt.soft_tokens is not None]
    cache = KVCache(
        model.config.decoder,
        batch=len(prompts),
        capacity=longest + room,
        dtype=weight.dtype,
        device=weight.device,
    )
    hidden = model(
        token_ids.to(weight.device),
        image_slots=slots.to(weight.device) if soft else None,
        image_embeddings=torch.cat(soft) if soft else None,
        valid=None if bool(valid.all()) else valid.to(weight.device),
        cache=cache,
    )
    return hidden, cache


def token_log_probs(
    model: Kosmos, hidden: Float[Tensor, "*rows width"], targets: Int[Tensor, "*rows"]
) -> Float[Tensor, "*rows"]:
    """Log-probability of each target given the hidden state before it, float32."""
    flat, wanted = hidden.flatten(0, -2), targets.flatten()
    found = torch.empty(wanted.shape, device=hidden.device)
    for start in range(0, len(wanted), _CHUNK_TOKENS):
        chunk = slice(start, start + _CHUNK_TOKENS)
        log_probs = model.logits(flat[chunk]).float().log_softmax(dim=-1)
        found[chunk] = log_probs.gather(1, wanted[chunk].unsqueeze(1)).squeeze(1)
    return found.view(targets.shape)
