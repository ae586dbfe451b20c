"""What a run will take, from the run alone: tokens, parameters, memory, operations, time.

Nothing here needs torch or data, so the answer is at once. Lengths are those the streams state;
with indices of the data at hand they are the measured ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kosmos.model.cost import (
    TrainingMemory,
    count_parameters,
    parameter_table,
    training_flops,
    training_memory,
)
from kosmos.train.config import Run, check_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Means over the sequences of a stream."""

    tokens: float
    """Positions, image slots included."""
    images: float
    """Pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """One stream's part of every step."""

    name: str
    """Of the stream."""
    sequences_per_step: int
    """Rows."""
    tokens_per_sequence: float
    """Mean positions of a row."""
    tokens_per_step: float
    """Positions."""
    share: float
    """Of all tokens of the step."""
    images_per_step: float
    """Pictures."""
    is_measured: bool
    """Whether the lengths come from an index or from the stream's own statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will take."""

    name: str
    """Of the run."""
    steps: int
    """Optimizer steps."""
    streams: tuple[StreamPlan, ...]
    """Parts of a step."""
    tokens_per_step: float
    """Sum over streams."""
    total_tokens: float
    """Of the whole run."""
    stated_tokens_per_step: float
    """What the paper says; 0: nothing."""
    stated_total_tokens: float
    """What the paper says; 0: nothing."""
    parameters: dict[str, int]
    """By part."""
    num_parameters: int
    """Sum of the parts."""
    memory: TrainingMemory
    """Bytes at the height of the largest micro-batch, in float32 on one device."""
    flops_per_step: int
    """Operations of the matrix products of a step."""
    total_flops: int
    """Of the whole run."""

    def time_s(self, flops_per_s: float) -> float:
        """Seconds at a rate of operations that all devices reach together."""
        return self.total_flops / flops_per_s


def plan(run: Run, measured: Mapping[str, Lengths] | None = None) -> Plan:
    """Work out what a run will take.

    Args:
        run: The run.
        measured: Lengths of streams whose data is indexed, by name.

    Raises:
        ConfigError: If the parts of the run do not fit each other.
    """
    check_run(run)
    lengths = {
        stream.name: Lengths(tokens=stream.tokens_per_sequence, images=stream.images_per_sequence)
        for stream in run.streams
    } | dict(measured or {})
    tokens = {s.name: s.sequences_per_step * lengths[s.name].tokens for s in run.streams}
    tokens_per_step = sum(tokens.values())
    flops_per_step = sum(
        _flops(run, stream.sequences_per_step, lengths[stream.name]) for stream in run.streams
    )
    return Plan(
        name=run.name,
        steps=run.train.steps,
        streams=tuple(
            StreamPlan(
                name=stream.name,
                sequences_per_step=stream.sequences_per_step,
                tokens_per_sequence=lengths[stream.name].tokens,
                tokens_per_step=tokens[stream.name],
                share=tokens[stream.name] / tokens_per_step,
                images_per_step=stream.sequences_per_step * lengths[stream.name].images,
                is_measured=stream.name in (measured or {}),
            )
            for stream in run.streams
        ),
        tokens_per_step=tokens_per_step,
        total_tokens=tokens_per_step * run.train.steps,
        stated_tokens_per_step=run.stated_tokens_per_step,
        stated_total_tokens=run.stated_total_tokens,
        parameters=parameter_table(run.model),
        num_parameters=count_parameters(run.model),
        memory=max(
            (_memory(run, s.sequences_per_step, lengths[s.name]) for s in run.streams),
            key=lambda memory: memory.total,
        ),
        flops_per_step=flops_per_step,
        total_flops=flops_per_step * run.train.steps,
    )


def _flops(run: Run, sequences: int, lengths: Lengths) -> int:
    images = round(sequences * lengths.images)
    tokens = round(lengths.tokens)
    # <image> and the slots are not predicted; </image> is not either
    silent = images * (run.layout.num_image_tokens + 2)
    return training_flops(
        run.model,
        tokens=tokens,
        batch=sequences,
        images=images,
        loss_tokens=max(0, sequences * tokens - silent),
        vision=run.train.vision,
    )


def _memory(run: Run, sequences: int, lengths: Lengths) -> TrainingMemory:
    """Of a micro-batch of a stream, as large as the limit and the step allow."""
    tokens = round(lengths.tokens)
    batch = max(1, min(sequences, run.train.micro_batch_tokens // tokens))
    return training_memory(
        run.model,
        tokens=tokens,
        batch=batch,
        images=round(batch * lengths.images),
        vision=run.train.vision,
    )
