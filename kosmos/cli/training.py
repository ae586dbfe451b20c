"""What the commands that train add to a training: warnings before it, a card behind it.

Of several processes the first speaks and writes.
"""

import logging
import os
from pathlib import Path

from kosmos.errors import DataError
from kosmos.train.config import Run

_log = logging.getLogger(__name__)


def is_first_process() -> bool:
    """Whether this is the process that speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def train_and_tell(
    run: Run,
    *,
    out: Path,
    resume: bool = False,
    recipe: Run | None = None,
    cache_folder: Path | None = None,
) -> Path:
    """Train, with what people want to know before and after.

    Args:
        run: What to train.
        out: Run folder.
        resume: Go on from the last checkpoint in it.
        recipe: What the run came from, for its card to say what is different.
        cache_folder: As of :func:`~kosmos.train.trainer.train`.

    Returns:
        The model folder; the adapter's, if it is all the run leaves.
    """
    from kosmos.check.settings import doubts, this_machine
    from kosmos.train.trainer import train

    if is_first_process():
        for doubt in doubts(
            run, this_machine(num_processes=int(os.environ.get("WORLD_SIZE", "1")))
        ):
            _log.warning("%s: %s; hint: %s", doubt.setting, doubt.what, doubt.hint)
    folder = train(run, out=out, resume=resume, cache_folder=cache_folder)
    if is_first_process():
        leave_card(out, recipe=recipe)
    return folder


def leave_card(out: Path, *, recipe: Run | None) -> None:
    """Write the card of a run that is done; without room for it the run is done all the same.

    Args:
        out: Run folder.
        recipe: What the run came from, if that is known.
    """
    from kosmos.card.write import write_card

    try:
        _log.info("card in %s", write_card(out, recipe=recipe))
    except DataError as error:
        _log.warning("the model is there, its card is not: %s; kosmos card %s", error, out)
