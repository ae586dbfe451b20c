"""A tree means what its sequences mean alone, and holds what they share once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.document.encode import Encoded
from kosmos.generate.generator import Generator
from kosmos.generate.rollout import read_trees
from kosmos.generate.tree import Prompt, grow
from kosmos.model.cache import KVCache
from tests.unit.generate.random_models import make_generator, make_model

# float32 on CPU; worst seen 3e-6 (2026-11-21, torch 2.13). A wrong position or a slot too many
# moves hidden states by more than 0.01.
TOLERANCE = 1e-5
QUERIES = 4
PICTURES = torch.randn(3, QUERIES, 32, generator=torch.Generator().manual_seed(0))


def sequence(symbols: list[int]) -> Prompt:
    """Words as positive numbers, pictures as negative ones, behind ``<s>``."""
    ids, slots, soft = [0], [False], []
    for symbol in symbols:
        if symbol >= 0:
            ids.append(10 + symbol)
            slots.append(False)
        else:
            ids += range(4, 4 + QUERIES)
            slots += [True] * QUERIES
            soft.append(PICTURES[-1 - symbol])
    return Prompt(
        encoded=Encoded(
            token_ids=np.array(ids),
            image_slots=np.array(slots),
            loss_mask=np.zeros(len(ids), np.bool_),
            images=(),
            image_sizes=(),
        ),
        soft_tokens=torch.stack(soft) if soft else None,
        name="sequence",
    )


SYMBOLS = st.lists(st.integers(-3, 2), max_size=6)
GROUPS = st.lists(st.lists(SYMBOLS, min_size=1, max_size=4), min_size=1, max_size=3)


@pytest.fixture(scope="module", params=["sinusoidal", "xpos"])
def model(request, tokenizer) -> Generator:
    model = make_model(tokenizer.vocabulary.size, seed=1, positions=request.param)
    return make_generator(tokenizer, model)


@settings(max_examples=40)
@given(groups=GROUPS)
@torch.inference_mode()
def test_states_along_each_sequence_are_those_of_reading_it_alone(model, groups):
    sequences = [[sequence(symbols) for symbols in group] for group in groups]
    hidden, batch = read_trees(model.model, [grow(group) for group in sequences])
    everyone = [prompt for group in sequences for prompt in group]
    for index, prompt in enumerate(everyone):
        slots = torch.from_numpy(prompt.encoded.image_slots)[None]
        alone = model.model(
            torch.tensor([prompt.token_ids]), image_slots=slots, image_embeddings=prompt.soft_tokens
        )[0]
        assert (batch.states(hidden, index) - alone).abs().max() < TOLERANCE
        assert (batch.ends(hidden)[index] - alone[-1]).abs().max() < TOLERANCE


@settings(max_examples=60)
@given(group=st.lists(SYMBOLS, min_size=1, max_size=5))
def test_a_tree_holds_every_sequence_and_every_beginning_once(group):
    sequences = [sequence(symbols) for symbols in group]
    tree = grow(sequences)
    beginnings = {
        tuple(symbols_of(symbols)[:end])
        for symbols in group
        for end in range(len(symbols_of(symbols)) + 1)
    }
    assert len(tree) == len(beginnings)
    for prompt, path in zip(sequences, tree.paths, strict=True):
        assert tree.token_ids[path].tolist() == prompt.token_ids
        assert tree.image_slots[path].tolist() == prompt.encoded.image_slots.tolist()
        assert tree.parents[path].tolist() == [-1, *path[:-1].tolist()]
        assert tree.positions()[path].tolist() == list(range(len(path)))
        assert np.flatnonzero(tree.visible()[path[-1]]).tolist() == sorted(path.tolist())
    num_images = 0 if tree.soft_tokens is None else len(tree.soft_tokens)
    assert num_images * QUERIES == tree.image_slots.sum()


def symbols_of(symbols: list[int]) -> list[tuple[int, int]]:
    """One entry for each token behind ``<s>``."""
    return [(s, i) for s in symbols for i in range(QUERIES if s < 0 else 1)]


@torch.inference_mode()
def test_a_cache_holds_a_shared_beginning_once(model):
    group = [sequence([-1, -2, word]) for word in range(3)]
    tree = grow(group)
    assert len(tree) == 1 + 2 * QUERIES + 3
    cache = KVCache(model.model.config.decoder, batch=1, capacity=len(tree))
    read_trees(model.model, [tree], cache=cache)
    assert (cache.batch, cache.length) == (1, len(tree))
