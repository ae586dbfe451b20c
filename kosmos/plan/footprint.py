"""Memory of a run on a device, whatever it is split over and computed in.

Weights, gradients and moments are float32 and split over all processes; what a layer needs of them
is put together while it is computed, and what lies outside of layers (embedding, norms, connector's
ends) from the forward pass to the end of the backward. Activations are those of the largest
micro-batch. A checkpoint that is written in the background is a copy in main memory meanwhile, and
where training is on the processor, the program and what was freed and is kept are there too.

Nothing here needs torch.
"""

from dataclasses import dataclass

from kosmos.model.config import ModelConfig
from kosmos.model.cost import TrainingMemory, training_memory
from kosmos.model.parts import parts_of
from kosmos.plan.shapes import Shape, Steps
from kosmos.train.config import Run

PROGRAM_BYTES = 370_000_000
"""Resident size of a process that trains next to nothing: Python, torch and what of it a step uses
(measured: 373 MB in 24 steps of a model of 50k parameters, torch 2.13 for CPUs)."""

KEPT_BYTES = 100_000_000
"""Most that the C library keeps of small blocks that were freed, between others that were not; it
grows to the size of the activations (measured: 85 MB on the microcosm, where they are 53 MB, and
none, at half the speed, where every block is mapped alone)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes of one process at the height of a step."""

    weights: int
    """This process's part of them, float32."""
    gradients: int
    """One for each of them that learns."""
    optimizer: int
    """Adam's two moments of each that learns."""
    activations: int
    """What the backward pass of the largest micro-batch needs."""
    loss: int
    """A chunk of logits and the head's gradient."""
    gathered: int
    """Weights and gradients that are put together from all processes, at the height; 0 if nothing
    is split."""
    checkpoint: int
    """A copy of weights and moments, on its way to the disk beside training; in main memory."""
    accumulates: bool
    """Whether gradients of a micro-batch wait for those of the next, or are there only when its
    activations have gone."""

    @property
    def device(self) -> int:
        """What is on the device at once."""
        held = self.weights + self.optimizer + self.gathered
        if self.accumulates:
            return held + self.gradients + self.activations + self.loss
        return held + max(self.activations + self.loss, self.gradients + self.loss)

    @property
    def processor(self) -> int:
        """What is in main memory at once where training is on the processor itself."""
        return PROGRAM_BYTES + self.device + self.kept + self.checkpoint

    @property
    def kept(self) -> int:
        """What the C library keeps of what was freed, in main memory."""
        return min(self.activations, KEPT_BYTES)


def footprint(run: Run, shapes: Steps, *, num_processes: int = 1) -> Footprint:
    """Memory of each of a run's processes, of its micro-batches, or those of some of its steps."""
    all_shapes = (shape for steps in shapes.values() for step in steps for shape in step)
    largest = max(
        (_memory(run, shape) for shape in all_shapes),
        key=lambda memory: memory.activations + memory.loss,
    )
    # micro-batches are dealt to processes stream by stream
    rounds = [
        sum(-(-len(of_step) // num_processes) for of_step in step)
        for step in zip(*shapes.values(), strict=True)
    ]
    is_split = num_processes > 1 or run.train.precision != "float32"
    part = num_processes if is_split else 1
    is_copied = run.train.background_checkpoints and run.train.checkpoint_every < run.train.steps
    learning = largest.gradients // 4
    saved = 8 * learning + (largest.weights if run.train.adapter is None else 4 * learning)
    return Footprint(
        weights=largest.weights // part,
        gradients=largest.gradients // part,
        optimizer=largest.optimizer // part,
        activations=largest.activations,
        loss=largest.loss,
        gathered=_gathered(run) if is_split else 0,
        checkpoint=saved // part if is_copied else 0,
        accumulates=max(rounds) > 1,
    )


def _memory(run: Run, shape: Shape) -> TrainingMemory:
    return training_memory(
        run.model,
        adapter=run.train.adapter,
        vision=run.train.vision,
        activation_bytes=2 if run.train.precision == "bfloat16" else 4,
        recompute=run.train.recompute,
        tokens=shape.tokens,
        batch=shape.rows,
        images=shape.images,
        loss_tokens=shape.loss_tokens,
    )


def _gathered(run: Run) -> int:
    """What FSDP2 holds beside a process's own part."""
    width = 2 if run.train.precision == "bfloat16" else 4
    outside, layer = _parts(run.model)
    # weights and gradients in the type that is computed in; gradients once more in float32, on
    # their way to the process they belong to. A layer is fetched while the one before computes
    return outside * (2 * width + 4) + layer * (3 * width + 4)


def _parts(model: ModelConfig) -> tuple[int, int]:
    """Parameters outside of layers, and of the largest layer."""
    parts = parts_of(model).values()
    outside = sum(part.num_parameters - part.parameters.get("layers", 0) for part in parts)
    return outside, max(part.layer_parameters for part in parts)
