"""The tiny run when it is done, with its card."""

from pathlib import Path

import pytest

from kosmos.cli.training import leave_card


@pytest.fixture(scope="session")
def finished(finished: Path) -> Path:
    """The folder of the run when it is done; not to be changed."""
    leave_card(finished, recipe=None)
    return finished
