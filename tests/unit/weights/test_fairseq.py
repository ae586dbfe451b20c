"""The release's checkpoint: the same model out of it, nothing run, every misfit named."""

import argparse
import dataclasses
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from kosmos.config import replace
from kosmos.document.layout import INFERENCE
from kosmos.errors import CheckpointError
from kosmos.model.config import PRESETS, ModelConfig
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights import fairseq as module
from kosmos.weights.convert import rename
from kosmos.weights.fairseq import check_dictionary, import_fairseq, read_release
from kosmos.weights.folder import load_model, save_model
from kosmos.weights.loaded import LoadedModel, shape_model, tensors_of
from kosmos.weights.names import RELEASE, RELEASE_EMBEDDING, RELEASE_HEAD
from kosmos.weights.tensors import StoredTensor
from kosmos.weights.verify import verify
from tests.release import release_arguments, release_config, release_tensors, write_release
from tests.tiny import noise_pixels, tiny_image, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model():
    return tiny_model(release_config(), seed=4)


@pytest.fixture
def file(model, tmp_path):
    tiny_tokenizer().save(tmp_path / "sentencepiece.bpe.model")
    return write_release(tmp_path / "kosmos-2.pt", model)


@torch.inference_mode()
def logits(model):
    """Of a row with a picture at its front."""
    slots = torch.zeros(2, 9, dtype=torch.bool)
    slots[:, 1:4] = True
    ids = torch.arange(18).view(2, 9) + 4
    images = model.encode_images(noise_pixels(2, 28))
    return model.logits(model(ids, image_slots=slots, image_embeddings=images))


def save(loaded: LoadedModel, folder: Path) -> Path:
    fields = {f.name: getattr(loaded, f.name) for f in dataclasses.fields(loaded)}
    save_model(folder, **fields)
    return folder


def test_imported_model_computes_the_same_bit_for_bit(file, model):
    loaded = import_fairseq(file)
    assert loaded.model.config == model.config
    assert torch.equal(logits(loaded.model), logits(model))
    assert loaded.tokenizer.vocabulary == tiny_tokenizer().vocabulary
    assert loaded.image == tiny_image(model.config)
    assert loaded.layout == replace(INFERENCE, {"num_image_tokens": 3})
    assert not loaded.model.training


def test_provenance_counts_and_names_what_was_left_out(file):
    assert import_fairseq(file).provenance == {
        "imported_from": "fairseq",
        "file": "kosmos-2.pt",
        "num_updates": 60_000,
        "left_out": [
            "gpt_model.decoder.embed_positions._float_tensor",
            "gpt_model.decoder.output_projection.weight",
            "gpt_model.decoder.self_attn_sope.scale",
        ],
        "entries_left_out": [
            "args", "cfg", "criterion", "extra_state", "last_optimizer_state", "optimizer_history",
            "task_state",
        ],
        "generation": {"no_repeat_ngram_size": 3},
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_folder_made_of_it_is_verified_against_the_file(tmp_path, dtype):
    model = tiny_model(release_config(), seed=4).to(dtype)
    tiny_tokenizer().save(tmp_path / "sentencepiece.bpe.model")
    file = write_release(tmp_path / "kosmos-2.pt", model)
    folder = save(import_fairseq(file, dtype="stored"), tmp_path / "ours")
    again = load_model(folder, dtype="stored").model
    assert again.head_weight.dtype == dtype
    for name, value in model.named_parameters():
        assert torch.equal(again.get_parameter(name), value), name
    assert verify(folder, file).passed
    other = write_release(tmp_path / "other.pt", tiny_model(release_config(), seed=5))
    assert not verify(folder, other).passed


def test_export_of_it_is_the_same_model_to_transformers(file, tmp_path):
    pytest.importorskip("transformers")
    from kosmos.weights.huggingface import export_huggingface

    export_huggingface(import_fairseq(file), tmp_path / "hf")
    found = verify(tmp_path / "hf", file)
    assert found.passed
    assert found.max_tensor_difference == 0.0


def test_sizes_of_the_release_are_read_off_its_tensors():
    preset = PRESETS["kosmos2-released"]
    shapes = {
        rename(name, RELEASE): tuple(parameter.shape)
        for name, parameter in shape_model(preset).named_parameters()
    }
    for arguments in ({}, release_arguments(preset)):
        assert module._read_config(shapes, arguments, where="kosmos-2.pt") == preset


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"decoder_attention_heads": 2}, "decoder.num_heads", 2),
        ({"decoder_attention_heads": 2}, "connector.num_heads", 2),
        ({"activation_fn": "relu"}, "decoder.activation", "relu"),
        ({"max_target_positions": 77}, "decoder.max_tokens", 77),
        ({"no_scale_embedding": True}, "decoder.scale_embedding", False),
        ({"flash_attention": False, "attention_dropout": 0.2}, "decoder.attention_dropout", 0.2),
        ({"flash_attention": True, "attention_dropout": 0.2}, "decoder.attention_dropout", 0.0),
        ({"attention_dropout": 0.2}, "connector.attention_dropout", 0.2),
        ({"visual_model_name": "ViT-B-16"}, "vision.activation", "gelu"),
        ({"visual_model_name": "ViT-B-16-quickgelu"}, "vision.activation", "quick_gelu"),
        ({"visual_model_name": "ViT-L/14"}, "vision.activation", "quick_gelu"),
    ],
)
def test_arguments_say_what_tensors_do_not(model, tmp_path, changes, field, value):
    arguments = release_arguments(model.config) | changes
    file = write_release(tmp_path / "x.pt", model, arguments=arguments)
    part, _, name = field.partition(".")
    config = read_release(file).config
    assert getattr(getattr(config, part), name) == value


