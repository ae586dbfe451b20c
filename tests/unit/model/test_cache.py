"""The cache keeps what it is given, in the order asked for, and remembers padding."""

import pytest
import torch

from kosmos.errors import ConfigError
from kosmos.model.cache import KVCache
from kosmos.model.config import DecoderConfig

CONFIG = DecoderConfig(vocab_size=8, width=6, num_layers=2, num_heads=3, ffn_width=4)


def _filled(batch=3, tokens=4, capacity=7, valid=None):
    cache = KVCache(CONFIG, batch=batch, capacity=capacity)
    cache.extend(tokens, valid)
    states = torch.randn(2, 2, batch, 3, tokens, 2)
    for layer in range(2):
        cache.append(layer, *states[layer])
    return cache, states


def test_appending_returns_everything_so_far():
    cache, states = _filled()
    cache.extend(2)
    more = torch.randn(2, 3, 3, 2, 2)
    keys, values = cache.append(1, *more)
    assert cache.length == 6
    assert torch.equal(keys, torch.cat([states[1, 0], more[0]], dim=2))
    assert torch.equal(values, torch.cat([states[1, 1], more[1]], dim=2))


def test_nothing_is_allocated_after_construction():
    cache, _ = _filled()
    before = cache.keys.data_ptr(), cache.values.data_ptr()
    cache.extend(3)
    keys, _ = cache.append(0, *torch.randn(2, 3, 3, 3, 2))
    cache.reserve(0)
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == before
    assert keys.data_ptr() == before[0], "attention reads the buffer itself"


@pytest.mark.parametrize("rows", [[2, 0, 1], [0], [1, 2]])
def test_rows_that_are_kept_move_with_their_padding(rows):
    valid = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]]).bool()
    cache, states = _filled(valid=valid)
    cache.keep(torch.tensor(rows))
    assert cache.batch == len(rows)
    for layer in range(2):
        assert torch.equal(cache.keys[layer, :, :, :4], states[layer, 0][rows])
        assert torch.equal(cache.values[layer, :, :, :4], states[layer, 1][rows])
    assert torch.equal(cache.valid, valid[rows])
    assert cache.next_positions().flatten().tolist() == valid[rows].sum(1).tolist()
    cache.extend(3)
    assert cache.capacity == 7


@pytest.mark.parametrize("valid", [None, torch.tensor([[0, 1, 1, 1]] * 3).bool()])
def test_reserving_more_than_there_is_keeps_what_was_written(valid):
    cache, states = _filled(valid=valid)
    cache.reserve(3)
    assert cache.capacity == 7
    cache.reserve(4)
    assert cache.capacity == 10, "half as much again, though one more would do"
    for layer in range(2):
        assert torch.equal(cache.keys[layer, :, :, :4], states[layer, 0])
        assert torch.equal(cache.values[layer, :, :, :4], states[layer, 1])
    cache.extend(4)
    if valid is not None:
        assert torch.equal(cache.valid, torch.cat([valid, torch.ones(3, 4).bool()], dim=1))


def test_padding_may_appear_late():
    cache, _ = _filled(batch=2)
    assert cache.valid is None
    cache.extend(2, torch.tensor([[True, False], [True, True]]))
    assert cache.valid.tolist() == [[True] * 5 + [False], [True] * 6]
    cache.extend(1)
    assert cache.next_positions().tolist() == [[6], [7]]


def test_a_full_cache_says_so():
    cache, _ = _filled()
    with pytest.raises(ConfigError, match="at most 7 tokens, found 4 written and 4 more"):
        cache.extend(4)
    assert cache.length == 4, "a refused extension leaves the cache as it was"
    with pytest.raises(ConfigError, match=r"cache\.capacity: expected a positive number, found 0"):
        KVCache(CONFIG, batch=1, capacity=0)


def test_truncation_forgets_the_end():
    cache, states = _filled(valid=torch.tensor([[0, 1, 1, 1]] * 3).bool())
    cache.truncate(2)
    assert (cache.length, cache.next_positions().flatten().tolist()) == (2, [1, 1, 1])
    cache.extend(1)
    more = torch.randn(2, 3, 3, 1, 2)
    keys, _ = cache.append(0, *more)
    assert torch.equal(keys, torch.cat([states[0, 0][:, :, :2], more[0]], dim=2))
    with pytest.raises(ConfigError, match=r"expected a length in \[0, 3\], found 4"):
        cache.truncate(4)
