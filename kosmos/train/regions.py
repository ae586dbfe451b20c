"""Region-word contrast: how a vision tower learns to see where there is no CLIP to start from.

The papers begin with CLIP, which learned to tell which of many texts goes with a picture. The
microcosm has no such tower, and a small one left to the captioning loss alone hardly learns shapes
and places in the minutes it has (measured: experiments/LOG.md). Grounded captions hold a denser
lesson::

    <phrase> a red ring </phrase><object> <patch_index_0017> <patch_index_0102> </object>

Every patch whose middle lies in the box is contrasted with the whole vocabulary: its feature must
pick the phrase's words among all words, and the box's two location tokens among all of them. The
targets are read off the token ids of an ordinary batch, so the stage is an ordinary run of the
trainer with ``train.objective=regions`` on a grounded stream; only the tower is kept.

Source: CLIP (arXiv:2103.00020) for contrast with a learned temperature; GLIP (arXiv:2112.03857)
for contrasting regions with the words of phrases. The pairing with location tokens is ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from kosmos.data.batch import Batch
from kosmos.errors import ConfigError
from kosmos.model.cost import tower_flops
from kosmos.model.kosmos import Kosmos
from kosmos.text.vocabulary import Vocabulary
from kosmos.train.step import as_tensor

INITIAL_SCALE = 10.0
"""Features have unit length: logits of this range move a softmax over hundreds of words."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Patches of a batch that lie in boxes, and the tokens each must pick.

    Several boxes may hold a patch; it then stands once for each.
    """

    images: np.ndarray
    """int64 [regions], image of each patch."""
    patches: np.ndarray
    """int64 [regions], number of each patch in its image, row by row."""
    rows: np.ndarray
    """int64 [picks], region that each pick belongs to."""
    token_ids: np.ndarray
    """int64 [picks], the token to pick."""
    weights: np.ndarray
    """float32 [picks]: a box counts 1 for its words and 1 for its places, shared by its patches."""


def find_regions(batch: Batch, vocabulary: Vocabulary, *, patches_per_side: int) -> Regions:
    """Read boxes and their words off the token ids of a batch.

    Args:
        batch: Rows in which phrases with boxes follow their image.
        vocabulary: Which ids are tags and locations.
        patches_per_side: Patches along each side of an image.
    """
    # picture slots are told apart by where a run of them begins
    begins = batch.image_slots & ~np.pad(batch.image_slots, ((0, 0), (1, 0)))[:, :-1]
    image_of = begins.ravel().cumsum().reshape(begins.shape) - 1
    middles = (np.arange(patches_per_side) + 0.5) / patches_per_side
    images, patches, rows, ids, weights = [], [], [], [], []
    count = 0
    for row, place in zip(*np.nonzero(batch.token_ids == vocabulary.object_id), strict=True):
        tokens = batch.token_ids[row]
        words = _phrase_before(tokens, place, vocabulary)
        for first, second in _pairs_after(tokens, place, vocabulary):
            inside = _patches_in(first, second, vocabulary.num_cells, middles)
            picks = [*words, *(vocabulary.location_id(index) for index in (first, second))]
            each = 1.0 / max(len(inside), 1)
            shares = [each / len(words)] * len(words) + [each / 2] * 2
            images += [image_of[row, place]] * len(inside)
            patches += inside.tolist()
            rows += np.repeat(np.arange(count, count + len(inside)), len(picks)).tolist()
            ids += picks * len(inside)
            weights += shares * len(inside)
            count += len(inside)
    return Regions(
        images=np.array(images, dtype=np.int64),
        patches=np.array(patches, dtype=np.int64),
        rows=np.array(rows, dtype=np.int64),
        token_ids=np.array(ids, dtype=np.int64),
        weights=np.array(weights, dtype=np.float32),
    )


class RegionContrast(nn.Module):
    """The objective: a model, of which the tower learns, and the words its patches must pick.

    Args:
        model: A model with a vision tower; nothing else of it is used.
        vocabulary: Its vocabulary, with a location grid.

    Raises:
        ConfigError: If there is no tower, or no grid.
    """

    def __init__(self, model: Kosmos, vocabulary: Vocabulary) -> None:
        super().__init__()
        if model.vision is None or model.config.vision is None:
            raise ConfigError("train.objective: regions needs a vision tower, found none")
        if vocabulary.num_cells == 0:
            raise ConfigError("train.objective: regions needs location tokens, found num_cells=0")
        self.model = model
        self.vocabulary = vocabulary
        model.requires_grad_(False)
        model.vision.requires_grad_(True)
        config = model.config.vision
        self.patches_per_side = config.image_size // config.patch_size
        self.words = nn.Linear(config.width, vocabulary.size)
        self.scale = nn.Parameter(torch.tensor(INITIAL_SCALE))
        nn.init.normal_(self.words.weight, std=config.width**-0.5)
        nn.init.zeros_(self.words.bias)

    @property
    def module(self) -> nn.Module:
        """The tower with its model, and the words."""
        return self

    @property
    def methods(self) -> tuple[str, ...]:
        """It has no ``forward``; the loss reads the tower and the words."""
        return ("loss", "document_losses")

    def weight(self, batch: Batch) -> float:
        """Boxes of a batch, over which the loss is a sum."""
        first, count = self.vocabulary.first_location_id, self.vocabulary.num_locations
        is_location = (batch.token_ids >= first) & (batch.token_ids < first + count)
        return float(is_location.sum()) / 2

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Summed loss of the boxes of a batch, in nats."""
        if batch.pixels is None:
            return self.words.weight.sum() * 0.0
        return self._picks(batch)[1].sum()

    @torch.no_grad()
    def document_losses(self, batch: Batch) -> Float64[np.ndarray, "2 documents"]:
        """Summed loss and number of boxes of each document."""
        size = len(batch.document_ids)
        if batch.pixels is None:
            return np.zeros((2, size))
        regions, losses = self._picks(batch)
        begins = batch.image_slots & ~np.pad(batch.image_slots, ((0, 0), (1, 0)))[:, :-1]
        owners = batch.documents[:, :-1][begins][regions.images[regions.rows]]
        # a box weighs 1 for its words and 1 for its places
        measured = (losses.double().cpu().numpy(), regions.weights / 2)
        return np.stack([np.bincount(owners, values, size) for values in measured])

    def flops(self, batch: Batch) -> int:
        """Operations of the tower, all of which learns; the words are few and not counted."""
        assert self.model.config.vision is not None
        images = 0 if batch.pixels is None or batch.is_filler else len(batch.pixels)
        return 3 * images * tower_flops(self.model.config.vision)

    def _picks(self, batch: Batch) -> tuple[Regions, Float[Tensor, " picks"]]:
        """The regions of a batch, and what each of their picks adds to the loss."""
        tower = self.model.vision
        assert tower is not None
        regions = find_regions(batch, self.vocabulary, patches_per_side=self.patches_per_side)
        device = self.words.weight.device
        features = tower(as_tensor(batch.pixels, device))[:, 1:]
        chosen = features[torch.from_numpy(regions.images), torch.from_numpy(regions.patches)]
        logits = self.scale * self.words(chosen)
        # words compete with words and places with places: one softmax each
        first = self.vocabulary.first_location_id
        log_probs = torch.cat(
            [logits[:, :first].log_softmax(-1), logits[:, first:].log_softmax(-1)], dim=1
        )
        picked = log_probs[torch.from_numpy(regions.rows), torch.from_numpy(regions.token_ids)]
        weights = torch.from_numpy(regions.weights).to(device)
        return regions, -picked * weights


