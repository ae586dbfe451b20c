"""What a run trains, put together: model, objective, adapter and optimizer, over all processes."""

from typing import TYPE_CHECKING, NamedTuple

import torch

from kosmos.errors import ConfigError
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.text.vocabulary import Vocabulary
from kosmos.train.adapter import attach
from kosmos.train.config import Run, TrainConfig
from kosmos.train.optimizer import freeze_vision, make_optimizer
from kosmos.train.parallel import Processes, prepare_layers, split
from kosmos.train.regions import RegionContrast
from kosmos.train.start import start_from
from kosmos.train.step import NextToken, Objective

if TYPE_CHECKING:
    from kosmos.data.loader import Loader


class Assembly(NamedTuple):
    """The parts that a checkpoint is loaded into and a step moves."""

    model: Kosmos
    """The model, perhaps with an adapter, perhaps split over all processes."""
    objective: Objective
    """What is minimized; its module is what learns."""
    optimizer: torch.optim.Optimizer
    """Over what learns."""


def assemble(run: Run, loader: "Loader", processes: Processes, *, is_resumed: bool) -> Assembly:
    """Build what a run trains, with the weights it starts from.

    Args:
        run: The run.
        loader: Of its data.
        processes: All that train it.
        is_resumed: Whether a checkpoint will be loaded over it.

    Raises:
        CheckpointError: If the folder it starts from does not fit.
        ConfigError: If the model lacks what the run or its data asks for, or nothing of it learns.
    """
    _check_images(run, loader)
    tokenizer = loader.tokenizer
    model = Kosmos(run.model)
    initialize(model, run.seed)
    adapter = run.train.adapter
    # checkpoints of an adapter are without what it adapts
    if run.train.start_from and (not is_resumed or adapter is not None):
        start_from(model, tokenizer, run.train.start_from, entire=adapter is not None)
    objective = _objective(model, run.train, tokenizer.vocabulary)
    if adapter is not None:
        attach(model, adapter, seed=run.seed)
    module = objective.module
    module.to(processes.device).train()
    prepare_layers(module, recompute=run.train.recompute, compiled=run.train.compile)
    if processes.are_joined:
        split(module, precision=run.train.precision, methods=objective.methods)
    return Assembly(model, objective, make_optimizer(module, run.train))


def _check_images(run: Run, loader: "Loader") -> None:
    if run.model.vision is not None:
        return
    for name, index in loader.indices.items():
        if index.num_images:
            raise ConfigError(
                f"streams.{name}: expected text alone for a language model, found "
                f"{index.num_images} pictures",
                hint="give the model a vision tower, or drop the stream",
            )


def _objective(model: Kosmos, config: TrainConfig, vocabulary: Vocabulary) -> Objective:
    """The objective a run asks for, with what does not learn frozen."""
    if config.objective == "regions":
        return RegionContrast(model, vocabulary)
    freeze_vision(model, config.vision)
    return NextToken(model, config)
