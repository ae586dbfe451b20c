"""A folder becomes one of bytes, a matrix at a time, and is loaded as what it is."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch

from kosmos.config import replace
from kosmos.errors import CheckpointError, ConfigError
from kosmos.model.forms.convert import pack_model, quantize_model
from kosmos.model.forms.int8 import (
    KERNEL_BYTES,
    Int8Embedding,
    Int8Linear,
    dequantize_rows,
    is_int8,
)
from kosmos.model.forms.packed import can_pack
from kosmos.weights.convert import rename
from kosmos.weights.folder import check_files, load_model, save_model
from kosmos.weights.huggingface import export_huggingface
from kosmos.weights.huggingface_config import image_fields, model_fields
from kosmos.weights.loaded import tensors_of
from kosmos.weights.names import HUGGINGFACE
from kosmos.weights.quantize import quantize_folder
from kosmos.weights.tensors import list_tensors, take_tensors, write_tensors
from kosmos.weights.verify import verify
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer


def save(folder, model=None, **changes):
    config = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size)
    parts = {
        "model": model or tiny_model(config),
        "tokenizer": tiny_tokenizer(),
        "image": tiny_image(config),
        "layout": tiny_layout(config),
        "provenance": {"run": "test"},
    }
    save_model(folder, **(parts | changes))
    return parts["model"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    source = tmp_path_factory.mktemp("quantize") / "model"
    model = save(source)
    made = quantize_folder(source, source.with_name("int8"))
    return source, source.with_name("int8"), model, made


def same_weights(first, second):
    ours, theirs = dict(first.named_parameters()), dict(second.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype, name
        assert torch.equal(value, theirs[name]), name


def test_folder_holds_what_quantizing_in_memory_gives(folders):
    source, target, model, made = folders
    expected = load_model(source).model
    quantize_model(expected)
    loaded = load_model(target)
    assert isinstance(loaded.model.decoder.embedding, Int8Embedding)
    assert isinstance(loaded.model.connector.dense, Int8Linear)
    same_weights(loaded.model, expected)
    same_weights(load_model(source, quantize="int8").model, expected)
    table = loaded.model.decoder.embedding
    kept = dequantize_rows(table.weight, table.scales)
    assert (kept - model.decoder.embedding.weight).abs().max() < 0.01
    assert not loaded.model.training
    assert made.num_parameters == sum(p.numel() for p in model.parameters())
    assert made.bytes_before == 4 * made.num_parameters
    assert made.bytes_after == (target / "model.safetensors").stat().st_size


def test_folder_says_that_it_is_quantized(folders):
    source, target, _, made = folders
    fields = json.loads((target / "config.json").read_text())
    assert fields["format_version"] == 2  # which readers of version 1 refuse
    assert fields["weights"]["quantization"] == "int8"
    assert fields["weights"]["dtype"] == "float32"
    assert fields["weights"]["num_parameters"] == made.num_parameters
    assert fields["provenance"] == {
        "run": "test", "quantized_from": "model", "quantization": "int8"
    }  # fmt: skip
    assert "int8 weights, the rest float32" in (target / "README.md").read_text()
    plain = json.loads((source / "config.json").read_text())
    assert plain["format_version"] == 1
    assert "quantization" not in plain["weights"]


def test_file_is_one_that_safetensors_reads_and_can_be_mapped(folders):
    target = folders[1]
    for name, tensor in list_tensors(target).items():
        assert tensor.start % tensor.dtype.itemsize == 0
        if tensor.dtype == torch.int8 and tensor.shape[1] % KERNEL_BYTES == 0:
            assert tensor.start % KERNEL_BYTES == 0, name
    assert check_files(target) == []


def test_bytes_at_odd_places_are_read_and_not_mapped(folders, tmp_path):
    # safetensors' own writer aligns nothing, and the kernel would fault
    model = load_model(folders[1]).model
    tensors = {"a": torch.zeros(1, dtype=torch.int8), **tensors_of(model)}
    write_tensors(tmp_path, tensors)
    stored = list_tensors(tmp_path)
    name = "decoder.layers.0.ffn.fc1.weight"
    assert stored[name].start % KERNEL_BYTES != 0
    taken = take_tensors({name: stored[name]}, dtype=torch.int8, device=torch.device("cpu"))
    assert taken[name].data_ptr() % KERNEL_BYTES == 0
    assert torch.equal(taken[name], model.get_parameter(name))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_activations_are_of_the_type_asked_for(folders, dtype):
    source, target, _, _ = folders
    loaded = load_model(target, dtype=dtype).model
    assert str(loaded.dtype) == f"torch.{dtype}"
    assert loaded.decoder.embedding.weight.dtype == torch.int8
    assert loaded.decoder.embedding.scales.dtype == torch.float32
    same_weights(loaded, load_model(source, dtype=dtype, quantize="int8").model)


def test_saved_again_it_is_the_same_folder(folders, tmp_path):
    loaded = load_model(folders[1])
    save(tmp_path / "again", loaded.model)
    again = load_model(tmp_path / "again").model
    same_weights(again, loaded.model)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["format_version"] == 2


@pytest.mark.parametrize("change", [{"decoder.positions": "xpos"}, {"connector.kind": "perceiver"}])
def test_every_kind_of_model_and_of_type_is_converted(tmp_path, change):
    config = replace(tiny_config(vocab_size=tiny_tokenizer().vocabulary.size), change)
    save(tmp_path / "model", tiny_model(config).bfloat16())
    quantize_folder(tmp_path / "model", tmp_path / "int8")
    loaded = load_model(tmp_path / "int8", dtype="stored").model
    assert loaded.dtype == torch.bfloat16
    same_weights(loaded, load_model(tmp_path / "model", dtype="stored", quantize="int8").model)


def test_folder_of_huggingface_is_converted_directly(tmp_path):
    config = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size)
    model = tiny_model(config)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "config.json").write_text(json.dumps(model_fields(config)))
    (theirs / "preprocessor_config.json").write_text(json.dumps(image_fields(tiny_image(config))))
    write_tensors(theirs, {rename(n, HUGGINGFACE): t for n, t in tensors_of(model).items()})
    tiny_tokenizer().save(theirs / "sentencepiece.bpe.model")
    quantize_folder(theirs, tmp_path / "int8")
    quantize_model(model)
    same_weights(load_model(tmp_path / "int8").model, model)


# --- what is refused


def test_quantized_folder_is_not_quantized_again_verified_or_exported(folders, tmp_path):
    source, target, _, _ = folders
    with pytest.raises(CheckpointError, match="expected floating-point weights, found int8"):
        quantize_folder(target, tmp_path / "twice")
    with pytest.raises(CheckpointError, match="expected floating-point weights, found int8") as c:
        verify(source, target)
    assert "kosmos weights quantize measures" in c.value.hint
    with pytest.raises(ConfigError, match="expected floating-point weights, found int8"):
        export_huggingface(load_model(target), tmp_path / "hf")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_leave_no_folder(tmp_path):
    model = tiny_model(tiny_config(vocab_size=tiny_tokenizer().vocabulary.size))
    with torch.no_grad():
        model.decoder.layers[1].ffn.fc1.weight[3, 4] = float("nan")
    save(tmp_path / "model", model)
    with pytest.raises(
        CheckpointError, match=r"decoder\.layers\.1\.ffn\.fc1\.weight: .* found NaN"
    ):
        quantize_folder(tmp_path / "model", tmp_path / "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("quantization", "message"),
    [(None, "left over .*scales"), ("int4", "quantization: expected .*int8.* found 'int4'")],
)
def test_config_that_says_otherwise_is_refused(folders, tmp_path, quantization, message):
    copy = shutil.copytree(folders[1], tmp_path / "copy")
    fields = json.loads((copy / "config.json").read_text())
    fields["weights"]["quantization"] = quantization
    (copy / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=message):
        load_model(copy)


def test_plain_weights_under_a_quantized_config_are_refused(folders, tmp_path):
    copy = shutil.copytree(folders[1], tmp_path / "copy")
    tensors = {n: t.detach() for n, t in load_model(copy).model.named_parameters()}
    name = "decoder.layers.0.ffn.fc1.weight"
    write_tensors(copy, {**tensors, name: tensors[name].float()})
    with pytest.raises(CheckpointError, match=rf"{name}: expected torch\.int8 .* found torch\.flo"):
        load_model(copy)


@pytest.mark.parametrize("option", [{"device": "abacus"}, {"dtype": "int4"}])
def test_wrong_device_or_type_is_found_before_the_work(folders, option, monkeypatch):
    monkeypatch.setattr("kosmos.weights.folder.quantize_model", lambda *_, **__: 1 / 0)
    with pytest.raises(ConfigError):
        load_model(folders[0], quantize="int8", **option)


@pytest.mark.skipif(not can_pack(torch.zeros(512, 512)), reason="torch is built without oneDNN")
def test_packed_model_is_not_saved(tmp_path):
    model = tiny_model(tiny_config(vocab_size=tiny_tokenizer().vocabulary.size))
    pack_model(model, min_elements=1)
    with pytest.raises(ConfigError, match="expected weights that can be saved, found them packed"):
        save(tmp_path / "model", model)
    assert list(tmp_path.iterdir()) == []


# --- memory

_PEAK = """
import re, sys
from pathlib import Path
from kosmos.weights.folder import load_model, save_model
from kosmos.weights.quantize import quantize_folder
def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
small, large, out = sys.argv[1:]
quantize_folder(small, out + "/small")  # what torch and the code take
before = peak()
quantize_folder(large, out + "/large")
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_conversion_holds_a_matrix_at_a_time(folders, tmp_path):
    shape = {"decoder.width": 512, "decoder.ffn_width": 2048, "decoder.num_layers": 6}
    plain = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size, vision=False)
    model = tiny_model(replace(plain, shape))
    size = sum(parameter.nbytes for parameter in model.parameters())
    save(tmp_path / "source", model)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, folders[0], tmp_path / "source", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(re.findall(r"\d+", done.stdout)[-1])
    assert is_int8(load_model(tmp_path / "large").model)
    # 76 MB of weights, 19 MB of bytes; a matrix has 4 MB, and worst seen is 17 MB
    assert grown < 0.4 * size
