"""Who attends to whom: worked out once per forward pass, and shared by all layers.

Four tokens of two sequences packed into one row, isolated (left), and one sequence padded on the
left by two (right); ``x`` attends. Padding attends to itself, so that no row of a softmax is empty
and no output is NaN, whatever the kernel; nothing else attends to it::

      a b | c d          - - | a b
    a x                - x
    b x x              -   x
    c       x          a       x
    d       x x        b       x x

On a CPU isolated sequences are cut out of their rows and attended to one after the other, which
skips what the mask would hide: rows of 2,048 with twenty sequences take a tenth of the time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kosmos.model.positions import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What every decoder layer of one forward pass shares."""

    mask: Float[Tensor, "#batch 1 tokens length"] | None
    """Added to the scores: 0 or -inf. None: nothing but causality."""
    is_causal: bool
    """Plain causal attention, for which kernels have a path that skips half of the work."""
    rotation: Rotation | None
    """xPos, if that is how the decoder knows positions."""
    lengths: Int[Tensor, " sequences"] | None = None
    """Of the sequences that lie side by side, row after row, each of which attends to itself
    alone, causally; None: they are not cut apart. A tensor, so that a compiled layer does not
    depend on the numbers."""

    def sees(self, batch: int, tokens: int) -> Bool[Tensor, "batch tokens length"]:
        """Whether each new token attends to each; without a cache."""
        if self.mask is not None:
            return (self.mask[:, 0] == 0).expand(batch, tokens, -1)
        causal = torch.ones(batch, tokens, tokens, dtype=torch.bool).tril()
        if self.lengths is None:
            return causal
        numbers = torch.arange(len(self.lengths)).repeat_interleave(self.lengths)
        numbers = numbers.view(batch, tokens)
        return causal & (numbers[:, :, None] == numbers[:, None, :])


def causal_pattern(
    tokens: int,
    *,
    segments: Int[Tensor, "batch tokens"] | None,
    valid: Bool[Tensor, "batch length"] | None,
    past: int,
    rotation: Rotation | None,
    like: Tensor,
    visible: Bool[Tensor, "batch tokens length"] | None = None,
) -> Pattern:
    """Work out who attends to whom.

    Args:
        tokens: New tokens of each row.
        segments: Sequence each token belongs to; None: all of a row is one.
        valid: False on padding, for past and new tokens; None: nothing is padding.
        past: Cached tokens before the new ones.
        rotation: Passed through.
        like: Gives dtype and device.
        visible: What each new token attends to, itself included; None: what causality allows.
    """
    if visible is not None:
        return Pattern(mask=_scores(visible, like), is_causal=False, rotation=rotation)
    if segments is None and valid is None:
        if past == 0:
            return Pattern(mask=None, is_causal=True, rotation=rotation)
        if tokens == 1:
            return Pattern(mask=None, is_causal=False, rotation=rotation)
    is_near = rotation is None or rotation.blocks is None
    is_on_cpu = like.device.type == "cpu"
    if segments is not None and valid is None and past == 0 and is_on_cpu and is_near:
        lengths = None if torch.compiler.is_compiling() else _lengths(segments)
        if lengths is not None:
            return Pattern(mask=None, is_causal=True, rotation=rotation, lengths=lengths)
    steps = torch.arange(past + tokens, device=like.device)
    rows = steps[past:, None]
    allowed = (steps <= rows)[None]  # [1 tokens length]
    if segments is not None:
        allowed = allowed & (segments[:, :, None] == segments[:, None, :])
    if valid is not None:
        allowed = (allowed & valid[:, None, :]) | (steps == rows)
    return Pattern(mask=_scores(allowed, like), is_causal=False, rotation=rotation)


def _lengths(segments: Int[Tensor, "batch tokens"]) -> Int[Tensor, " sequences"] | None:
    """Lengths of the sequences of all rows; None if one of them comes in two parts."""

    def begins(numbers: Tensor) -> Tensor:
        return F.pad(numbers[:, 1:] != numbers[:, :-1], (1, 0), value=True)

    starts = begins(segments)
    if int(starts.sum()) != int(begins(segments.sort(dim=1).values).sum()):
        return None
    places = starts.flatten().nonzero().squeeze(1)
    return places.diff(append=places.new_tensor([segments.numel()]))


def _scores(
    allowed: Bool[Tensor, "#batch tokens length"], like: Tensor
) -> Float[Tensor, "#batch 1 tokens length"]:
    # a float mask once, or the kernel would turn a bool one into it in every layer
    mask = torch.zeros_like(allowed, dtype=like.dtype).masked_fill(~allowed, float("-inf"))
    return mask.unsqueeze(1)
