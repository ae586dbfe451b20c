"""What the commands that train add to a training: warnings before it, a card behind it.

Of several processes the first speaks and writes.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kosmos.errors import DataError
from kosmos.train.config import Run

_log = logging.getLogger(__name__)


def is_first_process() -> bool:
    """Whether this is the process that speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def told(run: Run, *, out: Path, recipe: Run | None = None) -> Iterator[None]:
    """Around a training, what people want to know before and after.

    Args:
        run: What is trained in the block.
        out: Run folder.
        recipe: What the run came from, for its card to say what is different.
    """
    from kosmos.check.settings import doubts, this_machine

    if is_first_process():
        for doubt in doubts(
            run, this_machine(num_processes=int(os.environ.get("WORLD_SIZE", "1")))
        ):
            _log.warning("%s: %s; hint: %s", doubt.where, doubt.what, doubt.hint)
    yield
    if is_first_process():
        leave_card(out, recipe=recipe)


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
