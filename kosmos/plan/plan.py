"""What a run will take, from the run alone: tokens, parameters, memory, operations, time.

Nothing here needs torch or data, so the answer is at once. Lengths are those the streams state;
with indices of the data at hand they are the measured ones, and so are the micro-batches. Times are
measured (calibrate.py), or follow from a rate that somebody names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from kosmos.data.config import Stream
from kosmos.findings import raise_first_error
from kosmos.model.cost import parameter_table, tower_flops, training_flops
from kosmos.model.lora import count_adapter_parameters
from kosmos.plan.footprint import Footprint, footprint
from kosmos.plan.shapes import Lengths, Shape, Steps, stated_shapes
from kosmos.train.config import Run, run_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusPlan:
    """One corpus's part of the run."""

    name: str
    """``text/wikipedia``, or the stream's name if it is one folder."""
    share: float
    """Of the sequences of its stream."""
    tokens_per_step: float
    """Positions, on average."""
    total_tokens: float
    """Of the whole run."""
    num_tokens: float
    """Positions of the corpus; 0: not known."""
    epochs: float
    """How often the run reads it; 0: not known."""
    stated_epochs: float
    """What the paper says; 0: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """One stream's part of every step."""

    name: str
    sequences_per_step: int
    tokens_per_sequence: float
    """Mean positions of a row."""
    tokens_per_step: float
    """Positions."""
    share: float
    """Of all tokens of the step."""
    images_per_step: float
    micro_batches_per_step: float
    """Into which a step's part is cut, on average."""
    padding: float | None
    """Share of the positions of its micro-batches that are padding; None: not known without their
    indices."""
    is_measured: bool
    """Whether the lengths come from indices or from the stream's own statement."""
    corpora: tuple[CorpusPlan, ...]
    """What it is mixed of; one for a stream of one folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will take."""

    name: str
    steps: int
    streams: tuple[StreamPlan, ...]
    tokens_per_step: float
    """Sum over streams."""
    total_tokens: float
    """Of the whole run."""
    stated_tokens_per_step: float
    """What the paper says; 0: nothing."""
    stated_total_tokens: float
    """What the paper says; 0: nothing."""
    parameters: dict[str, int]
    """By part; of a run with an adapter the adapter is one."""
    num_parameters: int
    num_processes: int
    """That share the work and the model."""
    memory: Footprint
    """Bytes of each of them."""
    flops_per_step: int
    """Operations of the matrix products of a step."""
    total_flops: int
    """Of the whole run."""

    def time_s(self, flops_per_s: float) -> float:
        """Seconds at a rate of operations that all devices reach together."""
        return self.total_flops / flops_per_s


def plan(
    run: Run,
    measured: Mapping[str, Lengths] | None = None,
    *,
    shapes: Steps | None = None,
    num_processes: int = 1,
) -> Plan:
    """Work out what a run will take.

    Args:
        measured: Lengths of corpora whose data is indexed, by name: ``text/wikipedia``, or that of
            a stream of one folder.
        shapes: Micro-batches of some steps, as the indices have them; None: as the lengths say.
        num_processes: That share the work and the model.

    Raises:
        ConfigError: If the parts of the run do not fit each other.
    """
    raise_first_error(run_rules(run))
    measured = measured or {}
    lengths = {stream.name: _mean_lengths(stream, measured) for stream in run.data.streams}
    tokens = {s.name: s.sequences_per_step * lengths[s.name].tokens for s in run.data.streams}
    tokens_per_step = sum(tokens.values())
    is_cut = shapes is not None
    shapes = planned_shapes(run, measured) if shapes is None else shapes
    flops_per_step = round(
        sum(
            sum(shape_flops(run, shape) for step in steps for shape in step) / len(steps)
            for steps in shapes.values()
        )
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
                micro_batches_per_step=fmean(map(len, shapes[stream.name])),
                padding=_padding(shapes[stream.name]) if is_cut else None,
                is_measured=_is_measured(stream, measured),
                corpora=_corpora(run, stream, measured),
            )
            for stream in run.data.streams
        ),
        tokens_per_step=tokens_per_step,
        total_tokens=tokens_per_step * run.train.steps,
        stated_tokens_per_step=run.stated_tokens_per_step,
        stated_total_tokens=run.stated_total_tokens,
        parameters=_parameters(run),
        num_parameters=sum(_parameters(run).values()),
        num_processes=num_processes,
        memory=footprint(run, shapes, num_processes=num_processes),
        flops_per_step=flops_per_step,
        total_flops=flops_per_step * run.train.steps,
    )


def planned_shapes(
    run: Run, measured: Mapping[str, Lengths] | None = None
) -> dict[str, list[list[Shape]]]:
    """Micro-batches of a step whose rows have the mean lengths; measured as of :func:`plan`."""
    lengths = {stream.name: _mean_lengths(stream, measured or {}) for stream in run.data.streams}
    return stated_shapes(run, lengths)


def _is_measured(stream: Stream, measured: Mapping[str, Lengths]) -> bool:
    return all(stream.source_name(corpus) in measured for corpus in stream.sources)


def _mean_lengths(stream: Stream, measured: Mapping[str, Lengths]) -> Lengths:
    """Of a stream's sequences; as it states them unless all of its corpora are measured."""
    if not _is_measured(stream, measured):
        return Lengths(tokens=stream.tokens_per_sequence, images=stream.images_per_sequence)
    total = sum(corpus.weight for corpus in stream.sources)
    shares = [
        (corpus.weight / total, measured[stream.source_name(corpus)]) for corpus in stream.sources
    ]
    return Lengths(
        tokens=sum(share * lengths.tokens for share, lengths in shares),
        images=sum(share * lengths.images for share, lengths in shares),
    )


def _corpora(run: Run, stream: Stream, measured: Mapping[str, Lengths]) -> tuple[CorpusPlan, ...]:
    weight = sum(corpus.weight for corpus in stream.sources)
    plans = []
    for corpus in stream.sources:
        name, share = stream.source_name(corpus), corpus.weight / weight
        found = measured.get(name)
        length = stream.tokens_per_sequence if found is None else found.tokens
        num_tokens = corpus.num_tokens if found is None else found.total_tokens
        per_step = stream.sequences_per_step * share * length
        total = per_step * run.train.steps
        plans.append(
            CorpusPlan(
                name=name,
                share=share,
                tokens_per_step=per_step,
                total_tokens=total,
                num_tokens=num_tokens,
                epochs=total / num_tokens if num_tokens else 0.0,
                stated_epochs=corpus.stated_epochs,
            )
        )
    return tuple(plans)


def shape_flops(run: Run, shape: Shape) -> int:
    """Operations of a micro-batch, of what is real in it."""
    if run.train.objective == "regions":
        vision = run.model.vision
        return 0 if vision is None else 3 * shape.images * tower_flops(vision)
    return training_flops(
        run.model,
        adapter=run.train.adapter,
        vision=run.train.vision,
        tokens=shape.real_tokens,
        pairs=shape.pairs,
        images=shape.images,
        loss_tokens=shape.loss_tokens,
    )


def _padding(steps: Sequence[Sequence[Shape]]) -> float:
    shapes = [shape for step in steps for shape in step]
    return 1.0 - sum(s.real_tokens for s in shapes) / sum(s.positions for s in shapes)


def _parameters(run: Run) -> dict[str, int]:
    table = parameter_table(run.model)
    if (adapter := run.train.adapter) is None:
        return table
    return {**table, "adapter": count_adapter_parameters(run.model, adapter)}
