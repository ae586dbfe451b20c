"""Files of torch.save: nothing in them runs, tensors are places, damage is named."""

import argparse
import collections
import contextlib
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.errors import CheckpointError
from kosmos.weights.tensors import read_tensor
from kosmos.weights.torch_file import Record, fields_of, open_torch_file


def save(file: Path, content: object) -> Path:
    torch.save(content, file)
    return file


def write_zip(file: Path, pickled: bytes, *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("made/data.pkl", pickled)
    return file


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8]


@settings(max_examples=25)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    is_parameter=st.booleans(),
)
def test_tensors_are_found_with_their_values(tmp_path_factory, shapes, dtype, is_parameter):
    file = tmp_path_factory.mktemp("torch") / "x.pt"
    saved = {str(i): torch.randn(shape).mul(50).to(dtype) for i, shape in enumerate(shapes)}
    if is_parameter:
        saved = {n: torch.nn.Parameter(t, requires_grad=False) for n, t in saved.items()}
    opened = open_torch_file(save(file, saved))
    found = opened.tensors(fields_of(opened.content))
    assert found.keys() == saved.keys()
    for name, value in saved.items():
        assert found[name].shape == tuple(value.shape)
        if dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64):
            assert torch.equal(read_tensor(found[name]), value)


def test_a_slice_is_found_within_its_storage_and_shared_tensors_at_one_place(tmp_path):
    rows = torch.arange(20.0).view(5, 4)
    saved = {"all": rows, "some": rows[2:4], "again": rows, "word": "no tensor"}
    opened = open_torch_file(save(tmp_path / "x.pt", saved))
    found = opened.tensors(fields_of(opened.content))
    assert found.keys() == {"all", "some", "again"}
    assert torch.equal(read_tensor(found["some"]), rows[2:4])
    assert found["all"].start == found["again"].start


def test_transposed_tensor_is_refused(tmp_path):
    opened = open_torch_file(save(tmp_path / "x.pt", {"x": torch.zeros(3, 4).T}))
    with pytest.raises(CheckpointError, match=r"x: expected a contiguous tensor, found \(4, 3\)"):
        opened.tensors(fields_of(opened.content))


class Node:
    """A node of a config, as a library that is not here has it."""

    def __init__(self, value):
        self._val = value


class DictConfig:
    """A config of nodes, of the same library."""

    def __init__(self, **values):
        self._metadata = {"readonly": True}
        self._content = {n: v if isinstance(v, DictConfig) else Node(v) for n, v in values.items()}


def test_fields_of_every_kind_of_record(tmp_path, monkeypatch):
    library = types.ModuleType("omegaconf_like")
    for kind in (Node, DictConfig):
        monkeypatch.setattr(kind, "__module__", "omegaconf_like")
        setattr(library, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "omegaconf_like", library)
    content = {
        "plain": {"a": 1, 2: "no name"},
        "namespace": argparse.Namespace(a=1, b="two"),
        "ordered": collections.OrderedDict(a=1),
        "config": DictConfig(a=1, inner=DictConfig(b=2.5)),
        "number": 3,
    }
    file = save(tmp_path / "x.pt", content)
    monkeypatch.delitem(sys.modules, "omegaconf_like")
    found = fields_of(open_torch_file(file).content)
    assert fields_of(found["plain"]) == {"a": 1}
    assert fields_of(found["namespace"]) == {"a": 1, "b": "two"}
    assert fields_of(found["ordered"]) == {"a": 1}
    assert fields_of(found["config"])["a"] == 1
    assert fields_of(fields_of(found["config"])["inner"]) == {"b": 2.5}
    assert fields_of(found["number"]) == {}
    assert "omegaconf_like" not in sys.modules


