"""What a run card is made of, read off the run folder and the indices of its data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kosmos import config
from kosmos.card.curves import Curves, read_run
from kosmos.data.indexing import folder_of_index, recorded_folder
from kosmos.data.rules import rows_per_step
from kosmos.errors import DataError
from kosmos.files import read_json, sha256_file
from kosmos.train.config import Run
from kosmos.train.events import FILE as EVENTS
from kosmos.train.events import is_event
from kosmos.train.metrics import FILE as METRICS
from kosmos.train.metrics import read_records
from kosmos.train.record import SESSIONS, is_session


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """What a card says of one corpus."""

    name: str
    """``text``, or ``text/wikipedia``."""
    path: str
    """Where it was."""
    shards: str
    """Digest of its shards."""
    is_heldout: bool
    """Whether it has data that is measured and never trained on."""
    rows_per_step: float
    """Rows of it in a step, on average."""
    index: dict[str, Any] | None
    """What its index says of itself; None if that is not there any more."""


@dataclass(frozen=True, kw_only=True)
class LeftFacts:
    """What a card says of a folder that the run left."""

    name: str
    """``model`` or ``adapter``."""
    digests: dict[str, str]
    """SHA-256 of its files with weights."""
    step: int
    """Whose weights they are."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a card is made of."""

    folder: Path
    run: Run
    record: dict[str, Any]
    """``run.json``."""
    recipe: Run | None
    """What it came from, if that is known."""
    curves: Curves
    events: Sequence[dict[str, Any]]
    sessions: Sequence[dict[str, Any]]
    """Its starts."""
    num_damaged: dict[str, int]
    """Lines of its logs that are no records, and were left out, by the name of the log."""
    corpora: Sequence[CorpusFacts]
    checkpoints: Sequence[str]
    """Names of those that are there."""
    left: Sequence[LeftFacts]
    """What it left at its end."""

    @property
    def step(self) -> int:
        """Steps that are done."""
        return int(self.curves.last.get("step", 0))

    @property
    def is_finished(self) -> bool:
        """Whether it left what it was to leave."""
        return self.step == self.run.train.steps and bool(self.left)


def read_facts(folder: Path, *, recipe: Run | None, index_folder: Path | None) -> Facts:
    """Gather what a card is made of.

    Args:
        index_folder: Where the indices of its data are; None: where its record says.

    Raises:
        DataError: If there is no run.
    """
    run, record = read_run_record(folder)
    curves = read_run(folder / METRICS)
    damaged: dict[str, list[DataError]] = {METRICS: curves.damaged, EVENTS: [], SESSIONS: []}
    sessions, events = (
        list(read_records(folder / name, is_whole, damaged=damaged[name]))
        for name, is_whole in ((SESSIONS, is_session), (EVENTS, is_event))
    )
    index_folder = index_folder or recorded_folder(folder)
    return Facts(
        folder=folder,
        run=run,
        record=record,
        recipe=recipe,
        curves=curves,
        events=events,
        sessions=sessions,
        num_damaged={name: len(errors) for name, errors in damaged.items() if errors},
        corpora=list(_corpora(run, record, index_folder)),
        checkpoints=sorted(path.name for path in (folder / "checkpoints").glob("step-*")),
        left=[_left(folder / name) for name in ("model", "adapter") if (folder / name).is_dir()],
    )


def read_run_record(folder: Path) -> tuple[Run, dict[str, Any]]:
    """The run of a run folder, and all that ``run.json`` says.

    Raises:
        DataError: If there is no run.
    """
    path = folder / "run.json"
    record = read_json(path)
    if not isinstance(record, dict) or not {"run", "data"} <= record.keys():
        raise DataError(f"{path}: expected the record of a run, found something else")
    return config.from_json(Run, record["run"], where=str(path)), record


def _corpora(run: Run, record: dict[str, Any], indices: Path) -> Iterator[CorpusFacts]:
    for stream in run.data.streams:
        for corpus in stream.sources:
            name = stream.source_name(corpus)
            recorded = record["data"][name]
            file = folder_of_index(indices, recorded["index"]) / "index.json"
            index: Any = read_json(file) if file.exists() else None
            yield CorpusFacts(
                name=name,
                path=recorded["path"],
                shards=recorded["shards"],
                is_heldout=bool(corpus.heldout_path),
                rows_per_step=rows_per_step(stream, corpus),
                index=index,
            )


def _left(folder: Path) -> LeftFacts:
    """A folder that is there is whole: it was written beside its name."""
    is_adapter = folder.name == "adapter"
    said: Any = read_json(folder / ("openkosmos.json" if is_adapter else "config.json"))
    provenance = said["provenance"]
    if is_adapter:
        digests = {file.name: sha256_file(file) for file in sorted(folder.glob("*.safetensors"))}
    else:
        digests = said["weights"]["sha256"]
        provenance = provenance.get("adapter", provenance)  # of a model with an adapter added
    return LeftFacts(name=folder.name, digests=digests, step=int(provenance["step"]))
