"""What another form of the same weights costs: two models side by side on the same replies.

The first model answers some prompts. Both then read prompt and reply, and are compared at every
token of the reply: what the second would have said there, and how sure either was.

One model need not be in memory while the other reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from kosmos.document.types import Document
from kosmos.errors import ConfigError
from kosmos.generate.generator import Generator
from kosmos.generate.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two models are apart."""

    num_tokens: int
    """Places compared: tokens of the replies."""
    same_token: float
    """Fraction of them at which both find the same token likeliest."""
    mean_kl: float
    """Kullback-Leibler divergence of the second model's distribution from the first's, in nats,
    on average."""
    mean_logit_difference: float
    """Average absolute difference of logits."""
    max_logit_difference: float
    """Largest."""
    logit_spread: float
    """Standard deviation of the first model's logits, the scale of the differences."""


@torch.inference_mode()
def read_replies(
    generator: Generator, docs: Sequence[Document], replies: Sequence[Reply]
) -> Float32[Tensor, "tokens vocab"]:
    """Scores of the next token where each token of the replies stands, on the CPU.

    Args:
        generator: The model.
        docs: Prompts.
        replies: A reply to each, of any model with the same vocabulary.
    """
    logits = []
    for doc, reply in zip(docs, replies, strict=True):
        encoded = generator.encode(doc)
        (soft,) = generator.image_cache.take([encoded.images], names=[doc.id or "document"])
        device = generator.model.device
        # the last token of a reply is not read: nothing is asked of what comes behind it
        said = torch.tensor(list(reply.token_ids[:-1]), dtype=torch.int64)
        token_ids = torch.cat([torch.from_numpy(encoded.token_ids), said])
        slots = torch.cat(
            [torch.from_numpy(encoded.image_slots), torch.zeros(len(said), dtype=torch.bool)]
        )
        hidden = generator.model(
            token_ids[None].to(device),
            image_slots=None if soft is None else slots[None].to(device),
            image_embeddings=soft,
        )
        logits.append(generator.model.logits(hidden[0, len(encoded) - 1 :]).float().cpu())
    return torch.cat(logits)


def compare_logits(
    first: Float32[Tensor, "tokens vocab"], second: Float32[Tensor, "tokens vocab"]
) -> Agreement:
    """Compare what two models said of the same places.

    Raises:
        ConfigError: If there is no place.
    """
    if not len(first):
        raise ConfigError("replies: expected at least one token to compare, found none")
    differences = (first - second).abs()
    ours, theirs = first.log_softmax(dim=-1), second.log_softmax(dim=-1)
    divergence = (ours.exp() * (ours - theirs)).sum(dim=-1)
    return Agreement(
        num_tokens=len(first),
        same_token=(first.argmax(dim=-1) == second.argmax(dim=-1)).float().mean().item(),
        mean_kl=divergence.mean().item(),
        mean_logit_difference=differences.mean().item(),
        max_logit_difference=differences.max().item(),
        logit_spread=first.std().item(),
    )
