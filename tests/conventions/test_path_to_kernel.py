"""How many files a reader goes through from a command to the attention kernel.

Counted while the command runs, on the stack at the moment the decoder first attends: the files of
the package from the command's own on. Options and the group they hang in come before it.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

import kosmos
from kosmos import config
from kosmos.cli.main import cli
from kosmos.files import write_json
from kosmos.weights.folder import save_model
from tests.tiny_run import make_run
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

PACKAGE = Path(kosmos.__file__).parent
LAST = ["model/kosmos.py", "model/decoder.py", "model/attention.py"]

CAPTION_FILES, CAPTION_LINES = 7, 1700
"""The command, the generator, replies and rollout before the last three."""
TRAIN_FILES = 6
"""The command, the trainer and the step before the last three."""


class Paths:
    """The files on the stack each time the decoder attends, outermost first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[list[str]] = []
        attend = functional.scaled_dot_product_attention

        def recording(*args: object, **options: object) -> torch.Tensor:
            names = list(dict.fromkeys(files_on_the_stack()))
            if "model/decoder.py" in names:
                self.found.append(names)
            return attend(*args, **options)

        monkeypatch.setattr(functional, "scaled_dot_product_attention", recording)

    def first(self, command: str, through: str) -> list[str]:
        """From a command on, the first time that it goes through a file."""
        names = next(names for names in self.found if through in names)
        return names[names.index(command) :]


def files_on_the_stack() -> Iterator[str]:
    for frame in reversed(inspect.stack(context=0)):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE):
            yield str(path.relative_to(PACKAGE))


def num_lines(names: list[str]) -> int:
    return sum(len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in names)


def test_a_caption_is_few_files_from_the_kernel(tmp_path, monkeypatch):
    tokenizer = small_tokenizer()
    made = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=5))
    parts = {"tokenizer": tokenizer, "image": made.image, "layout": made.layout}
    save_model(tmp_path / "model", model=made.model, provenance=None, **parts)
    picture = tmp_path / "dog.png"
    PIL.Image.new("RGB", (30, 20), "red").save(picture)
    paths = Paths(monkeypatch)
    arguments = ["caption", "--model", str(tmp_path / "model"), "--image", str(picture)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    path = paths.first("cli/caption.py", through="generate/rollout.py")
    assert path[-3:] == LAST
    assert len(path) <= CAPTION_FILES, path
    assert num_lines(path) <= CAPTION_LINES, {name: num_lines([name]) for name in path}


def test_a_training_step_is_few_files_from_the_kernel(tmp_path, monkeypatch):
    run = make_run(tmp_path / "data")
    file = tmp_path / "run.json"
    write_json(file, config.to_json(run))
    paths = Paths(monkeypatch)
    arguments = ["train", str(file), "--out", str(tmp_path / "out"), "--set", "train.steps=2"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    path = paths.first("cli/train.py", through="train/step.py")
    assert path[-3:] == LAST
    assert len(path) <= TRAIN_FILES, path
