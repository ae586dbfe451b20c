"""Whether both sides did the same work: a comparison of times means nothing without.

In float32 tokens must be the same. Where they part, the peer's own logits must say that the two
tokens are as likely as each other but for rounding; behind such a tie the replies are different
prompts and are not compared. In 16 bits the tolerance is that of 16 bits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.measure import DisagreementError
from benchmarks.harness.peer import Peer
from kosmos.files import Json
from kosmos.generate.reply import Reply

TIES = {"float32": 2e-4, "bfloat16": 0.05, "float16": 0.01}
"""Difference of two logits that is rounding, as a fraction of the largest."""


def greedy(
    peer: Peer, prompts: Sequence[tuple[Path | None, str]], replies: Sequence[Reply], dtype: str
) -> dict[str, Json]:
    """Compare greedy replies with the peer's, each prompt alone.

    Alone, because the peer shifts the positions of a prompt that it pads.

    Raises:
        DisagreementError: If a reply has other tokens.
    """
    same = total = 0
    for number, ((photo, text), reply) in enumerate(zip(prompts, replies, strict=True)):
        ours = list(reply.token_ids)
        inputs = peer.inputs([photo], [text]) if photo is not None else words(peer, text)
        found = peer.generate(
            inputs, num_tokens=len(ours), return_dict_in_generate=True, output_logits=True
        )
        theirs = found.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        total += len(ours)
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one != other:
                logits = found.logits[index][0].float()
                gap = (logits[other] - logits[one]).item() / logits.abs().max().item()
                if gap > TIES[dtype]:
                    raise DisagreementError(
                        f"reply {number}, token {index}: expected {other} as the peer, found "
                        f"{one}, whose logit is {gap:.1e} of the largest below it"
                    )
                break
            same += 1
    return {"same tokens": same, "tokens compared": total}


def words(peer: Peer, text: str) -> dict[str, Tensor]:
    """A prompt without a picture, as the processor lays it out."""
    made = peer.processor(text=[text], return_tensors="pt")
    return {"input_ids": made["input_ids"].to(peer.device)}


def rows(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]], what: str) -> None:
    """Compare rows of ids exactly.

    Raises:
        DisagreementError: Naming the first row that differs.
    """
    if len(ours) != len(theirs):
        raise DisagreementError(
            f"{what}: expected {len(theirs)} rows as the peer, found {len(ours)}"
        )
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if list(one) != list(other):
            raise DisagreementError(
                f"{what} {number}: expected {list(other)!r:.80} as the peer, "
                f"found {list(one)!r:.80}"
            )


def numbers(ours: Sequence[float], theirs: Sequence[float], what: str, tolerance: float) -> float:
    """Compare log-probabilities.

    Returns:
        The largest difference.

    Raises:
        DisagreementError: If one differs by more than the tolerance times its size.
    """
    if len(ours) != len(theirs):
        raise DisagreementError(f"{what}: expected {len(theirs)} as the peer, found {len(ours)}")
    largest = 0.0
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        difference = abs(one - other)
        if not difference <= tolerance * max(1.0, abs(other)):
            raise DisagreementError(
                f"{what} {number}: expected {other:.6f} as the peer, found {one:.6f}"
            )
        largest = max(largest, difference)
    return largest


def beams(reply: Reply, found: Any, *, num_tokens: int, dtype: str) -> dict[str, Json]:  # noqa: ANN401
    """Compare the best of a beam search: the same tokens, or others that are as likely.

    Args:
        reply: Ours.
        found: The peer's, with ``sequences_scores``.
        num_tokens: Of both.
        dtype: Of the weights.

    Raises:
        DisagreementError: If the log-probabilities differ by more than rounding.
    """
    theirs = found.sequences[0, -num_tokens:].tolist()
    is_same = list(reply.token_ids) == theirs
    difference = abs(reply.logprob / num_tokens - found.sequences_scores[0].item())
    if difference > TIES[dtype] or (dtype == "float32" and not is_same and difference > 1e-5):
        raise DisagreementError(
            f"beams: expected {theirs!r:.80} as the peer, found {list(reply.token_ids)!r:.80}, "
            f"{difference:.1e} nats per token apart"
        )
    return {"same tokens": is_same, "nats per token apart": difference}


@torch.inference_mode()
def log_prob(peer: Peer, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """What the peer's weights make of some words behind others."""
    token_ids = torch.tensor([[*prompt, *answer]], device=peer.device)
    logits = peer.model.text_model(token_ids, logits_to_keep=len(answer) + 1).logits
    log_probs = logits[0, :-1].float().log_softmax(-1)
    return float(log_probs.gather(1, token_ids[0, -len(answer) :, None]).sum())


def tensors(ours: Tensor, theirs: Tensor, what: str, tolerance: float) -> float:
    """Compare two tensors of one shape.

    Returns:
        The largest difference, as a fraction of the largest of the peer's numbers.

    Raises:
        DisagreementError: If it is more than the tolerance.
    """
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if not difference <= tolerance:
        raise DisagreementError(
            f"{what}: expected the peer's but for {tolerance:.0e} of the largest, found "
            f"{difference:.1e}"
        )
    return difference
