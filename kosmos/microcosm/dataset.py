"""A microcosm on disk: document shards to train on, to hold out and to evaluate with.

::

    folder/
      train/     text captions grounded vqa interleaved instruct grounded-instruct
      heldout/   the same parts, for held-out loss
      eval/      captions vqa referring color-knowledge size-knowledge
      manifest.json      config, its digest, counts, the kinds

Each part is a folder of shards that is there whole or not at all; a part that the same config
made is kept. Documents do not depend on the number of processes that make them. Held-out and
evaluation documents have keys of their own, and one that shows a scene (or has the very words)
of a training document is counted as dropped and replaced by the next.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kosmos import config as configs
from kosmos.document.shards import ShardReader, ShardWriter
from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, read_json, write_json
from kosmos.logs import Progress
from kosmos.microcosm import documents
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.documents import Maker
from kosmos.microcosm.world import kinds
from kosmos.runtime import end_with_parent

FORMAT = 1
"""Raised when the same config makes other documents than before."""
CHUNK = 100
MIN_DOCUMENTS_FOR_PROCESSES = 2000
"""Fewer are made faster than processes start (about a second)."""
MAX_TRIES_PER_DOCUMENT = 50

MAKERS: dict[str, dict[str, Maker]] = {
    "train": {
        "text": documents.text,
        "captions": documents.captions,
        "grounded": documents.grounded,
        "vqa": documents.vqa,
        "interleaved": documents.interleaved,
        "instruct": documents.instruct,
        "grounded-instruct": documents.grounded_instruct,
    },
    "eval": {
        "captions": documents.eval_captions,
        "vqa": documents.eval_vqa,
        "referring": documents.eval_referring,
    },
}
MAKERS["heldout"] = MAKERS["train"]
FIXED: dict[str, Callable[[MicrocosmConfig], list[Document]]] = {
    "color-knowledge": documents.color_questions,
    "size-knowledge": documents.size_questions,
}


@dataclass(frozen=True, slots=True)
class Made:
    """What was written, or found already written.

    Args:
        folder: Where.
        digest: Of the config and the format.
        parts: Documents, pictures and dropped documents of each part, by ``split/part``.
        kept: Parts that were there already.
    """

    folder: Path
    digest: str
    parts: Mapping[str, "PartCounts"]
    kept: tuple[str, ...]

    def total(self, what: Literal["documents", "pictures", "dropped"]) -> int:
        """A count over all parts."""
        return sum(getattr(counts, what) for counts in self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCounts:
    """What a part holds, and how many documents it left out because training has them."""

    documents: int
    pictures: int
    dropped: int


def part_counts(config: MicrocosmConfig) -> dict[str, int]:
    """How many documents each part holds, by ``split/part``."""
    scenes = config.num_scenes
    # pages hold two to max_page_images pictures, each number equally often
    pages = scenes * config.share_interleaved / ((2 + config.max_page_images) / 2)
    train = {
        "text": scenes * config.texts_per_scene,
        "captions": scenes * config.share_captions,
        "grounded": scenes * config.share_grounded,
        "vqa": scenes * config.share_vqa,
        "interleaved": pages,
        "instruct": scenes * config.instructions_per_scene,
        "grounded-instruct": scenes * config.share_grounded_instruct,
    }
    counts = {f"train/{part}": max(1, round(count)) for part, count in train.items()}
    counts |= {f"heldout/{part}": config.num_heldout for part in train}
    counts |= {f"eval/{part}": config.num_eval for part in MAKERS["eval"]}
    return counts | {f"eval/{part}": len(make(config)) for part, make in FIXED.items()}


def make(
    config: MicrocosmConfig,
    folder: Path,
    *,
    force: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Made:
    """Write a microcosm, or what of it is missing.

    Args:
        config: The world and how much of it.
        folder: Where; made if missing.
        force: Replace parts that another config made.
        workers: Processes; None: as many as there are cores, for more than a few documents.
        progress: Show progress on stderr.

    Raises:
        ConfigError: If the folder holds parts of another config and ``force`` is not given.
        DataError: If the disk refuses, or the world is too small for held-out documents that
            training does not have.
    """
    digest = configs.digest((FORMAT, config))
    done = _parts_made(config, folder, digest, force=force)
    todo = {part: count for part, count in part_counts(config).items() if part not in done}
    kept = tuple(done)
    seen: set[str] = set()
    if any(not part.startswith("train/") for part in todo):
        for part in (part for part in kept if part.startswith("train/")):
            for doc in ShardReader(folder / part):
                seen.update(_digests(doc))
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop(config, _num_workers(workers, todo)))
        bar = None
        if progress and todo:
            bar = Progress("microcosm", total=sum(todo.values()), unit="documents")
            stack.enter_context(bar)
        for part, count in todo.items():
            done[part] = _make_part(workshop, folder / part, part, count, seen, digest, bar)
            # after every part, so that a killed run goes on behind the last one
            _write_manifest(config, folder, digest, done)
    return Made(folder, digest, done, kept)


def _make_part(
    workshop: "Workshop",
    folder: Path,
    part: str,
    count: int,
    seen: set[str],
    digest: str,
    bar: Progress | None,
) -> PartCounts:
    """Write one part; training parts add what they show to ``seen``, others keep clear of it."""
    config = workshop.config
    training = part.startswith("train/")
    written = pictures = dropped = 0
    provenance: Json = {"microcosm": digest, "part": part, "seed": config.seed}
    with ShardWriter(
        folder, documents_per_shard=config.documents_per_shard, provenance=provenance
    ) as writer:
        start = 0
        while written < count:
            if start > MAX_TRIES_PER_DOCUMENT * count:
                raise DataError(
                    f"{folder}: expected {count} documents that training does not have, found "
                    f"{written} in {start}",
                    hint="the world is too small for so many training documents",
                )
            stop = start + count - written
            for doc in workshop.documents(part, start, stop):
                if training:
                    seen.update(_digests(doc))
                elif not seen.isdisjoint(_digests(doc)):
                    dropped += 1
                    continue
                writer.write(doc)
                written += 1
                pictures += len(doc.images)
                if bar is not None:
                    bar.advance(part=part)
            start = stop
    return PartCounts(documents=written, pictures=pictures, dropped=dropped)


def _digests(doc: Document) -> list[str]:
    scenes = doc.meta.get("scenes", [])
    return [str(digest) for digest in scenes] if isinstance(scenes, list) else []


def _parts_made(
    config: MicrocosmConfig, folder: Path, digest: str, *, force: bool
) -> dict[str, PartCounts]:
    """The parts that this very config made, from the manifest.

    Raises:
        ConfigError: If there are parts of another config, or folders that are not ours.
    """
    hint = "--force replaces it; or choose another folder"
    path = folder / "manifest.json"
    if not path.exists():
        for part in part_counts(config):
            # without a manifest only a part whose run was killed may be replaced unasked
            if (folder / part).exists() and not force and not _is_ours(folder / part, digest):
                raise ConfigError(f"{folder / part}: expected nothing there, found it", hint=hint)
        return {}
    manifest = read_json(path)
    parts = manifest.get("parts") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or not isinstance(parts, dict):
        raise DataError(f"{path}: expected the manifest of a microcosm", hint=hint)
    if manifest.get("digest") != digest:
        if force:
            return {}
        raise ConfigError(
            f"{folder}: expected a microcosm of this config, found one of another", hint=hint
        )
    return {
        part: configs.from_json(PartCounts, counts, where=f"{path}: {part}")
        for part, counts in parts.items()
        if (folder / part).is_dir()
    }


def _is_ours(folder: Path, digest: str) -> bool:
    """Whether a folder holds shards that this very config made."""
    if not (folder / "manifest.json").is_file():
        return False
    provenance = ShardReader(folder).manifest.get("provenance")
    return isinstance(provenance, dict) and provenance.get("microcosm") == digest


def _write_manifest(
    config: MicrocosmConfig, folder: Path, digest: str, parts: Mapping[str, PartCounts]
) -> None:
    write_json(
        folder / "manifest.json",
        {
            "format": FORMAT,
            "digest": digest,
            "config": configs.to_json(config),
            "parts": configs.to_json(parts),
            "kinds": [configs.to_json(kind) for kind in kinds(config)],
        },
    )


# --- processes


class Workshop:
    """Makes documents in order, in this process or in several.

    Args:
        config: The world.
        num_workers: Processes; 1 works in this one.
    """

    def __init__(self, config: MicrocosmConfig, num_workers: int) -> None:
        self.config = config
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workshop":
        if self.num_workers > 1:
            # spawned, not forked: a fork of a process with threads (torch) can hang
            self._pool = ProcessPoolExecutor(
                self.num_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=end_with_parent,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def documents(self, part: str, start: int, stop: int) -> Iterator[Document]:
        """Documents of a part with indices from start up to but not including stop.

        Raises:
            DataError: If a process was killed.
        """
        if part.startswith("eval/") and part.removeprefix("eval/") in FIXED:
            yield from FIXED[part.removeprefix("eval/")](self.config)[start:stop]
            return
        chunks = (
            (self.config, part, first, min(first + CHUNK, stop))
            for first in range(start, stop, CHUNK)
        )
        if self._pool is None:
            for chunk in chunks:
                yield from make_chunk(*chunk)
            return
        # a few chunks ahead of the writer, so that memory does not grow with the dataset
        ahead: deque[Future[list[Document]]] = deque()
        try:
            for chunk in chunks:
                ahead.append(self._pool.submit(make_chunk, *chunk))
                if len(ahead) > 4 * self.num_workers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "microcosm: expected worker processes to finish, found one that died",
                hint="workers=1 makes documents in this process; a script that makes a microcosm "
                "with more needs `if __name__ == '__main__':`",
            ) from error


def make_chunk(config: MicrocosmConfig, part: str, start: int, stop: int) -> list[Document]:
    """Documents of a part with indices from start up to but not including stop."""
    split, _, name = part.partition("/")
    maker = MAKERS[split][name]
    return [maker(config, split, index) for index in range(start, stop)]


def _num_workers(workers: int | None, todo: Mapping[str, int]) -> int:
    if workers is not None:
        return max(1, workers)
    if sum(todo.values()) < MIN_DOCUMENTS_FOR_PROCESSES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
