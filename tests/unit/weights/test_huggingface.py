"""Reading Hugging Face folders without transformers: files that are absent or disagree."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from kosmos.errors import CheckpointError, MissingExtraError
from kosmos.files import write_json
from kosmos.weights.convert import rename
from kosmos.weights.folder import load_model
from kosmos.weights.huggingface import export_huggingface, import_huggingface
from kosmos.weights.huggingface_config import image_fields, is_huggingface, model_fields
from kosmos.weights.loaded import LoadedModel, tensors_of
from kosmos.weights.names import HUGGINGFACE
from kosmos.weights.tensors import write_tensors
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder as transformers leaves it, written with our tables and without transformers."""
    folder = tmp_path_factory.mktemp("hf")
    config = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size)
    model = tiny_model(config)
    write_json(folder / "config.json", {**model_fields(config), "transformers_version": "4.31"})
    write_json(folder / "preprocessor_config.json", image_fields(tiny_image(config)))
    write_tensors(folder, {rename(n, HUGGINGFACE): t for n, t in tensors_of(model).items()})
    tiny_tokenizer().save(folder / "sentencepiece.bpe.model")
    return folder, model


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "model")


def test_folder_is_recognized_and_loaded_by_the_one_loader(written):
    folder, model = written
    assert is_huggingface(folder)
    loaded = load_model(folder)
    assert not loaded.model.training
    assert loaded.tokenizer.vocabulary == tiny_tokenizer().vocabulary
    assert loaded.image == tiny_image(model.config)
    assert loaded.layout == tiny_layout(model.config)
    assert loaded.provenance["imported_from"] == "huggingface"
    assert loaded.provenance["transformers_version"] == "4.31"
    for name, value in model.named_parameters():
        assert torch.equal(loaded.model.get_parameter(name), value)


def test_newer_preprocessing_inside_the_processors_file_wins(copy):
    write_json(
        copy / "processor_config.json",
        {"image_processor": {**image_fields(tiny_image(tiny_config())), "image_std": [1, 1, 1]}},
    )
    assert load_model(copy).image.std == (1, 1, 1)


def test_folder_without_preprocessing_takes_the_usual(copy):
    (copy / "preprocessor_config.json").unlink()
    assert load_model(copy).image == tiny_image(tiny_config())


def test_generation_settings_of_either_place_are_kept(copy):
    fields = json.loads((copy / "config.json").read_text())
    fields["text_config"]["no_repeat_ngram_size"] = 3
    write_json(copy / "config.json", fields)
    assert load_model(copy).provenance["generation"] == {"no_repeat_ngram_size": 3}
    write_json(copy / "generation_config.json", {"no_repeat_ngram_size": 2, "_private": 1})
    assert load_model(copy).provenance["generation"] == {"no_repeat_ngram_size": 2}


def test_position_ids_of_older_folders_are_no_weights(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["vision_model.model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(tensors, copy / "model.safetensors")
    load_model(copy)


def test_folder_without_a_tokenizer_says_what_to_do(copy):
    (copy / "sentencepiece.bpe.model").unlink()
    with pytest.raises(CheckpointError, match="found no tokenizer") as caught:
        load_model(copy)
    assert "pass tokenizer=" in caught.value.hint
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: expected a tokenizer of transf"):
        load_model(copy)
    assert load_model(copy, tokenizer=tiny_tokenizer()).tokenizer is tiny_tokenizer()


def test_tokenizer_file_elsewhere_gets_the_grid_that_fits(copy, tmp_path):
    (copy / "sentencepiece.bpe.model").rename(tmp_path / "my.model")
    loaded = import_huggingface(copy, tokenizer=tmp_path / "my.model")
    assert loaded.tokenizer.vocabulary == tiny_tokenizer().vocabulary


def test_tokenizer_of_another_model_is_refused(copy):
    with pytest.raises(CheckpointError, match="expected a tokenizer of 93 ids"):
        load_model(copy, tokenizer=tiny_tokenizer(5))
    tiny_tokenizer(byte_fallback=True).save(copy / "sentencepiece.bpe.model")
    with pytest.raises(CheckpointError, match=r"320 pieces lead to \(327, or 333 and .* found 93"):
        load_model(copy)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text_model.model.layer_norm.bias", r"missing text_model\.model\.layer_norm\.bias"),
        (None, r"left over text_model\.model\.surprise"),
    ],
)
def test_tensors_that_do_not_fit_are_named_their_way(copy, name, message):
    tensors = load_file(copy / "model.safetensors")
    if name is None:
        tensors["text_model.model.surprise"] = torch.zeros(1)
    else:
        del tensors[name]
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_model(copy)


def test_damaged_config_is_named(copy):
    (copy / "config.json").write_text('{"model_type": ')
    with pytest.raises(CheckpointError, match=r"config\.json: expected JSON"):
        load_model(copy)
    (copy / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json: expected a JSON object, found list"):
        load_model(copy)


def test_export_without_transformers_names_the_extra_and_leaves_nothing(
    written, tmp_path, monkeypatch
):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError) as caught:
        export_huggingface(load_model(written[0]), tmp_path / "out")
    assert "openkosmos[huggingface]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_what_theirs_cannot_be_before_writing(tmp_path):
    config = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size, vision=False)
    loaded = LoadedModel(
        model=tiny_model(config),
        tokenizer=tiny_tokenizer(),
        image=tiny_image(config),
        layout=tiny_layout(config),
    )
    with pytest.raises(CheckpointError, match="language-only baseline"):
        export_huggingface(loaded, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
