"""The training loop: a run and a folder in, metrics, checkpoints and a model folder out.

::

    out/
        run.json          the resolved run and the digests of what it read
        metrics.jsonl     a record per step, and held-out losses
        events.jsonl      steps that were not finite or far above the usual loss, with documents;
                          absent without any
        sessions.jsonl    when, where and by which command it was started
        tensorboard/      metrics and held-out losses for TensorBoard
        checkpoints/      the latest few, see checkpoint.py
        model/            the trained model, when the last step is done
        adapter/          what LoRA learned, of a run with an adapter

A killed run goes on from its last checkpoint as if nothing had happened: batches and dropout are
functions of (seed, step), so with the same number of threads every later loss is the same to the
last bit. The same run may go on with another number of processes: every step holds the same samples
and the same dropout, and losses differ by the order of summation alone.

Of several processes the first writes and speaks; all do the same steps, and stop at the same one.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

from kosmos.data.batch import Batch
from kosmos.data.config import skipped_steps
from kosmos.data.loader import Loader
from kosmos.data.mixture import data_step
from kosmos.data.rules import tokenizer_rules
from kosmos.errors import CheckpointError, DataError
from kosmos.files import Json, read_json, write_json
from kosmos.findings import raise_first_error
from kosmos.logs import Progress
from kosmos.runtime import peak_memory_bytes, require
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.assembly import assemble
from kosmos.train.checkpoint import Checkpoints
from kosmos.train.config import Run, run_rules
from kosmos.train.ending import check_place, leave_model
from kosmos.train.events import EventsLog, nonfinite_error
from kosmos.train.heldout import Best, Heldout
from kosmos.train.metrics import MetricsLog
from kosmos.train.monitor import Monitor, note_start, shown
from kosmos.train.optimizer import learning_rate
from kosmos.train.parallel import Processes, joined
from kosmos.train.record import check_same_data, check_same_run, run_lock, run_record
from kosmos.train.start import start_folder_rules, start_rules
from kosmos.train.step import StepResult, training_step
from kosmos.train.stopping import stop_requests
from kosmos.train.threads import watch_threads

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
        cache_folder: Where indices of the data are kept; None: where those of all runs are.
        on_step: Called with every training record.

    Returns:
        The model folder; the adapter's, if it is all the run leaves.

    Raises:
        ConfigError: If the run contradicts itself or names no data, or a stranger's files lie where
            its model goes.
        CheckpointError: If ``out`` holds a run that is not to be resumed, another run's or one that
            is under way, or a checkpoint is damaged or cannot be written.
        DataError: If data is missing, damaged or too much of it unusable, or a loss is not finite.
    """
    out = Path(out)
    raise_first_error(chain(start_folder_rules(run), tokenizer_rules(run.data)))
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    raise_first_error(run_rules(run, vocabulary_size=tokenizer.vocabulary.size))
    if run.train.adapter is not None:
        require("peft", extra="finetune")
    check_place(run, out)
    if run.train.adapter is not None or not (out / "checkpoints").exists():
        raise_first_error(start_rules(run, tokenizer))
    with joined(sharded=run.train.precision != "float32") as processes:
        if not resume and processes.first_of((out / "run.json").exists()):
            raise CheckpointError(
                f"{out}: expected an empty run folder, found a run",
                hint="--resume goes on with it; or choose another folder",
            )
        with processes.one_before_the_others("indices"):  # which the first may have to make
            loader = Loader(run.data, tokenizer, seed=run.seed, cache_folder=cache_folder)
        with run_lock(out, processes):
            training = _Training(run, loader, out, processes, on_step)
            training.is_resumed = resume
            return training.run_all()


@dataclass(frozen=True, slots=True)
class _Done:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    wall_s: float = 0.0


