"""Sequences that begin alike, read as one tree: what they share is read once.

Six candidates behind one prompt, ten questions about one photograph, a thousand class names: as
rows of a batch they repeat most of their tokens, as a tree they do not. A token sees its ancestors
and itself, and its position is its depth, so each sequence means what it means alone::

    <s> a red circle            node     0    1     2     3       4
    <s> a red star              token   <s>   a    red  circle   star
                                parent   -    0     1     2       2
                                sees     0   0 1  0 1 2 0 1 2 3  0 1 2 4

Images are part of what is compared: sequences share one where they show the same picture, which
their soft tokens tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kosmos.document.encode import Encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A sequence to read."""

    encoded: Encoded
    """Its tokens."""
    soft_tokens: Float[Tensor, "images queries width"] | None = None
    """Its images, encoded; None if it has none, or they are still to be read."""
    name: str
    """What to call it in messages."""

    @property
    def token_ids(self) -> list[int]:
        """Ids as plain numbers."""
        return [int(token_id) for token_id in self.encoded.token_ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Some sequences, each node a token; a parent comes before its children."""

    token_ids: Int64[np.ndarray, " nodes"]
    """Ids."""
    image_slots: Bool[np.ndarray, " nodes"]
    """True where a soft token stands."""
    parents: Int64[np.ndarray, " nodes"]
    """Node before each node; -1 before the first."""
    soft_tokens: Float[Tensor, "images queries width"] | None
    """Images in the order of their slots; None if there are none."""
    paths: tuple[Int64[np.ndarray, " _tokens"], ...]
    """Nodes of each sequence, in order."""

    def __len__(self) -> int:
        """Nodes."""
        return len(self.token_ids)

    @property
    def is_chain(self) -> bool:
        """Whether it is one sequence."""
        return len(self.paths) == 1

    def positions(self) -> Int64[np.ndarray, " nodes"]:
        """Depth of each node."""
        depth = np.zeros(len(self), dtype=np.int64)
        for path in self.paths:
            depth[path] = np.arange(len(path))
        return depth

    def visible(self) -> Bool[np.ndarray, "nodes nodes"]:
        """Which nodes each node sees: its ancestors and itself."""
        seen = np.eye(len(self), dtype=np.bool_)
        # the common beginning is a chain, and usually most of the tree
        branching = np.flatnonzero(self.parents != np.arange(len(self)) - 1)
        trunk = int(branching[0]) if len(branching) else len(self)
        seen[:trunk, :trunk] = np.tri(trunk, dtype=np.bool_)
        for node in range(trunk, len(self)):
            seen[node] |= seen[self.parents[node]]
        return seen


def grow(sequences: Sequence[Prompt]) -> Tree:
    """Lay sequences over each other.

    Args:
        sequences: At least one; all begin with the same token, as documents do with ``<s>``.
    """
    rows = symbols(sequences)
    shared = common_length(rows)
    first = sequences[0].encoded
    token_ids = first.token_ids[:shared].tolist()
    slots = first.image_slots[:shared].tolist()
    parents = list(range(-1, shared - 1))
    children: dict[tuple[int, int], int] = {}
    paths, images = [], []
    for number, (sequence, row) in enumerate(zip(sequences, rows, strict=True)):
        node = shared - 1
        path = list(range(shared))
        is_new = np.full(len(row), number == 0)
        for place in range(shared, len(row)):
            key = (node, int(row[place]))
            found = children.get(key)
            if found is None:
                found = children[key] = len(token_ids)
                token_ids.append(int(sequence.encoded.token_ids[place]))
                slots.append(bool(sequence.encoded.image_slots[place]))
                parents.append(node)
                is_new[place] = True
            node = found
            path.append(node)
        paths.append(np.array(path, dtype=np.int64))
        if sequence.soft_tokens is not None:
            # sequences part between images or words, never inside an image
            queries = sequence.soft_tokens.shape[1]
            firsts = np.flatnonzero(sequence.encoded.image_slots)[::queries]
            images += [sequence.soft_tokens[i] for i, at in enumerate(firsts) if is_new[at]]
    return Tree(
        token_ids=np.array(token_ids, dtype=np.int64),
        image_slots=np.array(slots, dtype=np.bool_),
        parents=np.array(parents, dtype=np.int64),
        soft_tokens=torch.stack(images) if images else None,
        paths=tuple(paths),
    )


def symbols(sequences: Sequence[Prompt]) -> list[Int64[np.ndarray, " _tokens"]]:
    """Each sequence as numbers that are equal where tokens are, images included.

    A word is its id. The slots of the n-th distinct picture are negative numbers of its own.
    """
    distinct: dict[tuple[float, ...], list[tuple[int, Tensor]]] = {}
    num_distinct = 0
    rows = []
    for sequence in sequences:
        row = sequence.encoded.token_ids.astype(np.int64)
        if sequence.soft_tokens is not None:
            numbers = []
            for soft in sequence.soft_tokens:
                # few numbers to find candidates by, all of them to be sure
                alike = distinct.setdefault(tuple(soft[0, :4].tolist()), [])
                number = next((n for n, other in alike if torch.equal(other, soft)), None)
                if number is None:
                    number = num_distinct
                    num_distinct += 1
                    alike.append((number, soft))
                numbers.append(number)
            queries = sequence.soft_tokens.shape[1]
            steps = np.arange(queries) + 1
            row[sequence.encoded.image_slots] = np.concatenate(
                [-(number * queries + steps) for number in numbers]
            )
        rows.append(row)
    return rows


def common_length(rows: Sequence[Int64[np.ndarray, " _tokens"]]) -> int:
    """How many tokens all sequences begin with."""
    first = rows[0]
    length = min(len(row) for row in rows)
    for row in rows[1:]:
        differs = np.flatnonzero(first[:length] != row[:length])
        if len(differs):
            length = int(differs[0])
    return length


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeBatch:
    """Trees, a row each, as one pass of a model reads them."""

    inputs: dict[str, Tensor]
    """What :meth:`kosmos.model.kosmos.Kosmos.forward` takes, by its names."""
    rows: list[int]
    """Row of each sequence, tree after tree."""
    paths: list[Int64[np.ndarray, " _tokens"]]
    """Slots of each sequence in its row."""

    def states(
        self, hidden: Float[Tensor, "rows slots width"], index: int
    ) -> Float[Tensor, "tokens width"]:
        """What stands along one sequence."""
        return hidden[self.rows[index], torch.from_numpy(self.paths[index]).to(hidden.device)]

    def ends(self, hidden: Float[Tensor, "rows slots width"]) -> Float[Tensor, "sequences width"]:
        """What stands behind each sequence."""
        return hidden[self.rows, [int(path[-1]) for path in self.paths]]


def stack_trees(trees: Sequence[Tree], *, pad_id: int, device: torch.device) -> TreeBatch:
    """Put trees side by side.

    Rows of one sequence each are padded on the left, so that they end together, and keep the plain
    causal path; otherwise rows are padded on the right and a mask says what each token sees.

    Args:
        trees: At least one.
        pad_id: Stands where a row has no token.
        device: The model's.
    """
    longest = max(len(tree) for tree in trees)
    is_plain = all(tree.is_chain for tree in trees)
    starts = [longest - len(tree) if is_plain else 0 for tree in trees]
    shape = (len(trees), longest)
    token_ids = torch.full(shape, pad_id)
    slots, valid = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    for row, (tree, start) in enumerate(zip(trees, starts, strict=True)):
        part = slice(start, start + len(tree))
        token_ids[row, part] = torch.from_numpy(tree.token_ids)
        slots[row, part] = torch.from_numpy(tree.image_slots)
        valid[row, part] = True
    inputs = {"token_ids": token_ids}
    soft = [tree.soft_tokens for tree in trees if tree.soft_tokens is not None]
    if soft:
        inputs |= {"image_slots": slots, "image_embeddings": torch.cat(soft)}
    if not bool(valid.all()):
        inputs["valid"] = valid
    if not is_plain:
        inputs["positions"], inputs["visible"] = _relations(trees, longest)
    return TreeBatch(
        inputs={name: tensor.to(device) for name, tensor in inputs.items()},
        rows=[row for row, tree in enumerate(trees) for _ in tree.paths],
        paths=[
            path + start for tree, start in zip(trees, starts, strict=True) for path in tree.paths
        ],
    )


def _relations(trees: Sequence[Tree], longest: int) -> tuple[Tensor, Tensor]:
    """Positions [rows slots] and who sees whom [rows slots slots]; padding sees itself."""
    positions = torch.zeros((len(trees), longest), dtype=torch.long)
    visible = torch.eye(longest, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        size = len(tree)
        positions[row, :size] = torch.from_numpy(tree.positions())
        visible[row, :size, :size] = torch.from_numpy(tree.visible())
    return positions, visible
