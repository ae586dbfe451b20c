"""How documents fill rows, worked out on lengths alone.

- :func:`pack`: documents to rows, in one of three ways
- :func:`micro_batches`: rows to micro-batches of similar length

Documents a, b, c of lines ``a1 a2``, ``b1``, ``c1 c2 c3`` fill rows of a fixed number of tokens::

    single          a1 a2          | b1      | c1 c2 c3       a document a row
    full-sentence   <s> a1 a2 b1   | <s> c1 c2 | <s> c3       lines, whatever document they are of
    isolated        a1 a2 b1       | c1 c2 c3                 documents, each on its own

Rows are filled in order: what would overflow a row starts the next one. In full-sentence rows
every row starts with ``<s>``, that of each document is left out, and a line longer than a row is
cut and loses its terminator. Unlike the release, rows run on from one shard file into the next.

Source: unilm kosmos-2 text loader; KOSMOS-1 (arXiv:2302.14045) section 3.2 names the format
"full-sentence".
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from kosmos.data.config import Packing

_LEAST_DEPTH, _FEWEST_LANES, _MOST_PASSES = 4093, 64, 8  # powers of two collide in the caches


class Rows(NamedTuple):
    """Rows as lists of pieces of documents."""

    documents: Int64[np.ndarray, " pieces"]
    """Which document a piece is of."""
    starts: Int64[np.ndarray, " pieces"]
    """Its first token, counted over all documents one after another."""
    stops: Int64[np.ndarray, " pieces"]
    """Past its last token."""
    offsets: Int64[np.ndarray, " boundaries"]
    """Row r holds pieces ``offsets[r]`` to ``offsets[r + 1]``."""


def fill(lengths: Int64[np.ndarray, " items"], capacity: int) -> Int64[np.ndarray, " boundaries"]:
    """Boundaries of rows that are filled in order until the next item would overflow.

    ``fill([3, 3, 3, 5], 6)`` is ``[0, 2, 3, 4]``: items 0 and 1, item 2, item 3.

    Args:
        lengths: Of the items, each at most ``capacity``.
        capacity: Of a row.
    """
    # how long lanes are changes how long it takes and nothing else
    mean = float(lengths[::_LEAST_DEPTH].mean()) if len(lengths) else 0.0
    depth = max(_LEAST_DEPTH, int(100 * (capacity / max(1.0, mean)) ** 2))
    found = None
    if len(lengths) >= _FEWEST_LANES * depth:
        found = _fill_in_lanes(lengths, capacity, depth)
    return _fill_in_order(lengths, capacity) if found is None else found


def _fill_in_order(
    lengths: Int64[np.ndarray, " items"], capacity: int
) -> Int64[np.ndarray, " boundaries"]:
    """:func:`fill`, row after row."""
    sums = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    # where the row that starts at item i ends, for every i at once; then follow from item 0
    ends = (np.searchsorted(sums, sums[:-1] + capacity, side="right") - 1).tolist()
    boundaries, item = [0], 0
    while item < len(ends):
        item = ends[item]
        boundaries.append(item)
    return np.array(boundaries, dtype=np.int64)


def _fill_in_lanes(
    lengths: Int64[np.ndarray, " items"], capacity: int, depth: int
) -> Int64[np.ndarray, " boundaries"] | None:
    """:func:`fill`, stretches of ``depth`` items side by side; None where that does not pay.

    Each lane is filled as if a row began with its first item. Then it is filled again from what
    the lane before it left in the open row, until a row begins with the same item in both: from
    there on they are one. Two ways to fill meet after about ``20 * (items of a row)**2`` items
    (the median for captions and for texts); lengths that are all the same never do.
    """
    num_lanes = -(-len(lengths) // depth)
    # small numbers go through the processor many at a time; a row and an item must fit
    items = np.zeros(num_lanes * depth, dtype=np.int16 if capacity < 1 << 14 else np.int64)
    items[: len(lengths)] = lengths
    steps: np.ndarray = np.ascontiguousarray(items.reshape(num_lanes, depth).T)
    fits: np.ndarray = np.empty(steps.shape, dtype=np.bool_)
    used: np.ndarray = np.full(num_lanes, capacity, dtype=steps.dtype)
    used[0] = 0
    total: np.ndarray = np.empty_like(used)
    for step, fit in zip(steps, fits, strict=True):
        np.add(used, step, out=total)
        np.less_equal(total, capacity, out=fit)
        # a tenth of the time of a copy where a mask is true
        np.multiply(used, fit, out=used)
        np.add(used, step, out=used)
    fits[0, 0] = False  # the first row begins with the first item
    lanes = np.arange(1, num_lanes)
    for _ in range(_MOST_PASSES):
        left, lanes = _refill(steps, fits, lanes, used[lanes - 1], capacity)
        used[lanes] = left
        lanes = lanes[lanes + 1 < num_lanes] + 1
        if len(lanes) == 0:
            return np.append(np.flatnonzero(~np.ascontiguousarray(fits.T)), len(lengths))
        if len(lanes) > num_lanes // 10:
            break
    return None


def _refill(
    steps: Shaped[np.ndarray, "depth lanes"],
    fits: Bool[np.ndarray, "depth lanes"],
    lanes: Int64[np.ndarray, " some"],
    used: Shaped[np.ndarray, " some"],
    capacity: int,
) -> tuple[Shaped[np.ndarray, " left"], Int64[np.ndarray, " left"]]:
    """Fill some lanes again, each from what its open row holds at first.

    Args:
        steps: Lengths of the items.
        fits: Whether an item joins the row of the one before it; corrected in place.
        lanes: Which.
        used: What their open rows hold.
        capacity: Of a row.

    Returns:
        Of the lanes that end otherwise than before, what their open rows hold, and which they are.
    """
    for step, fit in zip(steps, fits, strict=True):
        if len(lanes) == 0:
            break
        length, before = step[lanes], fit[lanes]
        now = used + length <= capacity
        used = used * now + length
        fit[lanes] = now
        apart = now | before
        lanes, used = lanes[apart], used[apart]
    return used, lanes


def pack(
    offsets: Int64[np.ndarray, " documents"],
    line_ends: Int64[np.ndarray, " lines"],
    *,
    packing: Packing,
    max_tokens: int,
) -> Rows:
    """Lay documents out in rows.

    Args:
        offsets: Document d is tokens ``offsets[d]`` to ``offsets[d + 1]``, of which the first is
            ``<s>``; except in full-sentence rows none is longer than ``max_tokens``.
        line_ends: Token numbers past each ``</line>``, ascending; read for full-sentence rows.
        packing: How.
        max_tokens: Longest row.
    """
    numbers = np.arange(len(offsets) - 1, dtype=np.int64)
    if packing == "full-sentence" and len(numbers) > 0:
        return _full_sentence(offsets, line_ends, max_tokens)
    if packing == "isolated":
        boundaries = fill(np.diff(offsets), max_tokens)
    else:
        boundaries = np.arange(len(offsets), dtype=np.int64)
    return Rows(documents=numbers, starts=offsets[:-1], stops=offsets[1:], offsets=boundaries)


def _full_sentence(
    offsets: Int64[np.ndarray, " documents"],
    line_ends: Int64[np.ndarray, " lines"],
    max_tokens: int,
) -> Rows:
    capacity = max_tokens - 1  # <s> takes the first place of every row
    stops = np.union1d(line_ends, offsets[1:])
    starts = np.concatenate([offsets[:1], stops[:-1]])
    documents = np.searchsorted(offsets, starts, side="right") - 1
    starts = starts + (starts == offsets[documents])  # a document's own <s> is left out
    stops = np.minimum(stops, starts + capacity)
    boundaries = fill(stops - starts, capacity)
    # lines of one document that follow each other in one row are one piece
    row = np.searchsorted(boundaries, np.arange(len(starts)), side="right") - 1
    is_new = np.ones(len(starts), dtype=np.bool_)
    is_new[1:] = (np.diff(documents) > 0) | (np.diff(row) > 0) | (starts[1:] != stops[:-1])
    first = np.flatnonzero(is_new)
    last = np.append(first[1:], len(starts)) - 1
    return Rows(
        documents=documents[first],
        starts=starts[first],
        stops=stops[last],
        offsets=np.searchsorted(first, boundaries),
    )


def micro_batches(
    lengths: Int64[np.ndarray, " rows"], max_tokens: int
) -> list[Int64[np.ndarray, " group"]]:
    """Cut rows into groups of similar length, so that little of them is padding.

    Of all ways to cut the rows in order of their length, the one with the fewest positions, a group
    itself counted as an eighth of the limit: fewer groups are worth some padding, since each adds
    to the gradients of all weights, and many short rows keep a device busier than few.

    Args:
        lengths: Of the rows.
        max_tokens: Rows times the longest of them is at most this, except in a group of one.

    Returns:
        Indices into ``lengths``; each group in ascending length, equal lengths in their order.
    """
    order = np.argsort(lengths, kind="stable")
    of_a_group = max_tokens // 8
    # of the rows up to a place: the least cost, and where the last group of that cut starts
    costs, starts = np.zeros((2, len(order) + 1), dtype=np.int64)
    for stop, longest in enumerate(lengths[order].tolist(), start=1):
        first = max(0, stop - max(1, max_tokens // max(1, longest)))
        ways = costs[first:stop] + longest * np.arange(stop - first, 0, -1)
        way = int(ways.argmin())
        costs[stop], starts[stop] = ways[way] + of_a_group, first + way
    groups, stop = [], len(order)
    while stop > 0:
        groups.append(order[starts[stop] : stop])
        stop = int(starts[stop])
    return groups[::-1]
