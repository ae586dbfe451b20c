"""Regions are read off token ids; the contrast teaches the tower and nothing else."""

import numpy as np
import torch

from kosmos.data.batch import Batch
from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig
from kosmos.model.kosmos import Kosmos
from kosmos.text.vocabulary import Vocabulary
from kosmos.train.regions import RegionContrast, find_regions

VOCABULARY = Vocabulary(num_pieces=40, num_cells=4)
V = VOCABULARY
CONFIG = ModelConfig(
    decoder=DecoderConfig(vocab_size=V.size, width=16, num_layers=1, num_heads=2, ffn_width=32),
    vision=VisionConfig(
        image_size=16, patch_size=4, width=16, num_layers=1, num_heads=2, ffn_width=32
    ),
    connector=ConnectorConfig(num_queries=2, num_heads=2, width=16),
)


def batch() -> Batch:
    """Two rows, a picture each: a phrase with two boxes; then words and no box."""
    boxes = [(0, 5), (15, 15)]
    pairs = [[V.location_id(a), V.location_id(b)] for a, b in boxes]
    grounded = [V.phrase_id, 10, 11, V.phrase_end_id, V.object_id, *pairs[0], V.delimiter_id]
    grounded += [*pairs[1], V.object_end_id]
    image = [V.image_id, V.image_id, V.image_id, V.image_end_id]
    plain = [12] * len(grounded)
    token_ids = np.array([[0, *image, *words] for words in (grounded, plain)], dtype=np.int64)
    slots = np.zeros(token_ids.shape, dtype=bool)
    slots[:, 2:4] = True
    return Batch(
        stream="grounded",
        token_ids=token_ids,
        targets=token_ids,
        loss_weights=np.ones(token_ids.shape, dtype=np.float32),
        positions=np.zeros_like(token_ids),
        segments=None,
        image_slots=slots,
        pixels=np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32),
        document_ids=("a", "b"),
        documents=np.array([[0], [1]], dtype=np.int32).repeat(token_ids.shape[1] + 1, axis=1),
    )


def test_patches_in_a_box_must_pick_its_words_and_its_places() -> None:
    regions = find_regions(batch(), V, patches_per_side=4)
    # cells 0 to 5 of a 4 x 4 grid are the top left quarter; 15 is the last cell
    assert regions.patches.tolist() == [0, 1, 4, 5, 15]
    assert set(regions.images.tolist()) == {0}
    picks = [regions.token_ids[regions.rows == row].tolist() for row in range(5)]
    assert picks[0] == [10, 11, V.location_id(0), V.location_id(5)]
    assert picks[4] == [10, 11, V.location_id(15), V.location_id(15)]


def test_every_box_counts_the_same_however_many_patches_it_has() -> None:
    regions = find_regions(batch(), V, patches_per_side=4)
    of_first = np.isin(regions.rows, range(4))
    # once for the words, once for the places
    assert np.isclose(regions.weights[of_first].sum(), 2.0)
    assert np.isclose(regions.weights[~of_first].sum(), 2.0)


def test_only_the_tower_and_the_words_learn() -> None:
    torch.manual_seed(0)
    model = Kosmos(CONFIG)
    objective = RegionContrast(model, V)
    assert objective.weight(batch()) == 2.0
    objective.loss(batch()).backward()
    assert model.vision is not None
    assert float(model.vision.patch_embedding.weight.grad.abs().sum()) > 0.0
    assert float(objective.words.weight.grad.abs().sum()) > 0.0
    assert all(parameter.grad is None for parameter in model.decoder.parameters())


def test_the_lesson_can_be_learned() -> None:
    torch.manual_seed(0)
    objective = RegionContrast(Kosmos(CONFIG), V)
    learning = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=0.01)
    losses = []
    for _ in range(40):
        loss = objective.loss(batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
