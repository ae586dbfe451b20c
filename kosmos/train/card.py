"""The run card: one page that says what ran, on what, how it went, and how to repeat it.

::

    RUN/card.md             the page, in Markdown
    RUN/card/losses.svg     loss of each stream
    RUN/card/machine.svg    speed, memory, waiting, gradient, rate

Everything on it is read off the run folder and the indices of its data, so that it can be made at
any time: of a run under way, of one that was stopped, of one that is done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kosmos import config
from kosmos.data.indexing import folder_of_index
from kosmos.errors import DataError
from kosmos.files import read_json, read_jsonl, write_text
from kosmos.train.card_text import page
from kosmos.train.charts import Panel, draw
from kosmos.train.config import Run
from kosmos.train.curves import Curves, read_run
from kosmos.train.sessions import read_sessions

LOSSES, MACHINE = "card/losses.svg", "card/machine.svg"


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """What a card says of one corpus."""

    name: str
    """``text``, or ``text/wikipedia``."""
    path: str
    """Where it was."""
    shards: str
    """Digest of its shards."""
    heldout_path: str
    """Where what is held out was; empty: nothing is."""
    share: float
    """Of the sequences of its stream."""
    sequences_per_step: int
    """Of its stream."""
    index: dict[str, Any] | None
    """What its index says of itself; None if it is not there any more."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a card is made of."""

    folder: Path
    """The run's."""
    run: Run
    """What ran."""
    record: dict[str, Any]
    """``run.json``."""
    recipe: Run | None
    """What it came from, if that is known."""
    curves: Curves
    """What it measured."""
    events: Sequence[dict[str, Any]]
    """What somebody should look at."""
    sessions: Sequence[dict[str, Any]]
    """Each start."""
    corpora: Sequence[CorpusFacts]
    """What it read."""
    checkpoints: Sequence[tuple[str, int]]
    """Names of those that are there, with their bytes."""
    models: dict[str, dict[str, Any]]
    """Files of each folder it left, with their digests, by the folder's name."""

    @property
    def step(self) -> int:
        """Steps that are done."""
        return int(self.curves.last.get("step", 0))

    @property
    def is_finished(self) -> bool:
        """Whether it left what it was to leave."""
        return self.step == self.run.train.steps and bool(self.models)


def write_card(
    folder: Path, *, recipe: Run | None = None, index_folder: Path | None = None
) -> Path:
    """Write the card of a run.

    Args:
        folder: The run's.
        recipe: What it came from, to say what is different; None: not known.
        index_folder: Where the indices of its data are; None: where its last session had them.

    Returns:
        The page.

    Raises:
        DataError: If there is no run, or the disk refuses.
    """
    facts = read_facts(folder, recipe=recipe, index_folder=index_folder)
    charts = {LOSSES: _losses(facts), MACHINE: _machine(facts)}
    for name, text in charts.items():
        if text:
            write_text(folder / name, text)
    card = folder / "card.md"
    write_text(card, page(facts, charts=[name for name, text in charts.items() if text]))
    return card


def read_name(folder: Path) -> str:
    """Name of a run, which is that of the recipe it came from.

    Args:
        folder: The run's.

    Raises:
        DataError: If there is no run.
    """
    return _read_run(folder)[0].name


def read_facts(
    folder: Path, *, recipe: Run | None = None, index_folder: Path | None = None
) -> Facts:
    """Gather what a card is made of; arguments as of :func:`write_card`."""
    run, record = _read_run(folder)
    sessions = read_sessions(folder)
    if index_folder is None:
        index_folder = Path(str(sessions[-1]["index"])) if sessions else folder / "index"
    events = folder / "events.jsonl"
    return Facts(
        folder=folder,
        run=run,
        record=record,
        recipe=recipe,
        curves=read_run(folder / "metrics.jsonl"),
        events=[row for row in read_jsonl(events) if isinstance(row, dict)]
        if events.exists()
        else [],
        sessions=sessions,
        corpora=list(_corpora(run, record, index_folder)),
        checkpoints=[
            (path.name, sum(file.stat().st_size for file in path.iterdir()))
            for path in sorted((folder / "checkpoints").glob("step-*"))
        ],
        models={
            name: _digests(folder / name)
            for name in ("model", "adapter")
            if (folder / name).is_dir()
        },
    )


