"""Settings without effect, or with another one than they seem to have.

`kosmos train`, `kosmos plan` and `kosmos data check` tell them as warnings: the run works, but
somebody set a field for a reason that it does not serve. A contradiction is an error, and found
elsewhere (:func:`kosmos.train.config.run_rules`). A field at its default is never doubted, and
neither is one whose effect depends on data that nobody has named yet.

Nothing here needs torch, but for :func:`this_machine`.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kosmos.data.config import skipped_steps
from kosmos.data.mixture import data_step
from kosmos.findings import Finding
from kosmos.model.parts import CONNECTORS, connector_of
from kosmos.train.config import Run

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a run is to run on."""

    is_gpu: bool
    """Whether it computes on a GPU."""
    memory_bytes: int | None
    """Of one device; None: not known."""
    has_bfloat16: bool | None
    """Whether it multiplies in bfloat16 itself; None: not known."""
    num_processes: int = 1
    """Over which the model is split."""


def this_machine(*, num_processes: int = 1) -> Machine:
    """The GPU that training would take, or else the processor; processes share its memory."""
    import torch

    if not torch.cuda.is_available():
        return this_processor(num_processes=num_processes)
    return Machine(
        is_gpu=True,
        memory_bytes=torch.cuda.get_device_properties(0).total_memory,
        has_bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
        num_processes=num_processes,
    )


def this_processor(*, num_processes: int = 1) -> Machine:
    """The machine, as far as the system says, without its GPUs."""
    memory, flags = None, None
    information, processors = Path("/proc/meminfo"), Path("/proc/cpuinfo")
    if information.exists():
        lines = dict(line.split(":", 1) for line in information.read_text().splitlines())
        memory = int(lines["MemTotal"].split()[0]) * 1024 // num_processes
    if processors.exists():
        words = set(processors.read_text(encoding="utf-8").split())
        # x86 has "flags", ARM "Features"
        if words & {"flags", "Features"}:
            flags = bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
    return Machine(
        is_gpu=False, memory_bytes=memory, has_bfloat16=flags, num_processes=num_processes
    )


def doubts(run: Run, machine: Machine | None = None) -> Iterator[Finding]:
    """Settings of a run that are probably not meant so, as warnings.

    The run's parts fit each other. Of a machine that is not known nothing is said.
    """
    yield from _of_model(run)
    yield from _of_steps(run)
    yield from _of_streams(run)
    if machine is not None:
        yield from _of_machine(run, machine)


def _of_model(run: Run) -> Iterator[Finding]:
    model, train = run.model, run.train
    if model.vision is None and _is_set(train, "vision"):
        yield _doubt(
            "train.vision",
            f"{train.vision!r} says what of the vision tower learns, and the model has none",
            "leave it out, or give the model a vision tower",
        )
    if train.objective == "regions" and train.vision != "all":
        yield _doubt(
            "train.vision",
            f"{train.vision!r} has no effect: with train.objective=regions the whole tower learns",
            "--set train.vision=all says what happens",
        )
    connector, decoder = model.connector, model.decoder
    if connector is not None:
        for name in connector_of(connector).unused:
            if _is_set(connector, name):
                others = [k for k, other in CONNECTORS.items() if name not in other.unused]
                yield _doubt(
                    f"model.connector.{name}",
                    f"{getattr(connector, name)} has no effect on a {connector.kind} connector",
                    f"kinds that have {name}: {', '.join(others)}",
                )
    if decoder.positions == "sinusoidal" and _is_set(decoder, "xpos_scale_base"):
        yield _doubt(
            "model.decoder.xpos_scale_base",
            f"{decoder.xpos_scale_base} has no effect on sinusoidal positions",
            "--set model.decoder.positions=xpos",
        )


def _of_steps(run: Run) -> Iterator[Finding]:
    train = run.train
    if train.weight_decay == 0.0 and not train.decay_all:
        yield _doubt(
            "train.decay_all",
            "False leaves biases and norms out of a decay that is zero for all",
            "--set train.weight_decay=0.01",
        )
    if train.nonfinite == "stop" and _is_set(train, "max_nonfinite"):
        yield _doubt(
            "train.max_nonfinite",
            f"{train.max_nonfinite} has no effect: the first step that is not finite ends the run",
            "--set train.nonfinite=skip",
        )
    skipped = skipped_steps(run.data.skip_steps)
    read = data_step(train.steps - 1, skipped) + 1
    if late := [part for part in skipped if part.start >= read]:
        steps = ", ".join(
            f"{part.stop}" if len(part) == 1 else f"{part.start + 1}-{part.stop}" for part in late
        )
        yield _doubt(
            "data.skip_steps",
            f"{steps} has no effect: the run ends with data step {read}",
            "steps are counted from 1, as in metrics.jsonl",
        )
    for stream in run.data.streams:
        if stream.packing != "single" and stream.max_tokens - 1 > run.data.micro_batch_tokens:
            yield _doubt(
                "data.micro_batch_tokens",
                f"{run.data.micro_batch_tokens} is less than one packed row of stream "
                f"{stream.name!r}, which is not cut: its micro-batches have "
                f"{stream.max_tokens - 1} tokens",
                f"--set streams.{stream.name}.max_tokens={run.data.micro_batch_tokens + 1}",
            )


