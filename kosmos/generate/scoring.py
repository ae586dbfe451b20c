"""How likely a model finds given continuations of a prompt.

The prompt is read once, whatever the number of continuations; these are read in batches behind
it. The result is that of reading prompt and continuation as one row, to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kosmos.errors import ConfigError
from kosmos.generate.reply import Score
from kosmos.generate.rollout import Prompt, read_prompts, token_log_probs
from kosmos.model.kosmos import Kosmos


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """Tokens that may follow a prompt."""

    token_ids: Int64[np.ndarray, " tokens"]
    """Ids; at least one."""
    image_slots: Bool[np.ndarray, " tokens"]
    """True where a soft image token stands."""
    counted: Bool[np.ndarray, " tokens"]
    """True at tokens whose log-probability counts: words, not images."""
    soft_tokens: Float[Tensor, "images queries width"] | None
    """Its images, encoded; None if it has none."""
    name: str
    """What to call it in messages."""


def score_continuations(
    model: Kosmos, prompt: Prompt, continuations: Sequence[Continuation], *, batch_size: int
) -> list[Score]:
    """Log-probability of each continuation behind the prompt.

    Args:
        model: In evaluation mode.
        prompt: What they follow; its images are encoded already.
        continuations: Any number.
        batch_size: Most of them read at once.

    Raises:
        ConfigError: If a continuation has no token that counts.
    """
    for item in continuations:
        if not item.counted.any():
            raise ConfigError(
                f"{item.name}: expected at least one token to score, found none",
                hint="a candidate needs words",
            )
    if not continuations:
        return []
    longest = max(len(item.token_ids) for item in continuations)
    hidden, cache = read_prompts(model, [prompt], room=longest - 1)
    scores = []
    for first in range(0, len(continuations), batch_size):
        batch = continuations[first : first + batch_size]
        cache.truncate(len(prompt.encoded))
        cache.reorder(torch.zeros(len(batch), dtype=torch.long, device=hidden.device))
        token_ids, slots, counted = _padded(batch, hidden.device)
        states = hidden[:, -1:].expand(len(batch), -1, -1)
        if token_ids.shape[1] > 1:
            soft = [item.soft_tokens for item in batch if item.soft_tokens is not None]
            # padding stands on the right, where nothing that counts can see it
            later = model(
                token_ids[:, :-1],
                image_slots=slots[:, :-1] if soft else None,
                image_embeddings=torch.cat(soft) if soft else None,
                cache=cache,
            )
            states = torch.cat([states, later], dim=1)
        log_probs = torch.zeros(token_ids.shape, device=hidden.device)
        log_probs[counted] = token_log_probs(model, states[counted], token_ids[counted])
        sums, counts = log_probs.double().sum(dim=1).tolist(), counted.sum(dim=1).tolist()
        scores += [
            Score(logprob=total, num_tokens=count)
            for total, count in zip(sums, counts, strict=True)
        ]
    return scores


def _padded(batch: Sequence[Continuation], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, image slots and counted tokens as [batch tokens], filled up on the right."""
    shape = (len(batch), max(len(item.token_ids) for item in batch))
    token_ids = torch.zeros(shape, dtype=torch.long)
    slots, counted = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    for row, item in enumerate(batch):
        end = len(item.token_ids)
        token_ids[row, :end] = torch.as_tensor(item.token_ids)
        slots[row, :end] = torch.as_tensor(item.image_slots)
        counted[row, :end] = torch.as_tensor(item.counted)
    return token_ids.to(device), slots.to(device), counted.to(device)