def test_arguments_of_older_files_are_found(model, tmp_path):
    arguments = argparse.Namespace(**release_arguments(model.config))
    file = write_release(tmp_path / "x.pt", model, args=arguments, cfg=None)
    assert read_release(file).config == model.config


def test_heads_that_nobody_names_are_64_wide(tmp_path):
    config = release_config()
    wide = ModelConfig(
        decoder=dataclasses.replace(config.decoder, width=128, num_heads=2),
        vision=config.vision,
        connector=dataclasses.replace(config.connector, width=128, num_heads=2),
    )
    file = write_release(tmp_path / "x.pt", tiny_model(wide), cfg=None, optimizer_history=None)
    release = read_release(file)
    assert release.config.decoder.num_heads == 2
    assert release.config.connector.num_heads == 2
    assert release.num_updates is None
    file = write_release(tmp_path / "x.pt", tiny_model(config), arguments={})
    with pytest.raises(CheckpointError, match=r"decoder\.num_heads: expected heads of 64 .* of 32"):
        read_release(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"no_token_positional_embeddings": True}, "expected a model as the release's, found True"),
        ({"activation_fn": "gelu_fast"}, "activation_fn: .* found 'gelu_fast'"),
        ({"visual_model_name": "ViT-H-14"}, "visual_model_name: .* found 'ViT-H-14'"),
        ({"decoder_attention_heads": 5}, r"decoder\.width: expected a multiple of num_heads=5"),
        ({"decoder_attention_heads": "four"}, "cfg: expected numbers"),
        ({"dropout": 1.5}, r"decoder\.dropout: expected \[0, 1\), found 1\.5"),
    ],
)
def test_models_that_compute_something_else_are_refused(model, tmp_path, changes, message):
    arguments = release_arguments(model.config) | changes
    file = write_release(tmp_path / "x.pt", model, arguments=arguments)
    with pytest.raises(CheckpointError, match=rf"x\.pt: .*{message}"):
        read_release(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt_model.decoder.layer_norm.bias", r"missing gpt_model\.decoder\.layer_norm\.bias"),
        ("gpt_model.decoder.layers.0.ffn.fc2.weight", r"missing gpt_model\.decoder\.layers\.0\.ff"),
        ("img_model.visual.conv1.weight", r"tensors of KOSMOS-2, found no img_model\.visual\.conv"),
        ("img_connector.latent_query", r"found no img_connector\.latent_query"),
        (RELEASE_EMBEDDING, None),  # the head is the same matrix
    ],
)
def test_missing_tensor_is_named(model, file, name, message):
    tensors = release_tensors(model)
    del tensors[name]
    write_release(file, model, tensors=tensors)
    if message is None:
        assert torch.equal(logits(import_fairseq(file).model), logits(model))
        return
    with pytest.raises(CheckpointError, match=message):
        import_fairseq(file)


def test_tensors_left_over_are_named(model, file):
    tensors = release_tensors(model)
    tensors["img_model.visual.transformer.resblocks.0.attn.in_proj_weight"] = torch.zeros(3, 1)
    write_release(file, model, tensors=tensors)
    with pytest.raises(CheckpointError, match=r"left over img_model\.visual.*\.attn\.in_proj_weig"):
        import_fairseq(file)