def _phrase_before(tokens: np.ndarray, place: int, vocabulary: Vocabulary) -> list[int]:
    """Ids of the words between the tags of the phrase that ends right before a place."""
    if place == 0 or tokens[place - 1] != vocabulary.phrase_end_id:
        return []
    starts = np.nonzero(tokens[:place] == vocabulary.phrase_id)[0]
    return [] if len(starts) == 0 else [int(token) for token in tokens[starts[-1] + 1 : place - 1]]


def _pairs_after(tokens: np.ndarray, place: int, vocabulary: Vocabulary) -> list[tuple[int, int]]:
    """Location pairs of the object that opens at a place."""
    pairs = []
    at = place + 1
    while at + 1 < len(tokens):
        first, second = (vocabulary.location_index(int(token)) for token in tokens[at : at + 2])
        if first is None or second is None:
            break
        pairs.append((first, second))
        if at + 2 >= len(tokens) or tokens[at + 2] != vocabulary.delimiter_id:
            break
        at += 3
    return pairs


def _patches_in(first: int, second: int, num_cells: int, middles: np.ndarray) -> np.ndarray:
    """Numbers of the patches whose middle lies in the cells of a box."""
    (top, left), (bottom, right) = divmod(first, num_cells), divmod(second, num_cells)
    rows = np.nonzero((middles >= top / num_cells) & (middles < (bottom + 1) / num_cells))[0]
    columns = np.nonzero((middles >= left / num_cells) & (middles < (right + 1) / num_cells))[0]
    return (rows[:, None] * len(middles) + columns[None, :]).ravel()
