"""Time of a step, from parts of the model that are run on this machine at the shapes of the run.

A rate of operations that holds for one product does not hold for another: narrow matrices, norms,
short rows and a wide vocabulary each have their own. So the parts themselves are run, forward and
back, on micro-batches of zeros and ones of the run's shapes::

    a model of one layer, from token ids to the loss      once for each stream
    one more layer of the decoder, and of the tower       as often as the model has more
    the optimizer and the clipping, per weight            on the model of one layer
    reading steps of the data, where it is at hand

What is added up is what a run does, with few layers instead of many; a model too large for this
machine can be measured on it. What is left out: the talk between processes.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kosmos.data.batch import Batch
from kosmos.data.loader import Loader
from kosmos.model.config import ModelConfig
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.plan.footprint import footprint
from kosmos.plan.shapes import Shape, Steps
from kosmos.train.adapter import attach
from kosmos.train.config import Run
from kosmos.train.optimizer import freeze_vision, make_optimizer
from kosmos.train.parallel import prepare_layers
from kosmos.train.step import NextToken

_TRIES = 5
_ENOUGH_S = 2.0
_MAX_POSITIONS = 4096
"""Of a micro-batch on a processor; larger ones take as much longer as they have more rows."""

_COUNTS = ("real_tokens", "pairs", "loss_tokens", "images")
"""What of a shape is added up over its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of a step, and of what it is made of."""

    streams: dict[str, float]
    """Of all micro-batches of each stream that one process reads, on average."""
    optimizer: float
    """Of moving the weights that one process holds."""
    reading: float
    """Of finding and decoding what one process reads; 0 if that was not measured."""
    is_on_processor: bool
    """Whether reading takes its time from the same cores, or goes on beside the step."""

    @property
    def total(self) -> float:
        """Of the whole step."""
        computing = sum(self.streams.values()) + self.optimizer
        return computing + self.reading if self.is_on_processor else max(computing, self.reading)


def measure_step(
    run: Run,
    shapes: Steps,
    *,
    device: torch.device,
    num_processes: int = 1,
    loader: Loader | None = None,
    advance: Callable[[], None] = lambda: None,
) -> StepTime:
    """Measure what a step of a run will take.

    Args:
        shapes: Micro-batches of the run, or of some of its steps.
        device: Where the run is to be, or one like it.
        num_processes: That share the work, each on a device of its own.
        loader: Of its data; None: what reading takes is not measured.
        advance: Called after every stream.
    """
    streams = {}
    for stream in run.data.streams:
        steps = shapes[stream.name]
        rounds = statistics.fmean(-(-len(step) // num_processes) for step in steps)
        typical = _typical([shape for step in steps for shape in step])
        is_isolated = stream.packing == "isolated"
        each = _micro_batch_s(run, typical, device=device, is_isolated=is_isolated)
        streams[stream.name] = rounds * each
        advance()
    weights = footprint(run, shapes, num_processes=num_processes).gradients // 4
    return StepTime(
        streams=streams,
        optimizer=weights * _optimizer_s_per_weight(run, device),
        reading=0.0 if loader is None else _reading_s(loader, num_processes),
        is_on_processor=device.type == "cpu",
    )


def _reading_s(loader: Loader, num_processes: int) -> float:
    """Of what one process reads of a step; the first opens files, and does not count."""
    steps = iter(range(_TRIES + 1))
    read = functools.partial(loader.step, num_processes=num_processes)
    return _median_s(lambda: read(next(steps)), torch.device("cpu"))


def _typical(shapes: Sequence[Shape]) -> Shape:
    """A micro-batch like the others on average."""
    rows, positions, *counts = (
        statistics.fmean(getattr(shape, name) for shape in shapes)
        for name in ("rows", "positions", *_COUNTS)
    )
    mean = {name: round(count) for name, count in zip(_COUNTS, counts, strict=True)}
    return Shape(rows=max(1, round(rows)), tokens=max(1, round(positions / rows)), **mean)


def _micro_batch_s(run: Run, shape: Shape, *, device: torch.device, is_isolated: bool) -> float:
    """Forward and backward of the whole model, from parts of it."""
    part, times = _part(shape, device)
    batch = _batch(run, part, is_isolated=is_isolated)
    objective = _thin_objective(run, _thin(run.model), device)
    layers = [objective.model.decoder.layers[0]]
    more = [run.model.decoder.num_layers - 1]
    if objective.model.vision is not None and batch.pixels is not None:
        assert run.model.vision is not None
        layers.append(objective.model.vision.layers[0])
        more.append(run.model.vision.num_layers - 1)
    inputs = _inputs_of(layers, lambda: objective.loss(batch))
    total = _median_s(lambda: _there_and_back(objective.loss(batch)), device)
    for layer, given, count in zip(layers, inputs, more, strict=True):
        is_tower = layer is not layers[0]
        if count:
            total += count * _layer_s(layer, given, device, learns=_learns(run, is_tower))
    return total * times


def _learns(run: Run, is_tower: bool) -> bool:
    """Whether gradients pass through the layers beyond the first."""
    if not is_tower:
        return True
    if run.train.adapter is not None:
        return any(name.startswith("vision") for name in run.train.adapter.targets)
    return run.train.vision == "all" or run.train.objective == "regions"


def _part(shape: Shape, device: torch.device) -> tuple[Shape, float]:
    """As many rows of a micro-batch as are measured, and how many times that is the whole."""
    if device.type != "cpu" or shape.positions <= _MAX_POSITIONS:
        return shape, 1.0
    rows = max(1, _MAX_POSITIONS // shape.tokens)
    share = rows / shape.rows
    smaller = {name: round(getattr(shape, name) * share) for name in _COUNTS}
    return Shape(rows=rows, tokens=shape.tokens, **smaller), 1 / share


def _thin(model: ModelConfig) -> ModelConfig:
    vision = model.vision
    return dataclasses.replace(
        model,
        decoder=dataclasses.replace(model.decoder, num_layers=1),
        vision=None if vision is None else dataclasses.replace(vision, num_layers=1),
    )


class _TowerAlone(nn.Module):
    """What region-word contrast mostly is: the tower, all of which learns."""

    def __init__(self, model: Kosmos) -> None:
        super().__init__()
        self.model = model

    def loss(self, batch: Batch) -> torch.Tensor:
        tower = self.model.vision
        assert tower is not None
        if batch.pixels is None:
            return tower.class_embedding.sum() * 0.0
        pixels = torch.tensor(batch.pixels).to(self.model.device, self.model.dtype)
        features: torch.Tensor = tower(pixels)
        return features.sum()


def _thin_objective(run: Run, thin: ModelConfig, device: torch.device) -> "NextToken | _TowerAlone":
    """The run's objective on a model of one layer, as the trainer would prepare it."""
    model = Kosmos(thin)
    initialize(model, 0)
    objective: NextToken | _TowerAlone
    if run.train.objective == "regions":
        model.requires_grad_(False)
        assert model.vision is not None
        model.vision.requires_grad_(True)
        objective = _TowerAlone(model)
    else:
        freeze_vision(model, run.train.vision)
        objective = NextToken(model)
    if run.train.adapter is not None:
        attach(model, run.train.adapter, seed=0)
    objective.to(device, getattr(torch, run.train.precision)).train()
    prepare_layers(objective, recompute=run.train.recompute, compiled=run.train.compile)
    return objective