def test_tensor_of_another_shape_is_named(model, file):
    tensors = release_tensors(model)
    tensors["img_model.visual.positional_embedding"] = torch.zeros(7, 128)
    write_release(file, model, tensors=tensors)
    with pytest.raises(CheckpointError, match=r"positional_embedding \[7, 128\] instead of \[5, "):
        import_fairseq(file)


def test_head_of_its_own_is_refused_and_a_copy_of_the_embedding_is_not(model, file):
    tensors = release_tensors(model)
    tensors[RELEASE_HEAD] = tensors[RELEASE_EMBEDDING].clone()
    write_release(file, model, tensors=tensors)
    assert torch.equal(logits(import_fairseq(file).model), logits(model))
    tensors[RELEASE_HEAD][5, 5] += 1
    write_release(file, model, tensors=tensors)
    with pytest.raises(CheckpointError, match="expected the embedding again, found values up to 1"):
        import_fairseq(file)


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_file_that_would_run_something_does_not(model, file, tmp_path):
    victim = tmp_path / "victim"
    write_release(file, model, extra_state={"innocent": Harm(victim)})
    assert torch.equal(logits(import_fairseq(file).model), logits(model))
    tensors = release_tensors(model)
    tensors["gpt_model.decoder.layer_norm.bias"] = Harm(victim)
    write_release(file, model, tensors=tensors)
    with pytest.raises(CheckpointError, match=r"layer_norm\.bias: expected a tensor, found"):
        import_fairseq(file)
    assert not victim.exists()
    torch.load(file, weights_only=False)  # it is harmful
    assert victim.exists()


@pytest.mark.parametrize("content", [{"weight": torch.zeros(3)}, [1], OrderedDict()])
def test_other_files_of_torch_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="expected a fairseq checkpoint, with tensors under"):
        read_release(tmp_path / "x.pt")


def test_truncated_file_is_refused(file):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"kosmos-2\.pt: expected a whole file"):
        import_fairseq(file)


def test_tokenizer_is_found_beside_the_file_or_given(file, model, tmp_path):
    given = tmp_path / "elsewhere" / "my.model"
    given.parent.mkdir()
    (tmp_path / "sentencepiece.bpe.model").rename(given)
    with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model: .*nothing th") as caught:
        import_fairseq(file)
    assert "--tokenizer" in caught.value.hint
    for tokenizer in (given, tiny_tokenizer()):
        loaded = import_fairseq(file, tokenizer=tokenizer)
        assert loaded.tokenizer.vocabulary == tiny_tokenizer().vocabulary
    with pytest.raises(CheckpointError, match="expected a tokenizer of 93 ids"):
        import_fairseq(file, tokenizer=tiny_tokenizer(5))


def dictionary(tokenizer: Tokenizer) -> list[str]:
    return [f"{tokenizer.token(i)} 1" for i in range(4, tokenizer.vocabulary.mask_id)]


@pytest.mark.parametrize("where", ["", "elsewhere"])
def test_dictionary_beside_either_file_is_compared(file, tmp_path, where):
    (tmp_path / "elsewhere").mkdir()
    tokenizer = tmp_path / "elsewhere" / "my.model"
    tiny_tokenizer().save(tokenizer)
    lines = dictionary(tiny_tokenizer())
    words = tmp_path / where / "dict.txt"
    words.write_text("\n".join(lines) + "\n")
    import_fairseq(file, tokenizer=tokenizer)
    lines[6], lines[7] = lines[7], lines[6]
    words.write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"dict\.txt: expected .* in line 7"):
        import_fairseq(file, tokenizer=tokenizer)
    words.write_text("\n".join(dictionary(tiny_tokenizer())[:-2]) + "\n")
    with pytest.raises(CheckpointError, match="61 pieces in order, found 59"):
        import_fairseq(file, tokenizer=tokenizer)


def test_released_dictionary_has_the_order_of_our_ids(shared_data):
    folder = shared_data / "kosmos2"
    check_dictionary(folder / "dict.txt", Tokenizer.load(folder / "sentencepiece.bpe.model"))


def test_loading_the_file_itself_says_which_command_makes_a_folder(file):
    with pytest.raises(CheckpointError, match="found a file") as caught:
        load_model(file)
    assert "kosmos weights import" in caught.value.hint


def test_weights_are_mapped_and_nothing_else_of_the_file_is_read(file, monkeypatch):
    read: list[StoredTensor] = []
    monkeypatch.setattr(
        "kosmos.weights.tensors._read_tensor", lambda stream, stored, target: read.append(stored)
    )
    loaded = import_fairseq(file, dtype="stored")
    assert read == []
    assert len(tensors_of(loaded.model)) > 90
