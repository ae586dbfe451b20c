"""A tiny run with its data on disk, made once."""

from pathlib import Path

import pytest

from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.trainer import train
from tests.tiny_run import make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Text, captions and pages; its streams and tokenizer are on disk."""
    return make_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tokenizer(run: Run) -> Tokenizer:
    """Of the run."""
    return Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Indices shared by all tests of this folder."""
    return tmp_path_factory.mktemp("index")


@pytest.fixture(scope="session")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Path:
    """The folder of the run when it is done; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "out"
    train(run, out=out, cache_folder=cache_folder)
    return out
