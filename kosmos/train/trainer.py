"""The training loop: a run and a folder in, metrics, checkpoints and a model folder out.

::

    out/
        run.json          the resolved run and the digests of what it read
        metrics.jsonl     a record per step, and held-out losses
        tensorboard/      the same for TensorBoard
        checkpoints/      the latest few, see checkpoint.py
        index/            rows of the data, unless kept elsewhere
        model/            the trained model, when the last step is done

A killed run goes on from its last checkpoint as if nothing had happened: batches and dropout are
functions of (seed, step), so with the same number of threads every later loss is the same to the
last bit.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

import torch

from kosmos.data.batch import Batch
from kosmos.data.loader import Loader
from kosmos.data.unigram import unigram_loss
from kosmos.errors import CheckpointError, ConfigError
from kosmos.files import Json, read_json, write_json
from kosmos.logs import Progress
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.runtime import peak_memory_bytes
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.checkpoint import Checkpoints
from kosmos.train.config import Run, check_run
from kosmos.train.metrics import MetricsLog
from kosmos.train.objectives import make_objective
from kosmos.train.optimizer import make_optimizer
from kosmos.train.record import check_same_run, run_record
from kosmos.train.schedule import learning_rate
from kosmos.train.start import start_from
from kosmos.train.step import heldout_losses, training_step
from kosmos.weights.folder import save_model

_log = logging.getLogger(__name__)

OnStep = Callable[[dict[str, Json]], None]


def train(
    run: Run,
    *,
    out: Path,
    resume: bool = False,
    cache_folder: Path | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Train a model.

    Ctrl-C and SIGTERM finish the step, leave a checkpoint and raise KeyboardInterrupt.

    Args:
        run: What to train.
        out: Run folder.
        resume: Go on from the last checkpoint in ``out``; from the start if there is none.
        cache_folder: Where indices of the data are kept; None: ``out/index``.
        on_step: Called with every training record.

    Returns:
        The model folder.

    Raises:
        ConfigError: If the run contradicts itself or names no data, or if several processes were
            started.
        CheckpointError: If ``out`` holds a run that is not to be resumed, or another run's, or a
            checkpoint is damaged or cannot be written.
        DataError: If data is missing, damaged or too much of it unusable, or a loss is not finite.
    """
    out = Path(out)
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes > 1:
        # each would train the same model into the same folder
        raise ConfigError(
            f"WORLD_SIZE: expected one process, found {num_processes}",
            hint="start kosmos train without torchrun; it trains on one process",
        )
    if not resume and (out / "run.json").exists():
        raise CheckpointError(
            f"{out}: expected an empty run folder, found a run",
            hint="--resume goes on with it; or choose another folder",
        )
    if not run.tokenizer:
        raise ConfigError(
            "tokenizer: expected a SentencePiece model file, found none",
            hint="--set tokenizer=FILE; kosmos tokenizer train makes one",
        )
    tokenizer = Tokenizer.load(run.tokenizer, num_cells=run.num_cells)
    check_run(run, vocabulary_size=tokenizer.vocabulary.size)
    loader = Loader(
        run.streams,
        tokenizer,
        seed=run.seed,
        layout=run.layout,
        image=run.image,
        micro_batch_tokens=run.train.micro_batch_tokens,
        heldout_sequences=run.train.heldout_sequences,
        cache_folder=cache_folder or out / "index",
    )
    return _Training(run, loader, out, on_step).run_all()


@dataclass(frozen=True, slots=True)
class _Done:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    wall_s: float = 0.0