def _batch(run: Run, shape: Shape, *, is_isolated: bool) -> Batch:
    """A micro-batch of a shape; what is in it does not matter."""
    size = (shape.rows, shape.tokens)
    slots = np.zeros(shape.positions, dtype=bool)
    slots[: shape.images * run.data.layout.num_image_tokens] = True
    weights = np.zeros(shape.positions, dtype=np.float32)
    weights[np.flatnonzero(~slots)[: shape.loss_tokens]] = 1.0
    positions = np.tile(np.arange(shape.tokens), (shape.rows, 1))
    segments = None
    if is_isolated:
        length = max(1, round(shape.pairs / max(1, shape.real_tokens)))
        segments, positions = positions // length, positions % length
    side = run.data.image.size
    images = int(slots.sum()) // run.data.layout.num_image_tokens
    slots[images * run.data.layout.num_image_tokens :] = False
    pixels = np.zeros((images, 3, side, side), dtype=np.float32) if images else None
    ids = np.full(size, 5, dtype=np.int64)
    return Batch(
        stream="calibration",
        token_ids=ids,
        targets=ids,
        loss_weights=weights.reshape(size),
        positions=positions,
        segments=segments,
        image_slots=slots.reshape(size),
        pixels=pixels,
        document_ids=(),
        documents=np.zeros((shape.rows, shape.tokens + 1), dtype=np.int32),
    )


def _inputs_of(
    layers: Sequence[nn.Module], run_all: Callable[[], object]
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    seen: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[module] = args, kwargs

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    run_all()
    for hook in hooks:
        hook.remove()
    return [seen.get(layer, ((), {})) for layer in layers]


def _layer_s(
    layer: nn.Module,
    given: tuple[tuple[Any, ...], dict[str, Any]],
    device: torch.device,
    *,
    learns: bool,
) -> float:
    args, kwargs = given
    if not args:  # the tower alone does not run the decoder
        return 0.0
    hidden, *rest = args
    hidden = hidden.detach()

    def forward() -> None:
        with torch.no_grad():
            layer(hidden, *rest, **kwargs)

    def both() -> None:
        _there_and_back(layer(hidden.requires_grad_(), *rest, **kwargs).sum())

    return _median_s(both if learns else forward, device)


def _there_and_back(loss: torch.Tensor) -> None:
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]


def _optimizer_s_per_weight(run: Run, device: torch.device) -> float:
    """Of clipping and AdamW, for each number that learns."""
    model = Kosmos(_thin(run.model))
    freeze_vision(model, run.train.vision)
    model.to(device)
    optimizer = make_optimizer(model, run.train)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)

    def step() -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        torch.nn.utils.clip_grads_with_norm_(parameters, run.train.clip_norm or 1.0, norm)
        optimizer.step()

    weights: int = sum(parameter.numel() for parameter in parameters)
    return _median_s(step, device) / weights


def _median_s(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of a step, the first of which is not counted."""
    times: list[float] = []
    for _ in range(_TRIES + 1):
        began_s = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began_s)
        if len(times) > 1 and sum(times) > _ENOUGH_S:
            break
    return statistics.median(times[1:])
