"""Drawing tokens: frequencies, filters, and independence of the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos import runtime
from kosmos.generate import sampling
from kosmos.generate.config import Decoding
from kosmos.generate.sampling import choose, draw


def log_probs(rows: int, vocab: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def test_zero_temperature_takes_the_likeliest():
    values = log_probs(5, 11, 0)
    assert choose(values, Decoding(), []) == values.argmax(-1).tolist()


def test_draws_have_the_frequencies_of_the_distribution():
    values = log_probs(1, 6, 1).expand(40_000, -1)
    uniform = torch.from_numpy(np.random.default_rng(0).random(40_000))
    tokens = draw(values, Decoding(temperature=0.5), uniform)
    found = torch.bincount(tokens, minlength=6) / 40_000
    expected = (values[0] / 0.5).softmax(-1)
    # three standard deviations of a share from 40,000 draws are at most 0.0075
    assert (found - expected).abs().max() < 0.0075


@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.05, 1.0), st.floats(0.0, 0.999999))
@settings(max_examples=60)
def test_a_drawn_token_lies_in_top_k_and_top_p(seed, top_k, top_p, number):
    values = log_probs(1, 9, seed)
    decoding = Decoding(temperature=1.3, top_k=top_k, top_p=top_p)
    token = int(draw(values, decoding, torch.tensor([number], dtype=torch.float64)))
    scaled = (values[0].double() / 1.3).softmax(-1)
    order = scaled.argsort(descending=True)[:top_k]
    kept = scaled[order] / scaled[order].sum()
    size = int((kept.cumsum(0) - kept < top_p).sum())
    assert token in order[:size].tolist()


@given(
    st.integers(0, 10**6),
    st.floats(0.3, 2.0),
    st.sampled_from([0, 1, 3, 7, 30, 90]),
    st.sampled_from([1.0, 0.9, 0.5, 0.01]),
    st.sampled_from([None, 1, 4]),
)
@settings(max_examples=60)
def test_looking_at_the_likeliest_first_draws_what_sorting_all_draws(
    seed, temperature, top_k, top_p, steps
):
    values = log_probs(64, 40, seed)
    if steps:
        values = (values * steps).round() / steps  # equal ones are common
    values[:, seed % 40] = float("-inf")
    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    uniform = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_HEADS", ())
        wanted = draw(values, decoding, uniform)
        patch.setattr(sampling, "_HEADS", (2, 5, 20))
        found = draw(values, decoding, uniform)
    assert torch.equal(found, wanted)


def test_equally_likely_tokens_stand_in_order_of_id():
    values = torch.zeros(1, 6).log_softmax(-1).expand(6, -1)
    uniform = (torch.arange(6, dtype=torch.float64) + 0.5) / 6
    assert draw(values, Decoding(temperature=0.8), uniform).tolist() == list(range(6))


def test_a_forbidden_token_is_never_drawn():
    values = log_probs(1, 4, 2)
    values[0, [0, 2]] = float("-inf")
    uniform = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    tokens = draw(values.expand(101, -1), Decoding(temperature=2.0), uniform)
    assert set(tokens.tolist()) == {1, 3}


def test_a_row_draws_the_same_in_any_batch():
    values = log_probs(4, 50, 3)
    decoding = Decoding(temperature=1.0, top_p=0.9)

    def rngs() -> list[np.random.Generator]:
        return [runtime.generator(7, "sample", str(row)) for row in range(4)]

    together = choose(values, decoding, rngs())
    alone = [choose(values[row : row + 1], decoding, rngs()[row : row + 1])[0] for row in range(4)]
    assert together == alone
