"""The chunked loss has the value and the gradients of plain cross entropy, and not its memory."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.model.loss import token_loss


def _problem(batch, tokens, vocab, width, seed, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, tokens, width, generator=rng, dtype=dtype)
    head = torch.randn(vocab, width, generator=rng, dtype=dtype)
    targets = torch.randint(0, vocab, (batch, tokens), generator=rng)
    weights = torch.rand(batch, tokens, generator=rng, dtype=dtype)
    weights = weights * (torch.rand(batch, tokens, generator=rng) < 0.6)
    return hidden.requires_grad_(), head.requires_grad_(), targets, weights


def _plain(hidden, head, targets, weights):
    losses = F.cross_entropy((hidden @ head.T).flatten(0, -2), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum()


@settings(max_examples=40)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 12), st.integers(1, 30), st.integers(0, 99)
)
def test_value_and_gradients_are_those_of_cross_entropy(batch, tokens, vocab, chunk, seed):
    hidden, head, targets, weights = _problem(batch, tokens, vocab, 5, seed)
    expected = torch.autograd.grad(3.5 * _plain(hidden, head, targets, weights), (hidden, head))
    loss = token_loss(hidden, head, targets, weights, chunk_tokens=chunk)
    found = torch.autograd.grad(3.5 * loss, (hidden, head))
    torch.testing.assert_close(loss, _plain(hidden, head, targets, weights), atol=1e-10, rtol=0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("which", [0, 1])
def test_either_side_may_be_frozen(which):
    hidden, head, targets, weights = _problem(2, 6, 11, 4, 0)
    (hidden, head)[which].requires_grad_(False)
    learns = (hidden, head)[1 - which]
    expected = torch.autograd.grad(_plain(hidden, head, targets, weights), learns)[0]
    found = torch.autograd.grad(token_loss(hidden, head, targets, weights), learns)[0]
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)


def test_two_backward_passes_add_up():
    hidden, head, targets, weights = _problem(2, 6, 11, 4, 1)
    loss = token_loss(hidden, head, targets, weights, chunk_tokens=4)
    (2 * loss).backward(retain_graph=True)
    first = head.grad.clone()
    (2 * loss).backward()
    torch.testing.assert_close(head.grad, 2 * first)


def test_targets_without_weight_are_not_read():
    hidden, head, targets, weights = _problem(2, 6, 11, 4, 2)
    ignored = torch.where(weights > 0, targets, -100)
    assert token_loss(hidden, head, ignored, weights) == token_loss(hidden, head, targets, weights)


def test_no_weight_is_no_loss_and_no_gradient():
    hidden, head, targets, weights = _problem(2, 6, 11, 4, 3)
    loss = token_loss(hidden, head, targets, torch.zeros_like(weights))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not hidden.grad.any()
    assert not head.grad.any()


def test_scores_far_from_zero_stay_finite_and_half_precision_sums_in_float32():
    hidden, head, targets, weights = _problem(2, 6, 11, 4, 4, dtype=torch.float32)
    loss = token_loss(hidden * 1e4, head, targets, weights)
    assert loss.isfinite()
    half = [t.detach().bfloat16().requires_grad_() for t in (hidden, head)]
    found = token_loss(*half, targets, weights)
    assert found.dtype == torch.float32
    expected = _plain(half[0].float(), half[1].float(), targets, weights)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=0.02)
    found.backward()
    reference = torch.autograd.grad(expected, half[1])[0]
    assert half[1].grad.dtype == torch.bfloat16
    torch.testing.assert_close(half[1].grad, reference, atol=0.1, rtol=0.05)


def test_autocast_multiplies_in_half_precision():
    hidden, head, targets, weights = _problem(2, 6, 11, 4, 5, dtype=torch.float32)
    exact = token_loss(hidden, head, targets, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_loss(hidden, head, targets, weights)
    assert found.dtype == torch.float32
    assert found != exact
    assert float(found.detach()) == pytest.approx(float(exact.detach()), rel=0.02)
    found.backward()
    assert head.grad.dtype == torch.float32


def test_no_tensor_holds_more_than_a_chunk_of_logits():
    hidden, head, targets, _ = _problem(4, 64, 97, 8, 6)
    weights = torch.ones(4, 64, dtype=torch.float64)
    biggest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal biggest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and 97 in out.shape[-1:]:
                biggest = max(biggest, out.shape[0])
            return out

    with Watch():
        token_loss(hidden, head, targets, weights, chunk_tokens=16).backward()
    assert biggest == 16


def test_a_vocabulary_of_several_blocks_has_the_loss_of_cross_entropy():
    hidden, head, targets, weights = _problem(2, 7, 1300, 6, 7)
    expected = torch.autograd.grad(_plain(hidden, head, targets, weights), (hidden, head))
    loss = token_loss(hidden, head, targets, weights, chunk_tokens=5)
    torch.testing.assert_close(loss, _plain(hidden, head, targets, weights), atol=1e-10, rtol=0)
    found = torch.autograd.grad(loss, (hidden, head))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_a_target_whose_probability_underflows_has_its_loss_all_the_same():
    hidden = torch.tensor([[1.0]], requires_grad=True)
    head = torch.tensor([[200.0], [0.0], [199.0]])
    loss = token_loss(hidden, head, torch.tensor([1]), torch.ones(1))
    expected = F.cross_entropy(hidden @ head.T, torch.tensor([1]))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert float(loss.detach()) > 200.0