class _Training:
    """A run on its way."""

    def __init__(
        self,
        run: Run,
        loader: Loader,
        out: Path,
        processes: Processes,
        on_step: OnStep | None,
    ) -> None:
        self.run = run
        self.loader = loader
        self.out = out
        self.processes = processes
        self.on_step = on_step
        self.record = run_record(run, loader)
        self.checkpoints = Checkpoints(
            out / "checkpoints",
            keep=run.train.keep_checkpoints,
            processes=processes,
            in_background=run.train.background_checkpoints,
            only_learning=run.train.adapter is not None,
        )
        self.done = _Done()
        self.best = Best()
        self.is_resumed = False
        self._began_s = 0.0
        self._skipped_in_a_row = 0

    def run_all(self) -> Path:
        """Build or restore, train to the end, save the model."""
        self._prepare()
        if self.processes.is_first:
            note_start(self.out, self.processes, step=self.done.step)
        with self._logs() as (metrics, events), stop_requests() as stop:
            try:
                self._loop(metrics, events, stop)
            finally:
                self.checkpoints.close()
        if self.run.train.keep_best:
            self._go_back_to_best()
        folder = leave_model(
            self.run,
            self.model,
            self.loader.tokenizer,
            out=self.out,
            provenance={**self.record, "step": self.done.step, "tokens": self.done.tokens},
            processes=self.processes,
        )
        if self.processes.is_first:
            _log.info("model in %s; peak memory %.2f GB", folder, peak_memory_bytes() / 1e9)
        self.processes.wait()
        return folder

    def _prepare(self) -> None:
        """Model and optimizer, fresh or as the last checkpoint left them."""
        run, file, processes = self.run, self.out / "run.json", self.processes
        if file.exists():
            check_same_run(read_json(file), self.record, run, where=str(file))
        self.checkpoints.clean()
        steps = processes.first_of(self.checkpoints.steps())
        if steps:
            saved = self.checkpoints.record(steps[-1])
            where = str(self.checkpoints.path(steps[-1]))
            check_same_run(saved.get("made_by"), self.record, run, where=where)
            check_same_data(saved["made_by"], run, num_done=steps[-1], where=where)
        assembly = assemble(run, self.loader, processes, is_resumed=bool(steps))
        self.model, self.objective, self.optimizer = assembly
        self.threads = watch_threads(processes.device, processes.size)
        self.monitor = Monitor(run.train, self.objective, processes)
        self.heldout = Heldout(run, self.loader, self.objective)
        if steps:
            self.checkpoints.load(steps[-1], self.objective.module, self.optimizer)
            done = saved["done"]
            assert isinstance(done, dict)
            self.done = _Done(**done)  # type: ignore[arg-type]
            best = saved.get("best", {})
            assert isinstance(best, dict)
            self.best = Best(**best)  # type: ignore[arg-type]
            if processes.is_first:
                _log.info("resumed from step %d", self.done.step)
        processes.wait()  # before the record that all have compared with theirs is replaced
        if processes.is_first:
            write_json(file, self.record)

    @contextmanager
    def _logs(self) -> Iterator[tuple[MetricsLog | None, EventsLog | None]]:
        """Where the first process writes what all of them measured."""
        if not self.processes.is_first:
            yield None, None
            return
        with (
            closing(MetricsLog(self.out, step=self.done.step)) as metrics,
            closing(EventsLog(self.out, step=self.done.step)) as events,
        ):
            yield metrics, events

    def _loop(
        self, metrics: MetricsLog | None, events: EventsLog | None, stop: threading.Event
    ) -> None:
        run, config, processes = self.run, self.run.train, self.processes
        start = self.done.step
        self._began_s = time.monotonic() - self.done.wall_s
        batches = self.loader.prefetch(
            start,
            config.steps,
            rank=processes.rank,
            num_processes=processes.size,
            num_workers=config.loader_workers,
        )
        progress = None
        if processes.is_first:
            progress = Progress(f"train {run.name}", total=config.steps, unit="steps", start=start)
        with progress or nullcontext(), closing(batches):
            if start == 0 and config.heldout_every and config.start_from:
                self._heldout(metrics)  # what training has to improve on
            while self.done.step < config.steps:
                record = self._step(next_of=batches, events=events)
                if metrics is not None:
                    metrics.write(record)
                if self.on_step is not None:
                    self.on_step(record)
                step = self.done.step
                is_last = step == config.steps
                if progress is not None and (step % config.log_every == 0 or is_last):
                    progress.advance(step - progress.done, **shown(record))
                if is_last or (config.heldout_every and step % config.heldout_every == 0):
                    self._heldout(metrics)
                # a signal may have reached one process and not yet another
                (stops,) = processes.sum([stop.is_set()])
                is_best = config.keep_best and self.best.step == step
                if is_last or step % config.checkpoint_every == 0 or stops or is_best:
                    self._save()
                if stops and not is_last:
                    self.checkpoints.wait()
                    if processes.is_first:
                        again = "the same command" if self.is_resumed else "--resume"
                        _log.info("stopped after step %d; %s goes on", step, again)
                    raise KeyboardInterrupt

    def _step(
        self, *, next_of: Iterator[Sequence[Batch]], events: EventsLog | None
    ) -> dict[str, Json]:
        """One step and its record."""
        config, step = self.run.train, self.done.step + 1
        began_s = time.monotonic()
        batches = _read(next_of, step)
        data_wait_s = time.monotonic() - began_s
        rate = learning_rate(step, config)
        result = training_step(
            self.objective,
            self.optimizer,
            batches,
            learning_rate=rate,
            clip_norm=config.clip_norm,
            seed=self.run.seed,
            step=step,
            processes=self.processes,
        )
        now_s = time.monotonic()
        self.threads.after((now_s - began_s - data_wait_s) / max(1, result.flops))
        self._judge(result, batches, step, events)
        self.done = _Done(step, self.done.tokens + result.num_tokens, now_s - self._began_s)
        is_skipped = bool(result.problems)
        record: dict[str, Json] = {
            "kind": "train",
            "step": step,
            "tokens": self.done.tokens,
            "wall_s": round(self.done.wall_s, 3),
            "loss": None if is_skipped else result.loss,
            "losses": {} if is_skipped else dict(result.losses),
            "learning_rate": rate,
            "grad_norm": None if is_skipped else result.grad_norm,
        }
        return record | self.monitor.measure(
            result, step_s=now_s - began_s, data_wait_s=data_wait_s
        )

    def _judge(
        self, result: StepResult, batches: Sequence[Batch], step: int, events: EventsLog | None
    ) -> None:
        """Note a step that is out of the common; raise if the run must not go on."""
        of_data = data_step(step - 1, skipped_steps(self.run.data.skip_steps)) + 1
        if not result.problems:
            self._skipped_in_a_row = 0
            self.monitor.note_spikes(result, batches, events, step=step, data_step=of_data)
            return
        self._skipped_in_a_row += 1
        if events is not None:
            events.nonfinite(step, result.problems, data_step=of_data)
        config = self.run.train
        if config.nonfinite == "stop" or self._skipped_in_a_row > config.max_nonfinite:
            raise nonfinite_error(result.problems, step)
        if self.processes.is_first:
            _log.warning("step %d: %s; skipped, see events.jsonl", step, result.problems[0].what)

    def _heldout(self, metrics: MetricsLog | None) -> None:
        """Score held-out data beside the unigram baseline; streams without any have no entry."""
        losses = self.heldout.measure()
        if losses and metrics is not None:
            metrics.write(
                {
                    "kind": "heldout",
                    "step": self.done.step,
                    "tokens": self.done.tokens,
                    "wall_s": round(time.monotonic() - self._began_s, 3),
                    "losses": dict(losses),
                    "unigram": dict(self.heldout.unigram),
                }
            )
        if losses:
            self.best = self.best.after(self.done.step, losses)
            if self.processes.is_first:
                told = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
                mark = ", the best so far" if self.best.step == self.done.step > 0 else ""
                _log.info("step %d: held-out loss %s%s", self.done.step, told, mark)

    def _go_back_to_best(self) -> None:
        """Put the checkpoint of the lowest held-out loss into the model."""
        best = self.best
        if best.loss is None:
            raise DataError("held-out loss: expected a finite one, found none in the whole run")
        if best.step != self.done.step:
            self.checkpoints.load(best.step, self.objective.module, self.optimizer)
            done = self.checkpoints.record(best.step)["done"]
            assert isinstance(done, dict)
            self.done = _Done(**done)  # type: ignore[arg-type]
        if self.processes.is_first:
            _log.info("the model is that of step %d, held-out loss %.4g", best.step, best.loss)
            if best.is_worse_than_before:
                _log.warning(
                    "held-out loss was %.4g before the first step and never less; a lower "
                    "train.learning_rate, an adapter or more data may help",
                    best.before,
                )

    def _save(self) -> None:
        self.done = replace(self.done, wall_s=time.monotonic() - self._began_s)
        record: dict[str, Json] = {
            "made_by": self.record,
            "done": asdict(self.done),
            "best": asdict(self.best),
        }
        best = self.best.step if self.run.train.keep_best else 0
        module = self.objective.module
        self.checkpoints.save(self.done.step, module, self.optimizer, record, best=best)


def _read(batches: Iterator[Sequence[Batch]], step: int) -> Sequence[Batch]:
    """The data of a step; what keeps it from being read is told with the step."""
    try:
        return next(batches)
    except DataError as error:
        raise DataError(
            f"step {step}: {error.message}",
            hint=error.hint
            or "put the data back as it was and use --resume, which goes on from "
            "the last checkpoint",
        ) from error
