"""A tiny model with random weights in a folder, for commands to load."""

from pathlib import Path

import pytest

import kosmos
from kosmos.generate.generator import Generator
from kosmos.weights.folder import save_model
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    tokenizer = small_tokenizer()
    made = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=5))
    path = tmp_path_factory.mktemp("cli") / "model"
    save_model(
        path,
        model=made.model,
        tokenizer=tokenizer,
        image=made.image,
        layout=made.layout,
        provenance=None,
    )
    return path


@pytest.fixture(scope="module")
def generator(folder) -> Generator:
    return kosmos.load(folder)
