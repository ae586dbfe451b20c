"""Checkpoints: everything a run continues from, in torch's distributed format.

::

    checkpoints/
        step-00000200/
            checkpoint.json    step, what the run and its data are, a SHA-256 for every file
            .metadata          torch DCP: model, optimizer
            __0_0.distcp

A checkpoint is whole or absent: it is written beside its name and renamed into place, and one that
is no longer kept is renamed away before it is deleted. Files of a killed writer are cleaned up.
The format loads on any number of processes.
"""

import logging
import shutil
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from kosmos.errors import CheckpointError, DataError
from kosmos.files import Json, atomic_folder, read_json, sha256_file, write_json

FORMAT_VERSION = 1
RECORD = "checkpoint.json"

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they are; made when the first is written.
        keep: How many of the latest stay.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        names = [path.name for path in self.folder.glob("step-*") if path.is_dir()]
        return sorted(int(name.removeprefix("step-")) for name in names)

    def path(self, step: int) -> Path:
        """Folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def clean(self) -> None:
        """Delete what a killed writer left behind."""
        for path in self.folder.glob(".step-*"):
            _log.info("%s: left by a writer that was killed; deleted", path)
            shutil.rmtree(path)

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, record: dict[str, Json]
    ) -> None:
        """Write a checkpoint, then let go of those that are no longer kept.

        Args:
            step: Steps done.
            model: Its weights are saved.
            optimizer: Its state is saved.
            record: What else to remember, as JSON.

        Raises:
            CheckpointError: If the disk refuses; earlier checkpoints stay as they were.
        """
        path = self.path(step)
        weights, moments = get_state_dict(model, optimizer)
        try:
            with atomic_folder(path) as scratch:
                with warnings.catch_warnings():
                    # DCP warns that one process is one process
                    warnings.filterwarnings("ignore", message=".*assuming the intent is to save")
                    save_distributed(
                        {"model": weights, "optimizer": moments},
                        checkpoint_id=scratch,
                        no_dist=True,
                    )
                files = {file.name: sha256_file(file) for file in sorted(scratch.iterdir())}
                write_json(
                    scratch / RECORD,
                    {"format_version": FORMAT_VERSION, "step": step, **record, "files": files},  # type: ignore[dict-item]
                )
        except (CheckpointException, RuntimeError, DataError) as error:
            raise CheckpointError(
                f"{path}: could not be written: {_cause(error)}",
                hint="earlier checkpoints are untouched; free some space and use --resume",
            ) from error
        for old in self.steps()[: -self.keep] if self.keep > 0 else []:
            doomed = self.folder / f".{self.path(old).name}.old"
            self.path(old).rename(doomed)
            shutil.rmtree(doomed)

    def load(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put a checkpoint into a model and its optimizer.

        Raises:
            CheckpointError: If a file is missing or damaged, or the model is another.
        """
        path = self.path(step)
        files = self.record(step).get("files")
        if not isinstance(files, dict) or not files:
            raise self._damaged(step, path / RECORD, "no list of files")
        for name, expected in files.items():
            if not (path / name).is_file():
                raise self._damaged(step, path / name, "nothing there")
            if sha256_file(path / name) != expected:
                raise self._damaged(step, path / name, "another SHA-256 than when it was written")
        weights, moments = get_state_dict(model, optimizer)
        state = {"model": weights, "optimizer": moments}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*assuming the intent is to load")
                load_distributed(state, checkpoint_id=path, no_dist=True)
            set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
        except (CheckpointException, RuntimeError, ValueError) as error:
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

    def _damaged(self, step: int, file: Path, found: str) -> CheckpointError:
        others = [other for other in self.steps() if other < step]
        back = f"from step {others[-1]}" if others else "from the start"
        return CheckpointError(
            f"{file}: expected a file of a whole checkpoint, found {found}",
            hint=f"move {self.path(step)} away to resume {back}",
        )


def _cause(error: BaseException) -> str:
    """The failure inside DCP's exception, which lists one per process."""
    if isinstance(error, CheckpointException):
        inner, _ = next(iter(error.failures.values()))
        return f"{type(inner).__name__}: {inner}"
    return str(error)