class Harm:
    """Runs a call when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_calls_in_a_pickle_are_remembered_and_not_made(tmp_path, protocol):
    victim = tmp_path / "victim"
    calls = [
        Harm(os.system, f"touch {victim}"),
        Harm(eval, f"open({str(victim)!r}, 'w')"),
        Harm(exec, f"open({str(victim)!r}, 'w')"),
        Harm(Path.touch, victim),
        Harm(io.FileIO, str(victim), "w"),
        Harm(setattr, Record, "name", "changed"),
    ]
    content = {"model": calls, "key": {Harm(os.mkdir, str(victim)): 1}}
    pickled = pickle.dumps(content, protocol=protocol)
    opened = open_torch_file(write_zip(tmp_path / "x.pt", pickled))
    found = opened.content["model"]
    assert all(isinstance(record, Record) for record in found)
    assert [r.name.rpartition(".")[2] for r in found[:3]] == ["system", "eval", "exec"]
    assert found[0].args == (f"touch {victim}",)
    assert not victim.exists()
    assert Record.name == ""
    # the same bytes do run where they are trusted
    pickle.loads(pickle.dumps(calls[0], protocol=protocol))
    assert victim.exists()


def test_modules_that_a_pickle_names_are_not_imported(tmp_path):
    (tmp_path / "innocent_looking.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        opened = open_torch_file(write_zip(tmp_path / "x.pt", b"cinnocent_looking\nthing\n."))
    finally:
        sys.path.remove(str(tmp_path))
    assert issubclass(opened.content, Record)
    assert "innocent_looking" not in sys.modules


@pytest.mark.parametrize(
    ("pickled", "found"),
    [
        (b"", "pickle exhausted before seeing STOP"),
        (b"not a pickle", "ValueError: at position 0"),
        (b"(lp0\n", "pickle exhausted"),
        (b"cos\nsystem\n}b.", "TypeError"),  # attributes of a class, not of an instance
        (b"]}b.", "AttributeError"),
        (b"}]K\x01s.", "TypeError: unhashable"),
        (b"Pstorage\n.", "UnpicklingError"),
        (b"(U\x07storageI1\nI2\nI3\nI4\ntQ.", "a reference that is not to a storage"),
        (b"\x80\x02\x82\x01.", "EXT1 1"),
        (b"Nr" + struct.pack("<I", 0x7FFFFFF0) + b".", "LONG_BINPUT 2147483632"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".", "ValueError"),
    ],
)
def test_pickles_that_do_not_work_are_refused_as_the_files_fault(tmp_path, pickled, found):
    with pytest.raises(CheckpointError, match=r"x\.pt: data\.pkl: expected values") as caught:
        open_torch_file(write_zip(tmp_path / "x.pt", pickled))
    assert found in caught.value.message
    assert "nothing in it was run" in caught.value.hint


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_pickle_is_read_or_refused_and_never_runs(tmp_path_factory, data):
    content = {"a": Harm(sys.exit, "it ran"), "b": argparse.Namespace(c=[1, 2.5, "x"])}
    pickled = bytearray(pickle.dumps(content, protocol=2))
    for _ in range(data.draw(st.integers(1, 4))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damaged") / "x.pt"
    with contextlib.suppress(CheckpointError):
        open_torch_file(write_zip(file, bytes(pickled)))


def place(**changes) -> bytes:
    """A pickle of one tensor of two numbers, with parts of its description changed."""
    parts = {"storage": "FloatStorage", "key": "0", "offset": 0, "shape": (2,), "stride": (1,)}
    parts |= changes
    return (
        b"}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
        + parts["storage"].encode()
        + b"\nX\x01\x00\x00\x00"
        + parts["key"].encode()
        + b"X\x03\x00\x00\x00cpuI2\ntQ"
        + pickle.dumps(parts["offset"], 0)[:-1]
        + pickle.dumps(parts["shape"], 2)[2:-1]
        + pickle.dumps(parts["stride"], 2)[2:-1]
        + b"tRs."
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"storage": "Unknown"}, "a storage among torch.DoubleStorage"),
        ({"key": "7"}, "a storage among"),
        ({"shape": (3,)}, r"\[3\] torch.float32 from 0 on, found 8 bytes"),
        ({"offset": 1}, r"\[2\] torch.float32 from 1 on"),
        ({"offset": -1}, r"\[2\] torch.float32 from -1 on"),
        ({"shape": (-2,)}, "from 0 on"),
        ({"shape": (1 << 40, 1 << 40), "stride": (1 << 40, 1)}, "from 0 on"),
        ({"shape": ("2",)}, "a contiguous tensor"),
        ({"shape": [2]}, "a tensor as torch saves it"),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, changes, expected):
    def opened(pickled):
        write_zip(tmp_path / "x.pt", pickled)
        with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
            archive.writestr("made/data/0", struct.pack("<2f", 1.5, -2.0))
        return open_torch_file(tmp_path / "x.pt")

    good = opened(place())
    stored = good.tensors(fields_of(good.content))["x"]
    assert read_tensor(stored).tolist() == [1.5, -2.0]
    bad = opened(place(**changes))
    with pytest.raises(CheckpointError, match=rf"x\.pt: x: expected .*{expected}"):
        bad.tensors(fields_of(bad.content))


def test_file_of_the_older_format_says_how_to_convert_it(tmp_path):
    torch.save({"x": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"zip format of torch 1\.6 and later") as caught:
        open_torch_file(tmp_path / "old.pt")
    assert "where you trust the file: torch.save" in caught.value.hint


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path, part):
    file = save(tmp_path / "x.pt", {"x": torch.zeros(5000)})
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * part)])
    with pytest.raises(CheckpointError, match=r"expected a whole file of torch\.save") as caught:
        open_torch_file(file)
    assert "truncated or damaged" in caught.value.hint


def nested(kind: str, count: int) -> bytes:
    """A program whose values lie in each other, as a value, a key of a dictionary, or lists."""
    return {
        "tuples": b"\x80\x02)" + b"\x85" * count + b".",
        "tuples that share": b"\x80\x02)" + b"2\x86" * count + b".",
        "tuples by memory": b"\x80\x02)" + b"q\x01h\x010h\x01\x85" * count + b".",
        "keys": b"\x80\x02})" + b"\x85" * count + b"K\x01s.",
        "marked": b"\x80\x02" + b"(" * count + b")" + b"t" * count + b".",
        "sets": b"\x80\x04(" + b"(" * count + b"\x91" * count + b"\x91.",
        "calls": b"\x80\x02" + b"ca\nb\n" * 2 + b")R" + b"\x85R" + b"ca\nb\n\x86" * count + b".",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["tuples", "tuples that share", "tuples by memory", "keys", "marked", "sets", "calls"],
)
def test_values_too_deep_in_each_other_are_refused_and_end_no_process(tmp_path, kind):
    file = write_zip(tmp_path / "x.pt", nested(kind, 150_000))
    with pytest.raises(CheckpointError, match=r"x\.pt: data\.pkl: .* 200 deep in each other"):
        open_torch_file(file)


def test_what_is_filled_bit_by_bit_is_not_deep(tmp_path):
    content = {"list": [[n] for n in range(500)], "dict": {str(n): {n: n} for n in range(500)}}
    for protocol in range(5):
        file = write_zip(tmp_path / "x.pt", pickle.dumps(content, protocol))
        assert open_torch_file(file).content == content
    deep: object = 0
    for _ in range(150):
        deep = (deep, 1)
    assert open_torch_file(save(tmp_path / "deep.pt", {"x": deep})).content == {"x": deep}


def test_programs_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    write_zip(tmp_path / "x.pt", b"\x80\x02]" + b"]" * 2_100_000 + b"a" * 2_100_000 + b".")
    with pytest.raises(CheckpointError, match=r"x\.pt: data\.pkl: .* 2,000,000 instructions"):
        open_torch_file(tmp_path / "x.pt")
    # three megabytes that unpack to three gigabytes: nothing is unpacked at all
    bomb = b"\x80\x02" + b"N0" * 10_000_000 + b"N."
    file = write_zip(tmp_path / "x.pt", bomb, compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 30_000
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(CheckpointError, match=r"x\.pt: .* found made/data\.pkl compressed"):
        open_torch_file(file)


def test_a_program_longer_than_any_checkpoint_needs_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("kosmos.weights.torch_file._MAX_PROGRAM_BYTES", 100)
    write_zip(tmp_path / "x.pt", pickle.dumps("x" * 200))
    with pytest.raises(CheckpointError, match=r"data\.pkl: expected at most 100 bytes, found 2"):
        open_torch_file(tmp_path / "x.pt")


def test_numbers_that_cannot_be_printed_are_refused(tmp_path):
    write_zip(tmp_path / "x.pt", pickle.dumps({"x": 1 << 100_000}))
    with pytest.raises(CheckpointError, match=r"x\.pt: data\.pkl: .* LONG4"):
        open_torch_file(tmp_path / "x.pt")


def test_files_that_are_not_torchs_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"x\.pt: .* found nothing there"):
        open_torch_file(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(b"\x08\x00\x00\x00 safetensors")
    with pytest.raises(CheckpointError, match=r"found b'\\x08\\x00\\x00\\x00' at its start"):
        open_torch_file(tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(CheckpointError, match="found another zip file"):
        open_torch_file(tmp_path / "x.pt")
    write_zip(tmp_path / "x.pt", pickle.dumps({}), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"found made/data\.pkl compressed"):
        open_torch_file(tmp_path / "x.pt")
    write_zip(tmp_path / "x.pt", pickle.dumps({}))
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        archive.writestr("made/byteorder", b"big")
    with pytest.raises(CheckpointError, match="found b'big' byte order"):
        open_torch_file(tmp_path / "x.pt")
