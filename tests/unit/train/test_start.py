"""kosmos.train.start."""

import dataclasses
from pathlib import Path

import pytest
import torch

from kosmos.errors import CheckpointError
from kosmos.model.config import ModelConfig, with_vocabulary
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer
from kosmos.train.config import Run
from kosmos.train.start import start_from
from kosmos.weights.folder import save_model
from kosmos.weights.quantize import quantize_folder


def make_model(config: ModelConfig, seed: int) -> Kosmos:
    model = Kosmos(config)
    initialize(model, seed)
    return model


def save(folder: Path, run: Run, model: Kosmos, tokenizer: Tokenizer) -> Path:
    save_model(
        folder,
        model=model,
        tokenizer=tokenizer,
        image=run.data.image,
        layout=run.data.layout,
        provenance=None,
    )
    return folder


def test_weights_are_copied(tmp_path: Path, run: Run, tokenizer: Tokenizer) -> None:
    source, target = make_model(run.model, 1), make_model(run.model, 2)
    start_from(target, tokenizer, save(tmp_path / "m", run, source, tokenizer))
    for one, other in zip(source.parameters(), target.parameters(), strict=True):
        assert torch.equal(one, other)


def test_quantized_weights_are_refused(tmp_path: Path, run: Run, tokenizer: Tokenizer) -> None:
    save(tmp_path / "m", run, make_model(run.model, 1), tokenizer)
    quantize_folder(tmp_path / "m", tmp_path / "int8")
    with pytest.raises(CheckpointError, match="expected floating-point weights, found int8"):
        start_from(make_model(run.model, 2), tokenizer, tmp_path / "int8")


def test_rows_of_a_larger_vocabulary_stay_fresh(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    plain = Tokenizer.from_bytes(tokenizer.model_bytes, num_cells=0)
    size = plain.vocabulary.size
    source = make_model(with_vocabulary(run.model, size), 1)
    target, fresh = make_model(run.model, 2), make_model(run.model, 2)
    start_from(target, tokenizer, save(tmp_path / "m", run, source, plain))
    assert size < tokenizer.vocabulary.size
    assert torch.equal(target.head_weight[:size], source.head_weight)
    assert torch.equal(target.head_weight[size:], fresh.head_weight[size:])


def test_a_language_model_gives_its_decoder_and_the_rest_stays_fresh(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    words = dataclasses.replace(run.model, vision=None, connector=None)
    source, target = make_model(words, 1), make_model(run.model, 2)
    fresh = make_model(run.model, 2)
    start_from(target, tokenizer, save(tmp_path / "m", run, source, tokenizer))
    assert torch.equal(target.head_weight, source.head_weight)
    assert target.vision is not None
    assert fresh.vision is not None
    for one, other in zip(target.vision.parameters(), fresh.vision.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_of_another_shape_or_place_are_named(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    folder = save(tmp_path / "m", run, make_model(run.model, 1), tokenizer)
    narrow = dataclasses.replace(run.model.decoder, ffn_width=48)
    target = make_model(dataclasses.replace(run.model, decoder=narrow), 2)
    with pytest.raises(
        CheckpointError, match=r"decoder.layers.0.ffn.fc1.weight of shape \(64, 32\) for \(48, 32\)"
    ):
        start_from(target, tokenizer, folder)
    words = make_model(dataclasses.replace(run.model, vision=None, connector=None), 2)
    with pytest.raises(CheckpointError, match=r"which the run's model lacks; .* and \d+ more"):
        start_from(words, tokenizer, folder)


def test_a_tokenizer_whose_ids_mean_other_words_is_refused(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    folder = save(tmp_path / "m", run, make_model(run.model, 1), tokenizer)
    target = make_model(run.model, 2)
    other = Tokenizer.from_bytes(
        train_tokenizer(["quite other words in another order"] * 9, num_pieces=20),
        num_cells=4,
    )
    with pytest.raises(CheckpointError, match="expected the run's tokenizer"):
        start_from(target, other, folder)
    finer = Tokenizer.from_bytes(tokenizer.model_bytes, num_cells=5)
    with pytest.raises(CheckpointError, match="expected 5 or no location cells a side, found 4"):
        start_from(target, finer, folder)
