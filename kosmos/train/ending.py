"""What a finished run leaves: a model folder, or of an adapter a folder of its own."""

import logging
from collections.abc import Mapping
from pathlib import Path

from kosmos.files import Json
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.adapter import adapter_fields, adapter_tensors
from kosmos.train.config import Run
from kosmos.train.parallel import Processes, whole_weights
from kosmos.weights.adapter import check_adapter_folder, save_adapter
from kosmos.weights.folder import merge_adapter, save_model
from kosmos.weights.folder_config import check_model_folder

_log = logging.getLogger(__name__)


def check_place(run: Run, out: Path) -> None:
    """Fail before the first step where :func:`leave_model` would behind the last.

    Raises:
        ConfigError: If other files lie where the model or its adapter goes.
    """
    adapter = run.train.adapter
    if adapter is not None:
        check_adapter_folder(out / "adapter")
    if adapter is None or adapter.merge:
        check_model_folder(out / "model")


def leave_model(
    run: Run,
    model: Kosmos,
    tokenizer: Tokenizer,
    *,
    out: Path,
    provenance: Mapping[str, Json],
    processes: Processes,
) -> Path:
    """Write what was trained. Every process calls this, the first one writes.

    Args:
        run: That was trained.
        model: As training left it, perhaps split over all processes, perhaps with an adapter.
        tokenizer: The run's.
        out: Run folder.
        provenance: What the folders say of where they come from.
        processes: Of the run.

    Returns:
        ``out/model``; or ``out/adapter``, if the adapter is not to be merged.
    """
    adapter = run.train.adapter
    if adapter is None:
        weights = whole_weights(model, processes)
        if processes.is_first:
            whole = Kosmos(run.model)
            whole.load_state_dict(weights)
            save_model(
                out / "model",
                model=whole,
                tokenizer=tokenizer,
                image=run.answer_image,
                layout=run.answer_layout,
                provenance=dict(provenance),
            )
        return out / "model"
    tensors = adapter_tensors(model, processes)
    if processes.is_first:
        save_adapter(
            out / "adapter",
            tensors=tensors,
            fields=adapter_fields(model, adapter),
            base=Path(run.train.start_from),
            image=run.answer_image,
            layout=run.answer_layout,
            provenance=dict(provenance),
        )
        _log.info("adapter in %s", out / "adapter")
        if adapter.merge:
            merge_adapter(run.train.start_from, out / "adapter", out / "model", dtype="float32")
    return out / ("model" if adapter.merge else "adapter")
