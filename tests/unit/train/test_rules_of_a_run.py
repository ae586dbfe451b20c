"""What the rules of a run say is what training does: kosmos.train.config and kosmos.train.start."""

import dataclasses
import tempfile
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kosmos.config import replace
from kosmos.data.rules import tokenizer_rules
from kosmos.errors import CheckpointError, ConfigError, KosmosError
from kosmos.model.lora import LoraConfig
from kosmos.text.tokenizer import Tokenizer
from kosmos.train import trainer
from kosmos.train.config import Run, run_rules
from kosmos.train.start import start_folder_rules, start_rules
from kosmos.train.trainer import train
from tests.unit.train.test_start import make_model, save

CHANGES: dict[str, list[object]] = {
    "train.warmup_steps": [0, 7],
    "train.vision": ["all", "last-layer", "frozen"],
    "train.fresh": [True, False],
    "train.objective": ["next-token", "regions"],
    "train.keep_best": [True, False],
    "train.heldout_every": [0, 3],
    "train.adapter": [None, LoraConfig(targets=("decoder",)), LoraConfig(targets=("nothing",))],
    "data.tokenizer": [""],
    "data.num_cells": [4, 5],
    "image.size": [28, 42],
    "streams.text.max_tokens": [64, 100_000],
    "streams.captions.heldout_path": [""],
}


@pytest.fixture(scope="module")
def folders(run: Run, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A whole model, and one without a vision tower."""
    folder = tmp_path_factory.mktemp("start")
    words = dataclasses.replace(run.model, vision=None, connector=None)
    return [
        save(folder / name, run, make_model(config, 1), tokenizer)
        for name, config in (("whole", run.model), ("words", words))
    ]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_the_rules_pass_starts_and_what_they_refuse_is_refused_in_their_words(
    run: Run,
    folders: list[Path],
    cache_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: st.DataObject,
) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(CHANGES)), max_size=3))
    changes = {name: data.draw(st.sampled_from(CHANGES[name]), label=name) for name in names}
    start = data.draw(st.sampled_from(["", "nowhere", *map(str, folders)]), label="start")
    changed = replace(run, {**changes, "train.start_from": start})
    found = list(chain(start_folder_rules(changed), tokenizer_rules(changed.data)))
    if changed.data.tokenizer:
        tokenizer = Tokenizer.load(changed.data.tokenizer, num_cells=changed.data.num_cells)
        found += run_rules(changed, vocabulary_size=tokenizer.vocabulary.size)
        found += start_rules(changed, tokenizer)
    errors = [finding for finding in found if finding.severity == "error"]
    started = []
    # what follows is the first step
    monkeypatch.setattr(trainer._Training, "_loop", lambda self, *_: started.append(self.model))
    monkeypatch.setattr(trainer._Training, "_go_back_to_best", lambda self: None)
    monkeypatch.setattr(trainer, "leave_model", lambda *_, out, **__: out)
    out = Path(tempfile.mkdtemp(dir=tmp_path)) / "out"
    if not errors:
        train(changed, out=out, cache_folder=cache_folder)
        assert started
        return
    with pytest.raises(KosmosError) as raised:
        train(changed, out=out, cache_folder=cache_folder)
    assert raised.value.message == errors[0].as_error().message
    assert type(raised.value) is errors[0].error
    assert not started
    assert not out.exists()


def test_a_frozen_tower_that_the_start_lacks_is_refused_unless_it_is_meant(
    run: Run, folders: list[Path], tmp_path: Path
) -> None:
    whole, words = folders
    frozen = replace(
        run, {"train.vision": "frozen", "train.fresh": False, "train.start_from": str(words)}
    )
    with pytest.raises(CheckpointError, match=r"expected a vision tower, which train\.vision='fro"):
        train(frozen, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    for meant in ({"train.fresh": True}, {"train.vision": "all"}, {"train.start_from": str(whole)}):
        assert list(start_rules(replace(frozen, meant), tokenizer)) == []


def test_a_strangers_file_in_the_folder_of_the_model_is_told_before_the_first_step(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    notes = tmp_path / "out" / "model" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    steps: list[object] = []
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        train(run, out=tmp_path / "out", cache_folder=cache_folder, on_step=steps.append)
    assert not steps
    assert notes.read_text() == "mine"
