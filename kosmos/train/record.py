"""What a run folder remembers of its run, and whether another run is the same.

``run.json`` holds the resolved run, its digest, the package version and the digests of everything
it read; `kosmos train run.json` repeats it. A run is resumed only as the same run: fields that
change no weight (how often to save, where a folder lies) may differ, data must be the same bytes.
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from kosmos import config
from kosmos.data.loader import Loader
from kosmos.errors import CheckpointError
from kosmos.files import Json
from kosmos.train.config import Run

# what may change between a run and its continuation: no weight depends on it. Of data and
# tokenizer the digests are compared, not the paths.
_MAY_DIFFER = re.compile(
    r"run\.(name|source|tokenizer|stated_.*)"
    r"|run\.train\.(checkpoint_every|keep_checkpoints|heldout_every|heldout_sequences|log_every)"
    r"|run\.streams\..*\.(path|heldout_path|tokens_per_sequence|images_per_sequence|max_unusable)"
    r"|digest|version|data\..*\.path"
)


def run_record(run: Run, loader: Loader) -> dict[str, Json]:
    """The record of a run on its data."""
    return {
        "run": config.to_json(run),
        "digest": config.digest(run),
        "version": _package_version(),
        "tokenizer": loader.tokenizer.digest,
        "data": {
            stream.source_name(corpus): {
                "path": corpus.path,
                "shards": loader.indices[stream.source_name(corpus)].key.shards,
                "index": loader.indices[stream.source_name(corpus)].digest,
            }
            for stream in run.streams
            for corpus in stream.sources
        },
    }


def check_same_run(recorded: Json, record: Json, *, where: str) -> None:
    """Fail unless one run continues another.

    Args:
        recorded: What the folder remembers.
        record: Of the run that wants to go on there.
        where: The folder's file, for the message.

    Raises:
        CheckpointError: Naming every field that differs.
    """
    old, new = dict(_leaves(recorded)), dict(_leaves(record))
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


def _leaves(value: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    """Dotted names and values; elements of a list that have a name are called by it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            assert isinstance(item, dict)
            yield from _leaves(item, f"{name}.{item.get('name', index)}")
        # the order of the streams is the order of the micro-batches
        yield f"{name}.order", [item.get("name") for item in value if isinstance(item, dict)]
    else:
        yield name, value


def _package_version() -> str:
    try:
        return version("openkosmos")
    except PackageNotFoundError:
        return "not installed"
