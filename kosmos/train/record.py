"""What a run folder remembers of its run, and whether another run is the same.

``run.json`` holds the resolved run, its digest, the package version and the digests of everything
it read; `kosmos train run.json` repeats it. A run is resumed only as the same run: fields that
change no weight (how often to save, where a folder lies) may differ, data must be the same bytes.
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kosmos import config
from kosmos.data.config import skipped_steps
from kosmos.data.index import Index
from kosmos.data.indexing import folder_of_index
from kosmos.data.loader import Loader
from kosmos.data.mixture import data_step
from kosmos.data.order import Order
from kosmos.errors import CheckpointError, DataError
from kosmos.files import Json, read_json
from kosmos.train.config import Run
from kosmos.weights.adapter import base_digests

# what may change between a run and its continuation: no weight depends on it. Of data and
# tokenizer the digests are compared, not the paths; skipped steps have a check of their own.
_MAY_DIFFER = re.compile(
    r"run\.(name|source|stated_.*|answers.*|data\.(tokenizer|heldout_sequences|skip_steps))"
    r"|run\.train\.(checkpoint_every|keep_checkpoints|heldout_every|log_every)"
    r"|run\.train\.(loader_workers|background_checkpoints|spike_factor|peak_flops)"
    r"|run\.data\.streams\..*\.(path|heldout_path|missing_corpora|max_unusable)"
    r"|run\.data\.streams\..*\.(tokens_per_sequence|images_per_sequence|num_tokens|stated_epochs)"
    r"|digest|version|data\..*\.path"
)


def run_record(run: Run, loader: Loader) -> dict[str, Json]:
    """The record of a run on its data."""
    return {
        "run": config.to_json(run),
        "digest": config.digest(run),
        "version": _package_version(),
        "tokenizer": loader.tokenizer.digest,
        "start": _start_digests(run),
        "data": {
            stream.source_name(corpus): {
                "path": corpus.path,
                "shards": loader.indices[stream.source_name(corpus)].key.shards,
                "index": loader.indices[stream.source_name(corpus)].digest,
            }
            for stream in run.data.streams
            for corpus in stream.sources
        },
    }


def _start_digests(run: Run) -> dict[str, Json]:
    """Of the folder that a run starts from, where its continuation needs the same one again."""
    if run.train.adapter is None and run.parts == "stated":
        return {}
    return {**base_digests(Path(run.train.start_from))}


def recorded_order(folder: Path, index_folder: Path | None = None) -> tuple[Run, Order]:
    """The run of a run folder, and the order in which it reads its data.

    The indices that it made are enough: neither tokenizer nor shards need be there.

    Args:
        folder: The run's.
        index_folder: Where the indices are; None: ``index`` in the run's folder.

    Raises:
        DataError: If there is no run, or not its indices.
    """
    path, index_folder = folder / "run.json", index_folder or folder / "index"
    record = read_json(path)
    if not isinstance(record, dict) or not {"run", "data"} <= record.keys():
        raise DataError(f"{path}: expected the record of a run, found something else")
    run = config.from_json(Run, record["run"], where=str(path))
    indices = {}
    for stream in run.data.streams:
        digests = [
            str(record["data"][stream.source_name(corpus)]["index"])  # type: ignore[index, call-overload]
            for corpus in stream.sources
        ]
        for digest in digests:
            if not folder_of_index(index_folder, digest).is_dir():
                raise DataError(
                    f"{folder_of_index(index_folder, digest)}: expected the index of stream "
                    f"{stream.name!r}, found nothing there",
                    hint="--index names the folder of indices; kosmos train makes them again",
                )
        indices[stream.name] = [Index(folder_of_index(index_folder, digest)) for digest in digests]
    order = Order(
        run.data.streams,
        indices,
        seed=run.seed,
        micro_batch_tokens=run.data.micro_batch_tokens,
        skipped=skipped_steps(run.data.skip_steps),
    )
    return run, order


def check_same_run(recorded: Json, record: Json, *, where: str) -> None:
    """Fail unless one run continues another.

    Args:
        recorded: What the folder remembers.
        record: Of the run that wants to go on there.
        where: The folder's file, for the message.

    Raises:
        CheckpointError: Naming every field that differs.
    """
    old, new = dict(leaves(recorded)), dict(leaves(record))
    differing = [
        f"{name.removeprefix('run.')} was {old.get(name)!r} and is {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not _MAY_DIFFER.fullmatch(name)
    ]
    if differing:
        raise CheckpointError(
            f"{where}: expected the run that is being resumed, found {'; '.join(differing)}",
            hint="resume with the settings in run.json, or train into another folder",
        )


def check_same_data(recorded: Json, run: Run, *, num_done: int, where: str) -> None:
    """Fail unless the finished steps read what they would read now, whatever steps are skipped.

    Args:
        recorded: The record of the run as its checkpoint has it.
        run: The run that wants to go on.
        num_done: Finished steps.
        where: The checkpoint, for the message.

    Raises:
        CheckpointError: If a step that is done would have been left out, or one that was left out
            would have been read.
    """
    before, now = (
        skipped_steps(tuple(str(text) for text in steps))
        for steps in (_recorded_skips(recorded), run.data.skip_steps)
    )
    read = 0 if num_done == 0 else data_step(num_done - 1, before) + 1
    was, would_be = (
        [(left_out.start, min(left_out.stop, read)) for left_out in ranges if left_out.start < read]
        for ranges in (before, now)
    )
    if was != would_be:
        raise CheckpointError(
            f"{where}: expected data.skip_steps that leave the first {read} steps of data as they "
            f"were read, found {list(run.data.skip_steps)} after {_recorded_skips(recorded)}",
            hint=f"data can be left out from step {read + 1} on; to leave out earlier data, remove "
            f"the checkpoints after it",
        )


def _recorded_skips(recorded: Json) -> list[Json]:
    run = recorded["run"]  # type: ignore[index, call-overload]
    steps = run["data"].get("skip_steps", [])  # type: ignore[index, call-overload, union-attr]
    assert isinstance(steps, list)
    return steps


def leaves(value: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    """Dotted names and values; elements of a list that have a name are called by it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            assert isinstance(item, dict)
            yield from leaves(item, f"{name}.{item.get('name', index)}")
        # the order of the streams is the order of the micro-batches
        yield f"{name}.order", [item.get("name") for item in value if isinstance(item, dict)]
    else:
        yield name, value


def _package_version() -> str:
    try:
        return version("openkosmos")
    except PackageNotFoundError:
        return "not installed"