def _read_run(folder: Path) -> tuple[Run, dict[str, Any]]:
    path = folder / "run.json"
    record = read_json(path)
    if not isinstance(record, dict) or not {"run", "data"} <= record.keys():
        raise DataError(f"{path}: expected the record of a run, found something else")
    return config.from_json(Run, record["run"], where=str(path)), record


def _corpora(run: Run, record: dict[str, Any], indices: Path) -> Iterator[CorpusFacts]:
    data = record["data"]
    assert isinstance(data, dict)
    for stream in run.streams:
        total = sum(corpus.weight for corpus in stream.sources)
        for corpus in stream.sources:
            name = stream.source_name(corpus)
            recorded = data[name]
            assert isinstance(recorded, dict)
            file = folder_of_index(indices, str(recorded["index"])) / "index.json"
            index = read_json(file) if file.exists() else None
            assert index is None or isinstance(index, dict)
            yield CorpusFacts(
                name=name,
                path=str(recorded["path"]),
                shards=str(recorded["shards"]),
                heldout_path=corpus.heldout_path,
                share=corpus.weight / total,
                sequences_per_step=stream.sequences_per_step,
                index=index,
            )


def _digests(folder: Path) -> dict[str, Any]:
    """Files with weights, and their SHA-256, as the folder itself has them."""
    file = folder / "config.json"
    if not file.exists():
        return {}
    value = read_json(file)
    weights = value.get("weights", {}) if isinstance(value, dict) else {}
    digests = weights.get("sha256", {}) if isinstance(weights, dict) else {}
    assert isinstance(digests, dict)
    return digests


# --- charts


def _losses(facts: Facts) -> str:
    marks: dict[str, list[float]] = {}
    for event in facts.events:
        marks.setdefault(str(event["stream"]), []).append(float(event["step"]))
    panels = []
    for name, curve in facts.curves.streams.items():
        notes = [f"held out {curve.heldout[-1][1]:.3g}"] if curve.heldout else []
        if curve.unigram is not None:
            notes.append(f"unigram {curve.unigram:.3g}")
        panels.append(
            Panel(
                title=name,
                points=curve.train,
                note=" \u00b7 ".join(notes),
                dots=curve.heldout,
                baseline=curve.unigram,
                marks=sorted({*marks.get(name, []), *marks.get("", [])}),
            )
        )
    if not any(panel.points or panel.dots for panel in panels):
        return ""
    title = f"Loss of each stream of {facts.run.name}, in nats per token"
    return draw(panels, title=title, last_step=facts.step, key=True)


def _machine(facts: Facts) -> str:
    found = facts.curves.quantities
    peak = "resident" if _is_on_processor(facts) else "allocated"
    panels = [
        Panel(
            title="Tokens per second",
            points=found.get("tokens_per_s", []),
            from_zero=True,
            show=_compact,
        ),
        Panel(
            title="Utilisation",
            note="of the operations that the device could do",
            points=found.get("utilisation", []),
            from_zero=True,
            show="{:.3g}".format,
        ),
        Panel(
            title="Memory, GB",
            note=f"peak so far, {peak}, of the largest process",
            points=[(step, value / 1e9) for step, value in found.get("memory_bytes", [])],
            from_zero=True,
        ),
        Panel(
            title="Waiting for data",
            note="share of the step",
            points=found.get("data_wait_share", []),
            from_zero=True,
            show="{:.3g}".format,
        ),
        Panel(title="Gradient norm", points=found.get("grad_norm", []), from_zero=True),
        Panel(
            title="Learning rate",
            points=found.get("learning_rate", []),
            from_zero=True,
            show="{:.2g}".format,
        ),
    ]
    if not any(panel.points for panel in panels):
        return ""
    title = f"Speed, memory and gradient of {facts.run.name}"
    return draw(panels, title=title, last_step=facts.step)


def _is_on_processor(facts: Facts) -> bool:
    return not facts.sessions or facts.sessions[-1]["device"] is None


def _compact(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}"