class _Training:
    """A run on its way."""

    def __init__(self, run: Run, loader: Loader, out: Path, on_step: OnStep | None) -> None:
        self.run = run
        self.loader = loader
        self.out = out
        self.on_step = on_step
        self.record = run_record(run, loader)
        self.checkpoints = Checkpoints(out / "checkpoints", keep=run.train.keep_checkpoints)
        self.done = _Done()
        _check_images(run, loader)
        self._unigram: dict[str, float] = {}
        self._began_s = 0.0

    def run_all(self) -> Path:
        """Build or restore, train to the end, save the model."""
        self._prepare()
        metrics = MetricsLog(self.out, step=self.done.step)
        with closing(metrics), _stop_requests() as stop:
            self._loop(metrics, stop)
        folder = self.out / "model"
        save_model(
            folder,
            model=self.model,
            tokenizer=self.loader.tokenizer,
            image=self.run.image,
            layout=self.run.layout,
            provenance={**self.record, "step": self.done.step, "tokens": self.done.tokens},
        )
        _log.info("model in %s; peak memory %.2f GB", folder, peak_memory_bytes() / 1e9)
        return folder

    def _prepare(self) -> None:
        """Model and optimizer, fresh or as the last checkpoint left them."""
        run, file = self.run, self.out / "run.json"
        if file.exists():
            check_same_run(read_json(file), self.record, where=str(file))
        self.checkpoints.clean()
        steps = self.checkpoints.steps()
        if steps:
            saved = self.checkpoints.record(steps[-1])
            check_same_run(
                saved.get("made_by"), self.record, where=str(self.checkpoints.path(steps[-1]))
            )
        self.model = Kosmos(run.model)
        initialize(self.model, run.seed)
        if not steps and run.train.start_from:
            start_from(self.model, self.loader.tokenizer, run.train.start_from)
        self.model.to("cuda" if torch.cuda.is_available() else "cpu").train()
        self.objective = make_objective(self.model, run.train, self.loader.tokenizer.vocabulary)
        self.optimizer = make_optimizer(self.objective.module, run.train)
        if steps:
            self.checkpoints.load(steps[-1], self.objective.module, self.optimizer)
            done = saved["done"]
            assert isinstance(done, dict)
            self.done = _Done(**done)  # type: ignore[arg-type]
            _log.info("resumed from step %d", self.done.step)
        write_json(file, self.record)

    def _loop(self, metrics: MetricsLog, stop: threading.Event) -> None:
        run, config = self.run, self.run.train
        start = self.done.step
        self._began_s = time.monotonic() - self.done.wall_s
        batches = self.loader.prefetch(start, config.steps)
        progress = Progress(f"train {run.name}", total=config.steps, unit="steps", start=start)
        with progress, closing(batches):
            while self.done.step < config.steps:
                record = self._step(next_of=batches)
                metrics.write(record)
                if self.on_step is not None:
                    self.on_step(record)
                step = self.done.step
                is_last = step == config.steps
                if step % config.log_every == 0 or is_last:
                    _advance(progress, record)
                if is_last or (config.heldout_every and step % config.heldout_every == 0):
                    self._heldout(metrics)
                if is_last or step % config.checkpoint_every == 0 or stop.is_set():
                    self._save()
                if stop.is_set() and not is_last:
                    _log.info("stopped after step %d; --resume goes on", step)
                    raise KeyboardInterrupt

    def _step(self, *, next_of: Iterator[Sequence[Batch]]) -> dict[str, Json]:
        """One step and its record."""
        began_s = time.monotonic()
        batches = next(next_of)
        data_wait_s = time.monotonic() - began_s
        config, step = self.run.train, self.done.step + 1
        rate = learning_rate(step, config)
        result = training_step(
            self.objective,
            self.optimizer,
            batches,
            learning_rate=rate,
            clip_norm=config.clip_norm,
            seed=self.run.seed,
            step=step,
        )
        now_s = time.monotonic()
        self.done = _Done(step, self.done.tokens + result.num_tokens, now_s - self._began_s)
        return {
            "kind": "train",
            "step": step,
            "tokens": self.done.tokens,
            "wall_s": round(self.done.wall_s, 3),
            "loss": result.loss,
            "losses": dict(result.losses),
            "learning_rate": rate,
            "grad_norm": result.grad_norm,
            "num_tokens": result.num_tokens,
            "num_loss_tokens": result.num_loss_tokens,
            "tokens_per_s": round(result.num_tokens / (now_s - began_s), 1),
            "data_wait_s": round(data_wait_s, 4),
        }

    def _heldout(self, metrics: MetricsLog) -> None:
        """Score held-out data beside the unigram baseline; streams without any have no entry."""
        losses: dict[str, Json] = {}
        for name in self.loader.heldout_streams:
            batches = self.loader.heldout(name)
            losses |= heldout_losses(self.objective, batches)
            if name not in self._unigram and self.run.train.objective == "next-token":
                counts = self.loader.indices[name].token_counts
                self._unigram[name] = unigram_loss(counts, batches)
        if losses:
            metrics.write(
                {
                    "kind": "heldout",
                    "step": self.done.step,
                    "tokens": self.done.tokens,
                    "wall_s": round(time.monotonic() - self._began_s, 3),
                    "losses": losses,
                    "unigram": dict(self._unigram),
                }
            )

    def _save(self) -> None:
        self.done = replace(self.done, wall_s=time.monotonic() - self._began_s)
        record: dict[str, Json] = {"made_by": self.record, "done": asdict(self.done)}
        self.checkpoints.save(self.done.step, self.objective.module, self.optimizer, record)


def _advance(progress: Progress, record: dict[str, Json]) -> None:
    step, loss, rate = record["step"], record["loss"], record["tokens_per_s"]
    assert isinstance(step, int)
    assert isinstance(loss, float)
    assert isinstance(rate, float)
    progress.advance(step - progress.done, loss=loss, tokens_per_s=rate)


def _check_images(run: Run, loader: Loader) -> None:
    if run.model.vision is not None:
        return
    for name, index in loader.indices.items():
        if index.num_images:
            raise ConfigError(
                f"streams.{name}: expected text alone for a language model, found "
                f"{index.num_images} pictures",
                hint="give the model a vision tower, or drop the stream",
            )


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one interrupts at once.

    Only the main thread may handle signals; elsewhere the event is never set.
    """
    stop = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        _log.info("stopping after this step; once more to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
