"""What is said of a run: how it starts, then the record, the spikes and the figures of a step.

Every process measures itself; records are of all of them, and each process gets the same.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from kosmos.data.batch import Batch
from kosmos.files import Json
from kosmos.runtime import peak_memory_bytes
from kosmos.train.config import TrainConfig
from kosmos.train.events import EventsLog, SpikeWatch, worst_documents
from kosmos.train.parallel import Processes
from kosmos.train.record import note_session
from kosmos.train.step import Objective, StepResult
from kosmos.train.utilisation import peak_flops_per_s

_MAX_PEAKS = 4
"""How often the peak is measured: at the start, and where steps exceed it."""
_log = logging.getLogger(__name__)


class Monitor:
    """Watches the steps of a run.

    Args:
        config: Of the run.
        objective: What is minimized.
        processes: All that take the steps.
    """

    def __init__(self, config: TrainConfig, objective: Objective, processes: Processes) -> None:
        self._objective = objective
        self._processes = processes
        self._config = config
        self._spikes = SpikeWatch(config.spike_factor)
        self._peak_flops_per_s = self._peak()
        self._num_peaks = 1

    def measure(self, result: StepResult, *, step_s: float, data_wait_s: float) -> dict[str, Json]:
        """What a step's record says of how fast it was.

        Args:
            result: Of the step.
            step_s: Seconds it took this process, waiting for data included.
            data_wait_s: Seconds this process waited for data.
        """
        device = self._processes.device
        memory = peak_memory_bytes()
        if device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(device)
        step_s, data_wait_s, most = self._processes.largest([step_s, data_wait_s, memory])
        return {
            "num_tokens": result.num_tokens,
            "num_loss_tokens": result.num_loss_tokens,
            "num_positions": result.num_positions,
            "num_fillers": result.num_fillers,
            "step_s": round(step_s, 4),
            "tokens_per_s": round(result.num_tokens / step_s, 1),
            "flops": result.flops,
            "utilisation": self._utilisation(result.flops / step_s),
            "memory_bytes": int(most),
            "data_wait_s": round(data_wait_s, 4),
            "data_wait_share": round(data_wait_s / step_s, 4),
        }

    def _peak(self) -> float | None:
        """What all devices could do at best, in operations a second; None if nobody knows."""
        self._processes.wait()  # together, since they may share what they measure
        device, config = self._processes.device, self._config
        mine = peak_flops_per_s(device, config.precision, stated=config.peak_flops)
        num_unknown, peak = self._processes.sum([mine is None, mine or 0.0])
        return None if num_unknown else peak

    def _utilisation(self, flops_per_s: float) -> float | None:
        """Share of the peak; None if that is not known.

        Nothing does more than it could do at best: a rate above the peak shows that the peak was
        measured while something else kept the device busy, or that somebody stated too little.
        """
        peak = self._peak_flops_per_s
        if peak is not None and flops_per_s > peak and self._num_peaks < _MAX_PEAKS:
            # all processes know the same rates, and so measure together
            peak = self._peak_flops_per_s = max(peak, self._peak() or 0.0)
            self._num_peaks += 1
            if flops_per_s > peak and self._num_peaks == _MAX_PEAKS and self._processes.is_first:
                _log.warning(
                    "the utilisation of steps that do more than %.3g operations a second is not "
                    "known: that is the most this device was %s to do",
                    *(peak, "said" if self._config.peak_flops else "seen"),
                )
        if peak is None or flops_per_s > peak:
            return None
        return round(flops_per_s / peak, 4)

    def note_spikes(
        self,
        result: StepResult,
        batches: Sequence[Batch],
        events: EventsLog | None,
        *,
        step: int,
        data_step: int,
    ) -> None:
        """Note streams whose loss is far above the usual, with the documents that raised it.

        Args:
            result: Of a step that moved the weights.
            batches: Micro-batches of the step that are this process's.
            events: Where the first process writes; None in the others.
            step: Of the optimizer, counted from 1.
            data_step: Which data it read, counted from 1.
        """
        # losses are sums over all processes, the same to the last bit in each: all judge alike
        for spike in self._spikes.see(result.losses):
            documents = worst_documents(self._objective, batches, spike, self._processes)
            if events is None:
                continue
            events.spike(step, spike, documents, data_step=data_step)
            _log.warning(
                "step %d: the loss of stream %r is %.3g where %.3g is usual; worst: %s",
                *(step, spike.stream, spike.loss, spike.usual),
                ", ".join(f"{d.id!r} {d.loss:.3g}" for d in documents[:3]) or "none",
            )


def note_start(folder: Path, processes: Processes, *, step: int) -> None:
    """Note in sessions.jsonl that a run is starting.

    Args:
        folder: Run folder.
        processes: All that train it.
        step: Steps that are done.
    """
    device = processes.device
    note_session(
        folder,
        step=step,
        num_processes=processes.size,
        num_threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    )


def shown(record: dict[str, Json]) -> dict[str, str | float]:
    """What a progress line says of a step's record."""
    figures: dict[str, str | float] = {}
    if isinstance(record["loss"], float):  # none of a step that was skipped
        figures["loss"] = record["loss"]
    assert isinstance(record["tokens_per_s"], float)
    figures["tokens_per_s"] = f"{record['tokens_per_s']:,.0f}"
    if isinstance(record["utilisation"], float):
        figures["utilisation"] = f"{record['utilisation']:.0%}"
    figures["data_wait"] = f"{record['data_wait_share']:.1%}"
    figures["memory"] = f"{record['memory_bytes'] / 1e9:.2f} GB"  # type: ignore[operator]
    return figures
