"""Starting from the weights of another model, as KOSMOS-2 starts from KOSMOS-1.

Source: unilm kosmos-2 ``--init-from-file``: tensors of equal shape are copied, the embedding is
extended by fresh rows. Departure: the release drops what does not fit without a word; here it is
an error, and so is a tokenizer whose ids mean other words.
"""

import logging
from pathlib import Path

import torch

from kosmos.errors import CheckpointError
from kosmos.model.int8 import is_int8
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.folder import load_model

_EMBEDDING = "decoder.embedding.weight"

_log = logging.getLogger(__name__)


def start_from(model: Kosmos, tokenizer: Tokenizer, folder: Path | str) -> None:
    """Copy the weights of a model folder into a model with fresh ones.

    Args:
        model: Parameters that the folder lacks (a vision tower, say) stay as they are, and so do
            the rows of a larger embedding.
        tokenizer: The model's; the folder's must be the same, except that it may have no location
            tokens.
        folder: Ours or a Hugging Face one.

    Raises:
        CheckpointError: If the folder is quantized, or has parameters the model lacks or of another
            shape.
    """
    loaded = load_model(folder)
    if is_int8(loaded.model):
        raise CheckpointError(
            f"{folder}: expected floating-point weights, found int8",
            hint="start from the folder it was made from",
        )
    theirs, ours = loaded.tokenizer, tokenizer
    if theirs.digest != ours.digest:
        raise CheckpointError(
            f"{folder}: expected the run's tokenizer {ours.digest}, found {theirs.digest}",
            hint="rows of the embedding would mean other words; use the folder's tokenizer.model",
        )
    if theirs.vocabulary.num_cells not in (0, ours.vocabulary.num_cells):
        raise CheckpointError(
            f"{folder}: expected {ours.vocabulary.num_cells} or no location cells a side, found "
            f"{theirs.vocabulary.num_cells}"
        )
    wanted = dict(model.named_parameters())
    wrong = []
    with torch.no_grad():
        for name, value in loaded.model.named_parameters():
            if name not in wanted:
                wrong.append(f"{name}, which the run's model lacks")
            elif name == _EMBEDDING and len(value) <= len(wanted[name]):
                wanted[name][: len(value)] = value
            elif value.shape == wanted[name].shape:
                wanted[name].copy_(value)
            else:
                shapes = f"{tuple(value.shape)} for {tuple(wanted[name].shape)}"
                wrong.append(f"{name} of shape {shapes}")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(
            f"{folder}: expected the weights of the run's model, found {'; '.join(wrong[:5])}{more}"
        )
    lacking = wanted.keys() - dict(loaded.model.named_parameters()).keys()
    fresh = sorted({name.partition(".")[0] for name in lacking})
    new_rows = len(wanted[_EMBEDDING]) - len(loaded.model.head_weight)
    _log.info(
        "started from %s; fresh: %s and %d rows of the embedding",
        folder,
        ", ".join(fresh) or "nothing",
        new_rows,
    )