def _of_streams(run: Run) -> Iterator[Finding]:
    train = run.train
    corpora = [corpus for stream in run.data.streams for corpus in stream.sources]
    has_data = any(corpus.path for corpus in corpora)
    if has_data and not any(corpus.heldout_path for corpus in corpora):
        for part, name in (("train", "heldout_every"), ("data", "heldout_sequences")):
            config = getattr(run, part)
            if _is_set(config, name):
                yield _doubt(
                    f"{part}.{name}",
                    f"{getattr(config, name)} has no effect: no stream has held-out data",
                    f"--set streams.{run.data.streams[0].name}.heldout_path=FOLDER",
                )
    elif train.heldout_every > train.steps:
        yield _doubt(
            "train.heldout_every",
            f"{train.heldout_every} comes after the last step, {train.steps}: held-out losses are "
            "measured only at the end",
            f"--set train.heldout_every={max(1, train.steps // 4)}",
        )
    for stream in run.data.streams:
        if stream.missing_corpora == "drop" and not stream.corpora:
            yield _doubt(
                f"streams.{stream.name}.missing_corpora",
                "'drop' has no effect: the stream is one folder and not mixed of corpora",
                "without its folder the run does not start",
            )
    for name in ("ground", "line_tokens"):
        if _is_set(run.data.layout, name):
            yield _doubt(
                f"layout.{name}",
                f"{getattr(run.data.layout, name)} has no effect: each stream has its own",
                f"--set streams.{run.data.streams[0].name}.{name}=...",
            )
    yield from _of_boxes(run)


def _of_boxes(run: Run) -> Iterator[Finding]:
    pictures = [stream for stream in run.data.streams if stream.images_per_sequence > 0]
    # a model that is started from may have learned them before
    if not run.data.num_cells or not pictures or run.train.start_from:
        return
    if not any(stream.ground for stream in pictures):
        names = ", ".join(repr(stream.name) for stream in pictures)
        yield _doubt(
            "num_cells",
            f"{run.data.num_cells} makes {run.data.num_cells**2} location tokens that nothing "
            f"teaches: ground=False for {names}",
            "--set num_cells=0 and a vocabulary to match, or ground=True for a stream with boxes",
        )


def _of_machine(run: Run, machine: Machine) -> Iterator[Finding]:
    train = run.train
    if train.compile and not machine.is_gpu:
        yield _doubt(
            "train.compile",
            "compiling takes minutes and gains next to nothing on a processor",
            "--set train.compile=False",
        )
    if train.precision == "bfloat16" and machine.has_bfloat16 is False:
        yield _doubt(
            "train.precision",
            "bfloat16 is slower than float32 here: this device only imitates it",
            "--set train.precision=float32",
        )
    if train.recompute and machine.memory_bytes is not None:
        from kosmos.plan.plan import plan  # no other setting needs one

        kept = dataclasses.replace(run, train=dataclasses.replace(train, recompute=False))
        memory = plan(kept, num_processes=machine.num_processes).memory
        needed = memory.device if machine.is_gpu else memory.processor
        if needed < _ROOM * machine.memory_bytes:
            yield _doubt(
                "train.recompute",
                f"it takes a third more time to save memory, and without it {needed / 1e9:.1f} of "
                f"{machine.memory_bytes / 1e9:.1f} GB would be needed",
                "--set train.recompute=False",
            )


_ROOM = 0.6
"""Part of the memory that a plan may fill without a doubt that it fits."""


def _doubt(setting: str, what: str, hint: str) -> Finding:
    return Finding(severity="warning", where=setting, what=what, hint=hint)


def _is_set(config: "DataclassInstance", name: str) -> bool:
    """Whether a field of a config is not at its default."""
    default = next(field.default for field in dataclasses.fields(config) if field.name == name)
    return bool(getattr(config, name) != default)
