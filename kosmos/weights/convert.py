"""Strict conversion: every tensor is accounted for, or the error says which is not.

A conversion is a plan before it is an act: :func:`match` pairs the tensors a model has with the
tensors a file has and fails on gaps, leftovers and wrong shapes before a byte is read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from kosmos.errors import CheckpointError
from kosmos.weights.names import Table, translate
from kosmos.weights.tensors import StoredTensor, read_tensor

Shape = tuple[int, ...]


def match(
    wanted: Mapping[str, Shape],
    found: Mapping[str, Shape],
    *,
    where: str,
    table: Table | None = None,
    ignored: Sequence[str] = (),
) -> dict[str, str]:
    """Pair a model's tensors with a file's.

    Args:
        wanted: Shapes of the model's tensors, by our names.
        found: Shapes of the file's tensors, by their names.
        where: The file or folder, for messages.
        table: Renames ours to theirs; None where the names are the same.
        ignored: Patterns of their names that the format says hold none of our weights.

    Returns:
        Their name for each of ours.

    Raises:
        CheckpointError: If a tensor is missing, left over or of another shape, naming it.
    """
    pairs = {name: rename(name, table) for name in wanted}
    missing = [theirs for theirs in pairs.values() if theirs not in found]
    used = set(pairs.values())
    extra = [
        name
        for name in found
        if name not in used and not any(re.fullmatch(pattern, name) for pattern in ignored)
    ]
    if missing or extra:
        parts = [f"missing {_some(missing)}"] if missing else []
        parts += [f"left over {_some(extra)}"] if extra else []
        raise CheckpointError(
            f"{where}: expected the {len(pairs)} tensors its config implies, found "
            + " and ".join(parts),
            hint="the config and the weights are not of the same model",
        )
    wrong = [
        f"{theirs} {list(found[theirs])} instead of {list(wanted[ours])}"
        for ours, theirs in pairs.items()
        if tuple(found[theirs]) != tuple(wanted[ours])
    ]
    if wrong:
        raise CheckpointError(
            f"{where}: expected the shapes its config implies, found {_some(wrong)}",
            hint="the config and the weights are not of the same model",
        )
    return pairs


def without_head(
    stored: Mapping[str, StoredTensor], *, embedding: str, head: str
) -> dict[str, StoredTensor]:
    """The tensors of a file with the output head, which is the embedding again, taken out.

    Args:
        stored: By their names; the head or the embedding may be absent.
        embedding: Their name of the embedding.
        head: Their name of the head.

    Raises:
        CheckpointError: If both are there and differ.
    """
    rest = {name: tensor for name, tensor in stored.items() if name != head}
    if head not in stored:
        return rest
    first, second = rest.setdefault(embedding, stored[head]), stored[head]
    if (first.file, first.start, first.shape) == (second.file, second.start, second.shape):
        return rest
    if first.shape == second.shape and first.dtype == second.dtype:
        difference = (read_tensor(second) - read_tensor(first)).abs().max().item()
        if difference == 0.0:
            return rest
        found = f"values up to {difference:.3g} apart"
    else:
        found = f"{list(second.shape)} {second.dtype} beside {list(first.shape)} {first.dtype}"
    raise CheckpointError(
        f"{second.file}: {head}: expected the embedding again, found {found}",
        hint="the output head of a KOSMOS is its embedding; models with an untied one do not fit",
    )


def rename(name: str, table: Table | None) -> str:
    """A name by a table that must know it.

    Raises:
        CheckpointError: If no row applies: the other format has no place for this tensor.
    """
    renamed = name if table is None else translate(name, table)
    if renamed is None:
        raise CheckpointError(f"{name}: expected a tensor the other format has a name for")
    return renamed


def ignored_names(found: Iterable[str], pairs: Mapping[str, str]) -> tuple[str, ...]:
    """Names in a file that :func:`match` did not pair, sorted."""
    return tuple(sorted(set(found) - set(pairs.values())))


def _some(names: Iterable[str], limit: int = 4) -> str:
    """The first few of a list, and how many more."""
    names = sorted(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
