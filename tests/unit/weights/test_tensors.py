"""Safetensors files: listed, read into place, written whole or in shards."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kosmos.errors import CheckpointError
from kosmos.weights import tensors as module
from kosmos.weights.tensors import (
    DTYPES,
    list_tensors,
    read_tensor,
    read_tensors,
    take_tensors,
    write_tensors,
)


def sample() -> dict[str, torch.Tensor]:
    return {
        "matrix": torch.arange(12.0).view(3, 4),
        "half": torch.arange(5.0).to(torch.bfloat16),
        "empty": torch.empty(0, 7),
        "scalar": torch.tensor(3.5),
        "long": torch.arange(1000.0),
    }


def test_written_tensors_are_listed_and_read(tmp_path):
    written = sample()
    assert [f.name for f in write_tensors(tmp_path, written)] == ["model.safetensors"]
    stored = list_tensors(tmp_path)
    assert stored.keys() == written.keys()
    for name, value in written.items():
        assert stored[name].dtype == value.dtype
        assert torch.equal(read_tensor(stored[name]), value)


@settings(max_examples=20)
@given(limit=st.integers(1, 6000))
def test_shards_hold_everything_and_none_is_too_large(tmp_path_factory, limit):
    folder = tmp_path_factory.mktemp("shards")
    written = sample()
    files = write_tensors(folder, written, max_shard_bytes=limit)
    stored = list_tensors(folder)
    assert stored.keys() == written.keys()
    for file in files:
        inside = [tensor.num_bytes for tensor in stored.values() if tensor.file == file]
        assert sum(inside) <= limit or sum(size > 0 for size in inside) == 1
    assert all(torch.equal(read_tensor(stored[name]), value) for name, value in written.items())


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_reading_converts_in_chunks(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(module, "CHUNK_BYTES", 24)
    values = torch.linspace(-3, 3, 101)
    write_tensors(tmp_path, {"x": values})
    target = torch.empty(101, dtype=dtype)
    read_tensors({"x": list_tensors(tmp_path)["x"]}, {"x": target})
    assert torch.equal(target, values.to(dtype))


def test_taken_tensors_are_mapped_or_converted_and_never_shared_with_the_file(tmp_path):
    values = torch.arange(20.0)
    write_tensors(tmp_path, {"x": values})
    stored = list_tensors(tmp_path)
    for dtype in (torch.float32, torch.float64):
        taken = take_tensors(stored, dtype=dtype, device=torch.device("cpu"))["x"]
        assert torch.equal(taken, values.to(dtype))
        taken.add_(1)
    assert torch.equal(read_tensor(stored["x"]), values)


def test_tensors_wherever_they_start_are_taken_as_they_are(tmp_path):
    written = sample()
    write_tensors(tmp_path, written)
    stored = list_tensors(tmp_path)
    for kind in {tensor.dtype for tensor in stored.values()}:
        same = {name: tensor for name, tensor in stored.items() if tensor.dtype == kind}
        taken = take_tensors(same, dtype=kind, device=torch.device("cpu"))
        assert all(torch.equal(taken[name], written[name]) for name in same)
    # numbers at an odd address are read, not mapped
    shifted = replace(stored["half"], start=stored["half"].start + 1, shape=(4,), num_bytes=8)
    taken = take_tensors({"x": shifted}, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert torch.equal(taken["x"], read_tensor(shifted))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_pages_of_a_mapped_tensor_go_when_it_is_dropped_and_no_others(tmp_path):
    size = 4 * 2**20  # numbers: 16 MiB each
    write_tensors(tmp_path, {name: torch.full((size,), float(ord(name))) for name in "abc"})
    taken = take_tensors(list_tensors(tmp_path), dtype=torch.float32, device=torch.device("cpu"))
    before = mapped_mib()
    assert [taken[name].sum().item() for name in "abc"] == [ord(name) * size for name in "abc"]
    taken["c"][0] = 0.0  # a page of its own, no longer the file's
    assert mapped_mib() - before > 44
    view = taken["b"][1:]
    del taken["b"]
    assert mapped_mib() - before > 44
    del view
    assert 28 < mapped_mib() - before < 36
    assert taken["c"][0].item() == 0.0
    assert taken["a"].sum().item() == ord("a") * size
    taken.clear()
    assert mapped_mib() - before < 4


def mapped_mib() -> float:
    """Memory of this process that holds pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1024


def test_files_have_the_rights_of_any_other_new_file(tmp_path):
    write_tensors(tmp_path, sample())
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_files_carry_the_mark_other_tools_ask_for(tmp_path):
    import safetensors

    write_tensors(tmp_path, sample(), metadata={"made": "here"})
    with safetensors.safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "made": "here"}
    assert load_file(tmp_path / "model.safetensors").keys() == sample().keys()


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated_file_is_refused_by_name(tmp_path, keep):
    write_tensors(tmp_path, sample())
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected a whole safetensors"):
        list_tensors(tmp_path)


def test_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="found neither"):
        list_tensors(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"only pytorch_model\.bin") as caught:
        list_tensors(tmp_path)
    assert "safe serialization" in caught.value.hint


def test_missing_shard_is_named(tmp_path):
    files = write_tensors(tmp_path, sample(), max_shard_bytes=50)
    files[1].unlink()
    with pytest.raises(CheckpointError, match=f"{files[1].name}: .* found nothing there"):
        list_tensors(tmp_path)


def test_index_that_disagrees_with_its_shards_is_refused(tmp_path):
    write_tensors(tmp_path, sample(), max_shard_bytes=50)
    index = tmp_path / "model.safetensors.index.json"
    fields = json.loads(index.read_text())
    del fields["weight_map"]["half"]
    index.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="'half' is only in the file"):
        list_tensors(tmp_path)
    index.write_text('{"weight_map": {"a": "../../secret"}}')
    with pytest.raises(CheckpointError, match="expected names of files"):
        list_tensors(tmp_path)
    index.write_text('{"something": "else"}')
    with pytest.raises(CheckpointError, match="an object with 'weight_map'"):
        list_tensors(tmp_path)


def test_file_of_other_quantized_weights_is_refused(tmp_path):
    save_file({"x": torch.zeros(3, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"x: expected a type among .* found 'U8'"):
        list_tensors(tmp_path)
