"""Checkpoints: everything a run continues from, in torch's distributed format.

::

    checkpoints/
        step-00000200/
            checkpoint.json    step, what the run and its data are, a SHA-256 for every file
            .metadata          torch DCP: model, optimizer
            __0_0.distcp       a file or more of each process

A checkpoint is whole or absent: it is written beside its name and renamed into place, and one that
is no longer kept is renamed away before it is deleted. Files of a killed writer are cleaned up.
The format loads on any number of processes. It may be written in the background, from a copy; what
fails there is raised at the next save or at the end.
"""

import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from kosmos.errors import CheckpointError, DataError, KosmosError, free_space
from kosmos.files import Json, read_json, sha256_file, write_json
from kosmos.train.checkpoint_reader import METADATA, CheckpointPlanner, CheckpointReader
from kosmos.train.parallel import ALONE, Processes

FORMAT_VERSION = 2
RECORD = "checkpoint.json"
_LEFT = re.compile(r"\.step-\d+(\.\d+)?\.(partial|old)")

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run. All processes of the run call each method together.

    Args:
        folder: Where they are, for all processes the same; made when the first is written.
        keep: How many of the latest stay.
        processes: Of the run.
        in_background: Whether :meth:`save` returns before the disk is done.
        only_learning: Whether parameters that do not learn are left out: they are what they were
            when a checkpoint is loaded.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        processes: Processes = ALONE,
        in_background: bool = False,
        only_learning: bool = False,
    ) -> None:
        self.folder = folder
        self.keep = keep
        self._processes = processes
        self._writers = processes.apart()
        self._thread = ThreadPoolExecutor(1, "checkpoint") if in_background else None
        self._under_way: Future[None] | None = None
        self._options = StateDictOptions(
            ignore_frozen_params=only_learning, strict=not only_learning
        )

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending; whatever else lies there is none."""
        found = [path for path in self.folder.glob("step-*") if (path / RECORD).is_file()]
        steps = [int(path.name[5:]) for path in found if path.name[5:].isdecimal()]
        return sorted(step for step in steps if self.path(step) in found)

    def path(self, step: int) -> Path:
        """Folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def clean(self) -> None:
        """Delete what a killed writer left behind, and tell what is not of this run's making."""
        if not self._processes.is_first or not self.folder.is_dir():
            return
        ours = {self.path(step) for step in self.steps()}
        for path in sorted(set(self.folder.iterdir()) - ours):
            if _LEFT.fullmatch(path.name) and path.is_dir():
                _log.info("%s: left by a writer that was killed; deleted", path)
                shutil.rmtree(path)
            else:
                _log.warning("%s: no checkpoint; passed over", path)

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: dict[str, Json],
        *,
        best: int = 0,
    ) -> None:
        """Write a checkpoint, then let go of those that are no longer kept.

        Args:
            step: Steps done.
            model: Its weights are saved.
            optimizer: Its state is saved.
            record: What else to remember, as JSON.
            best: Step whose checkpoint stays, however old.

        Raises:
            CheckpointError: If the disk refuses, or refused the one before; earlier checkpoints
                stay as they were.
        """
        self.wait()
        weights, moments = get_state_dict(model, optimizer, options=self._options)
        state = {"model": weights, "optimizer": moments}
        if self._thread is None:
            self._write(step, state, record, best)
            return
        plain = StagingOptions(
            use_pinned_memory=False,
            use_shared_memory=False,
            use_async_staging=False,
            use_non_blocking_copy=False,
        )
        stager = DefaultStager(plain)
        copied = stager.stage(state)
        stager.close()
        self._under_way = self._thread.submit(self._write, step, copied, record, best)

    def wait(self) -> None:
        """Until the checkpoint under way is written.

        Raises:
            CheckpointError: If the disk refused it.
        """
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def close(self) -> None:
        """:meth:`wait`, and then no more."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def load(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put a checkpoint into a model and its optimizer.

        Raises:
            CheckpointError: If a file is missing or damaged, or the model is another.
        """
        path = self.path(step)
        _first_for_all(self._processes, lambda: self._check_files(step))
        try:
            reader = CheckpointReader(path, self._files(step))
        except (OSError, ValueError) as error:
            raise self._damaged(step, path / METADATA, str(error)) from error
        weights, moments = get_state_dict(model, optimizer, options=self._options)
        state = {"model": weights, "optimizer": moments}
        try:
            with _no_word_of_one_process():
                load_distributed(
                    state,
                    storage_reader=reader,
                    planner=CheckpointPlanner(),
                    no_dist=not self._processes.are_joined,
                )
            set_state_dict(
                model,
                optimizer,
                model_state_dict=weights,
                optim_state_dict=moments,
                options=self._options,
            )
        except (CheckpointException, RuntimeError, ValueError) as error:
            _let_pass(error)
            raise CheckpointError(f"{path}: does not fit the model: {_cause(error)}") from error

    def record(self, step: int) -> dict[str, Json]:
        """What a checkpoint remembers beside the tensors.

        Raises:
            CheckpointError: If it is missing, damaged or of another format.
        """
        file = self.path(step) / RECORD
        try:
            record = read_json(file)
        except DataError as error:
            raise self._damaged(step, file, error.message) from error
        if not isinstance(record, dict) or record.get("format_version") != FORMAT_VERSION:
            raise self._damaged(step, file, "another format")
        return record

    def _write(
        self,
        step: int,
        state: Any,  # noqa: ANN401
        record: dict[str, Json],
        best: int,
    ) -> None:
        path = self.path(step)
        scratch = path.with_name(f".{path.name}.partial")

        def begin() -> None:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)

        def finish() -> None:
            files = {file.name: sha256_file(file) for file in sorted(scratch.iterdir())}
            write_json(
                scratch / RECORD,
                {"format_version": FORMAT_VERSION, "step": step, **record, "files": files},  # type: ignore[dict-item]
            )
            if path.exists():
                self._delete(path)
            scratch.rename(path)
            for old in self.steps()[: -self.keep] if self.keep > 0 else []:
                if old != best:
                    self._delete(self.path(old))

        try:
            _first_for_all(self._writers, begin)
            with _no_word_of_one_process():
                save_distributed(
                    state,
                    checkpoint_id=scratch,
                    process_group=self._writers.group,
                    no_dist=not self._writers.are_joined,
                )
            _first_for_all(self._writers, finish)
        except (CheckpointException, RuntimeError, OSError, DataError) as error:
            if self._writers.is_first:
                shutil.rmtree(scratch, ignore_errors=True)
            _let_pass(error)
            raise CheckpointError(
                f"{path}: could not be written: {_cause(error)} {free_space(self.folder)}",
                hint="earlier checkpoints are untouched; free some space and use --resume",
            ) from error

    def _delete(self, path: Path) -> None:
        doomed = self.folder / f".{path.name}.old"
        path.rename(doomed)
        shutil.rmtree(doomed)

    def _check_files(self, step: int) -> None:
        """Fail unless every file is what was written."""
        path = self.path(step)
        for name, expected in self._files(step).items():
            if not (path / name).is_file():
                raise self._damaged(step, path / name, "nothing there")
            if sha256_file(path / name) != expected:
                raise self._damaged(step, path / name, "another SHA-256 than when it was written")

    def _files(self, step: int) -> dict[str, Json]:
        """The checkpoint's files and their checksums."""
        files = self.record(step).get("files")
        if not isinstance(files, dict) or METADATA not in files:
            raise self._damaged(step, self.path(step) / RECORD, "no list of files")
        return files

    def _damaged(self, step: int, file: Path, found: str) -> CheckpointError:
        others = [other for other in self.steps() if other < step]
        back = f"from step {others[-1]}" if others else "from the start"
        return CheckpointError(
            f"{file}: expected a file of a whole checkpoint, found {found}",
            hint=f"move {self.path(step)} away to resume {back}",
        )


def _first_for_all(processes: Processes, action: Callable[[], None]) -> None:
    """Do something in the first process alone; what it raises, all raise."""
    failure: Exception | None = None
    if processes.is_first:
        try:
            action()
        except (OSError, KosmosError) as error:
            failure = error
    failure = processes.first_of(failure)
    if failure is not None:
        raise failure


@contextmanager
def _no_word_of_one_process() -> Iterator[None]:
    """DCP warns that one process is one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to (save|load)")
        yield


def _let_pass(error: BaseException) -> None:
    """Raise what is nobody's fault: DCP wraps Ctrl-C like a failure."""
    if isinstance(error, CheckpointException):
        for inner, _ in error.failures.values():
            if not isinstance(inner, Exception):
                raise inner from None


def _cause(error: BaseException) -> str:
    """The failure inside DCP's exception, which lists one per process."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, CheckpointException):
        inner, _ = next(iter(error.failures.values()))
        return f"{type(inner).__name__}: {inner}"
    return str(error)
