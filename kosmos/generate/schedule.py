"""Which prompts are read together: those that begin alike share a row, like lengths a batch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from kosmos.document.encode import Encoded
from kosmos.document.types import Image
from kosmos.generate.tree import Prompt, common_length

_LEAST_SHARED_TOKENS = 32
"""A shorter beginning is not worth a mask, without which attention has its fastest kernel."""

_MOST_MASK_CELLS = 2**28
"""Rows times the square of their length, where who sees whom may have to be said by a mask: 1 GiB
of float32. 64 prompts of 2,048 tokens have as many; longer ones are read fewer at a time."""


def read_together(prompts: Mapping[str, Prompt], *, most: int) -> Iterator[list[dict[str, Prompt]]]:
    """Batches of prompts, those that share a row in one group.

    Args:
        prompts: By the id of their request.
        most: Most prompts of a batch.
    """
    keys, rows = list(prompts), [prompt.encoded for prompt in prompts.values()]
    for batch in batches(shared_groups(rows, most=most), [len(row) for row in rows], most=most):
        yield [{keys[place]: prompts[keys[place]] for place in group} for group in batch]


def shared_groups(rows: Sequence[Encoded], *, most: int) -> list[list[int]]:
    """Prompts, by index, that begin alike for at least half of their length.

    Questions about one photograph, or behind the same demonstrations, are such. Images count as
    alike here if they have the same source; that equal pictures of two sources are not found
    costs time and changes nothing.

    Args:
        rows: The prompts.
        most: Most prompts in a group.
    """
    numbers: dict[object, int] = {}
    keyed = [_keyed(row, numbers) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: keyed[index].tolist())
    groups: list[list[int]] = []
    num_nodes = 0  # of the tree of the last group
    for place, index in enumerate(order):
        alike = common_length([keyed[order[place - 1]], keyed[index]]) if place else 0
        least = max(_LEAST_SHARED_TOKENS, len(rows[index]) // 2)
        num_nodes += len(rows[index]) - alike
        if alike < least or len(groups[-1]) == most or num_nodes**2 > _MOST_MASK_CELLS:
            groups.append([])
            num_nodes = len(rows[index])
        groups[-1].append(index)
    return groups


def batches(
    groups: Sequence[Sequence[int]], lengths: Sequence[int], *, most: int
) -> list[list[Sequence[int]]]:
    """Groups in batches of like size and length, so that little of a batch is padding.

    Args:
        groups: Prompts that share a row.
        lengths: Tokens of each prompt.
        most: Most prompts of a batch.
    """
    found: list[list[Sequence[int]]] = []
    for group in sorted(groups, key=lambda group: (len(group), max(lengths[i] for i in group))):
        # rows of unequal numbers of branches would be filled up to the largest
        is_new = not found or len(found[-1][0]) != len(group)
        longest = max(lengths[index] for index in group)
        if (
            is_new
            or sum(map(len, found[-1])) + len(group) > most
            or (len(found[-1]) + 1) * longest**2 > _MOST_MASK_CELLS
        ):
            found.append([])
        found[-1].append(group)
    return found


def _keyed(row: Encoded, numbers: dict[object, int]) -> np.ndarray:
    """Token ids, with a negative number of its own for each image source in its slots."""
    keyed = row.token_ids.astype(np.int64)
    slots = np.flatnonzero(row.image_slots)
    if len(slots):
        queries = len(slots) // len(row.images)
        for number, image in enumerate(row.images):
            place = numbers.setdefault(_source(image), len(numbers))
            keyed[slots[number * queries : (number + 1) * queries]] = -1 - place
    return keyed


def _source(image: Image) -> object:
    source = image.source
    return source if isinstance(source, str | Path | bytes) else id(source)
