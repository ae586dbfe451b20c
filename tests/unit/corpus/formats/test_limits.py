"""No source, whatever it says of itself, is held beyond the limits, nor ends an import."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.corpus.formats import records, tars, text
from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.limits import MAX_LINE_BYTES, MAX_RECORD_BYTES, MiB
from kosmos.corpus.formats.records import read_rows
from kosmos.corpus.formats.table import FORMATS, make_config
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.importing import import_corpus
from kosmos.errors import DataError
from kosmos.files import Json, read_jsonl
from tests.unit.corpus.formats.sources import PNG, read, tsv_line, write_rows, write_tar
from tests.unit.corpus.formats.test_samples import pair, write_members

KEEPING = {"damaged_files": "count"}
MEASURED = """
import json, sys
from pathlib import Path
from kosmos.corpus.formats.table import FORMATS, make_config
from kosmos.corpus.formats.tally import Tally
from kosmos.runtime import peak_memory_bytes
import pyarrow.parquet
before = peak_memory_bytes()
found = {}
for format_name, path in zip(sys.argv[1::2], sys.argv[2::2]):
    tally = Tally()
    config = make_config(format_name, values={"damaged_files": "count"})
    num = sum(1 for _ in FORMATS[format_name].read(Path(path), config, tally))
    found[Path(path).name] = [num, tally.counts("bad"), (peak_memory_bytes() - before) >> 20]
print(json.dumps(found))
"""
"""Documents, bad records and the peak of memory in MiB, one source after the other."""


def sparse_header(name: str, size: int) -> bytes:
    """A member of GNU's old kind that is nothing but a hole."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    block[148:156] = b"        "
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def pax_sparse(name: str, **headers: str) -> bytes:
    """A member whose attributes say that it has holes."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {f"GNU.sparse.{key}": value for key, value in headers.items()}
    return info.tobuf(tarfile.PAX_FORMAT)


def with_members(path: Path, *headers: bytes) -> Path:
    """A tar with a pair before and behind some headers."""
    first, last = (write_members(path, pair(key)).read_bytes().rstrip(b"\0") for key in "az")
    parts = [data + bytes(-len(data) % 512) for data in (first, *headers, last)]
    path.write_bytes(b"".join(parts) + bytes(1024))
    return path


# --- memory


def hostile(folder: Path) -> dict[Path, str]:
    """Small files that ask for much memory, and the formats that read them."""
    line = json.dumps({"text": "x" * 1000}) + "\n"
    (folder / "endless.jsonl").write_bytes(line.encode() + b"y" * (MAX_LINE_BYTES + 5 * MiB))
    (folder / "endless.txt").write_bytes(b"y" * (MAX_LINE_BYTES + 5 * MiB) + b"\n\nwords")
    with_members(folder / "holes.tar", sparse_header("b.jpg", 6_000_000_000))
    with_members(
        folder / "mapped.tar",
        pax_sparse("b.jpg", major="1", minor="0", realsize="6000000000"),
        pax_sparse("c.jpg", size="6000000000", numblocks="1"),
        pax_sparse("d.jpg", map="0,1,6000000000,0", size="6000000000"),
        pax_sparse("e.jpg", major="1", minor="0", realsize="many"),
    )
    big = tarfile.TarInfo("b.jpg")
    big.size = 8 * 64 * MiB
    rest = write_members(folder / "pair.tar", pair("a")).read_bytes()
    zeros = gzip.compress(bytes(64 * MiB), 1)
    bomb = gzip.compress(big.tobuf()) + 8 * zeros + gzip.compress(rest)
    (folder / "bomb.tar").write_bytes(bomb)
    # a block of bzip2 is 46 MB of zeros in 45 bytes
    (folder / "packed.tar").write_bytes(bz2.compress(bytes(40 * MiB)) * 60)
    value = pyarrow.array(["z" * (8 * MiB)])
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 300, pyarrow.int32()), value)
    table = pyarrow.table({"text": column})
    pyarrow.parquet.write_table(
        table, folder / "repeated.parquet", dictionary_pagesize_limit=32 * MiB
    )
    formats = {"jsonl": "jsonl", "txt": "text", "tar": "pairs", "parquet": "parquet"}
    return {path: formats[path.suffix[1:]] for path in folder.iterdir() if path.stem != "pair"}


def test_memory_stays_within_the_limits_whatever_a_source_says(tmp_path: Path) -> None:
    sources = hostile(tmp_path)
    words = [word for path, format_name in sources.items() for word in (format_name, str(path))]
    command = [sys.executable, "-c", MEASURED, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {name: (num, bad) for name, (num, bad, _) in found.items()} == {
        "endless.jsonl": (1, {"line over 32 MiB": 1}),
        "endless.txt": (1, {"line over 32 MiB": 1}),
        "holes.tar": (2, {"tar member with holes": 1}),
        "mapped.tar": (2, {"tar member with holes": 4}),
        "bomb.tar": (1, {f"tar member over {MAX_RECORD_BYTES // MiB} MiB": 1}),
        "packed.tar": (0, {"file that is damaged or ends early": 1}),
        "repeated.parquet": (300, {}),
    }
    # lines of 32 MiB and values of 8 MiB, a few times over; not 6 GB, 512 MB, 2.4 GB
    assert max(peak for _, _, peak in found.values()) < 300, found


def test_a_line_that_is_too_long_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 100)
    source = write_rows(tmp_path / "a.jsonl", {"text": "one"}, {"text": "x" * 500}, {"text": "two"})
    docs, tally = read("jsonl", source)
    assert [doc.id for doc in docs] == ["a.jsonl:1", "a.jsonl:3"]
    assert [loss.where for loss in tally.losses] == ["a.jsonl:2"]
    monkeypatch.setattr(records, "MAX_SKIPPED_BYTES", 300)
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n' + "x" * 3 * MiB)
    docs, tally = read("jsonl", tmp_path / "b.jsonl")
    assert len(docs) == 1
    assert list(tally.counts("bad").values()) == [1, 1]
    assert "file without line breaks, not read further" in tally.counts("bad")


def test_a_text_without_an_end_is_no_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "MAX_LINE_BYTES", 1000)
    (tmp_path / "a.txt").write_text("one\n\n" + "a line\n" * 1000 + "\ntwo\n")
    docs, tally = read("text", tmp_path / "a.txt")
    assert [(doc.text, doc.id) for doc in docs] == [("one", "a.txt#0"), ("two", "a.txt#2")]
    assert [(loss.fate, loss.where) for loss in tally.losses] == [("bad", "a.txt#1")]


def test_data_that_unpacks_to_more_than_gzip_can_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.jpg": PNG, "1.txt": b"words", "2.bin": bytes(MiB)})
    data = path.read_bytes()
    for packing in (gzip, bz2, lzma):
        path.write_bytes(packing.compress(data))
        assert [doc.text for doc in read("pairs", path)[0]] == ["words"]
    path.write_bytes(lzma.compress(bytes(30 * MiB)))
    monkeypatch.setattr(tars, "MAX_RECORD_BYTES", MiB)
    with path.open("rb") as file, pytest.raises(OSError, match="over 1100 times its size"):
        tars.unpacked(file).read()


# --- one bad record costs one record


def test_values_of_a_json_list_are_read_one_by_one(tmp_path: Path) -> None:
    good = {"instruction": 'Say ["it", {\\', "output": "é \U0001f600"}
    values = [
        json.dumps(good),
        '{"instruction": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"instruction": ' + "9" * 400 + "}",
        '{"instruction": NaN, "output": "x"}',
        '{"instruction": "\\ud800", "output": "x"}',
        '{"instruction": x}',
        "[1]",
        json.dumps(good, ensure_ascii=False, indent=2),
    ]
    source = tmp_path / "a.json"
    source.write_text("\ufeff [" + " ,\n ".join(values) + "\n]\n", encoding="utf-8")
    docs, tally = read("instructions", source)
    assert [doc.id for doc in docs] == ["a.json[0]", "a.json[7]"]
    assert docs[0].text == docs[1].text == good["instruction"] + good["output"]
    assert [(loss.reason, loss.where) for loss in tally.losses] == [
        ("more than 100 values inside each other", "a.json[1]"),
        ("not JSON", "a.json[2]"),
        ("no instruction", "a.json[3]"),
        ("half a surrogate pair, no character", "a.json[4]"),
        ("not JSON", "a.json[5]"),
        ("not a JSON object", "a.json[6]"),
    ]


@pytest.mark.parametrize("content", ["", " ", "{}", '"a"', "[", '[{"a": 1}, {"a"', '[{"a": "]'])
def test_a_file_that_is_no_list_or_has_no_end_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json: expected a JSON list, found"):
        read("instructions", tmp_path / "a.json")
    docs, tally = read("instructions", tmp_path / "a.json", **KEEPING)
    assert (docs, tally.counts("bad").get("file that is damaged or ends early")) == ([], 1)


PLAIN: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.dictionaries(st.text(), PLAIN, max_size=4), max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    is_ascii=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_a_list_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[dict[str, Json]],
    indent: int | None,
    is_ascii: bool,
    chunk: int,
) -> None:
    path = tmp_path_factory.mktemp("j") / "a.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=is_ascii), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MiB", chunk)  # values lie across reads
        rows = list(read_rows(path, ImportConfig(), Tally()))
    assert [row.fields for row in rows] == json.loads(path.read_bytes())


def test_a_value_that_is_too_large_ends_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 2 * MiB)
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "x" * 9 * MiB}]))
    with pytest.raises(DataError, match="expected a JSON list of values up to 2 MiB, found more"):
        read("instructions", tmp_path / "a.json")


def test_a_list_that_is_cut_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "a.jsonl"
    whole = "".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(50))
    source.write_text(whole[:-8])
    docs, tally = read("jsonl", source)
    assert len(docs) == 49
    assert tally.counts("bad") == {"last line that ends early": 1}
    assert "a.jsonl:50: has no end and is no JSON; the source may be cut" in caplog.text
    source.write_text(whole.rstrip("\n"))
    assert len(read("jsonl", source)[0]) == 50


def test_rows_of_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("AA", "AB"):
        (tmp_path / "wiki" / name).mkdir(parents=True)
        write_rows(tmp_path / "wiki" / name / "wiki_00.jsonl", {"text": name}, "{")
    docs, tally = read("jsonl", tmp_path / "wiki")
    assert [doc.id for doc in docs] == ["AA/wiki_00.jsonl:1", "AB/wiki_00.jsonl:1"]
    assert [loss.where for loss in tally.losses] == ["AA/wiki_00.jsonl:2", "AB/wiki_00.jsonl:2"]


def test_a_file_that_may_not_be_read_is_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "a.jsonl", {"text": "one"})
    write_rows(tmp_path / "b.jsonl", {"text": "two"})
    real = Path.open

    def refuse(self: Path, *args: object, **options: object) -> object:
        if self.name == "a.jsonl":  # root may read everything
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"a\.jsonl: expected permission"):
        read("jsonl", tmp_path)
    docs, tally = read("jsonl", tmp_path, **KEEPING)
    assert [doc.text for doc in docs] == ["two"]
    assert tally.counts("bad") == {"file that is damaged or ends early": 1}


def test_rows_of_a_table_that_python_cannot_hold_are_bad_alone(tmp_path: Path) -> None:
    words = pyarrow.array([b"one", b"\xff\xfe", b"three"]).view(pyarrow.string())
    days = pyarrow.array([1, 2, 2**40]).cast(pyarrow.timestamp("s"))
    table = pyarrow.table({"text": words, "day": days})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    docs, tally = read("parquet", tmp_path / "a.parquet")
    assert [doc.id for doc in docs] == ["a.parquet[0]"]
    assert tally.counts("bad") == {"row that cannot be read": 2}


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ("[" * 50_000 + "]" * 50_000, "objects that are no Python literal"),
        ("-" * 50_000 + "1", "objects that are no Python literal"),
        ("{'phrase': " + "9" * 5000 + "}", "objects that are no Python literal"),
        (f"{{'phrase': [[0, 5, 0.1, 0.1, 0.5, 0.5, {'9' * 400}]]}}", None),
        ("{'phrase': [" + "1," * MiB + "]}", "objects over 1 MiB"),
    ],
)
def test_objects_of_a_tsv_are_no_danger(tmp_path: Path, objects: str, reason: str | None) -> None:
    source = tmp_path / "a.tsv"
    source.write_text(tsv_line("0a", "a dog", PNG, objects) + tsv_line("0b", "a cat", PNG, "{}"))
    docs, tally = read("grit", source, grit_mode="phrase")
    assert docs == []
    found = dict(tally.counts("bad"))
    assert found.pop("no noun_chunks") == 1
    assert list(found.values()) == [1]
    assert reason is None or list(found) == [reason]


def test_a_size_of_400_digits_is_none(tmp_path: Path) -> None:
    source = tmp_path / "a.tsv"
    source.write_text(tsv_line("0a", "a dog").replace("\t80\t", "\t" + "8" * 400 + "\t"))
    docs, tally = read("pairs", source)
    assert (docs, tally.counts("bad")) == ([], {"width or height that is no number": 1})


# --- headers of tars that somebody made up


def test_a_name_that_is_not_utf8_keeps_its_pair(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for name, data in (*pair("caf\xe9"), *pair("cafe")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    report = import_corpus("pairs", path, tmp_path / "out", config=make_config("pairs"))
    assert report.num_train == 2
    assert report.tally.counts("changed") == {"name that is not UTF-8": 2}
    rows = list(read_jsonl(tmp_path / "out" / "dropped.jsonl"))
    assert [row["where"] for row in rows] == ["a.tar/caf\\xe9.jpg", "a.tar/caf\\xe9.txt"]  # type: ignore[index,call-overload]


def test_members_that_are_no_files_are_told(tmp_path: Path) -> None:
    link = tarfile.TarInfo("b.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
    folder = tarfile.TarInfo("d")
    folder.type = tarfile.DIRTYPE
    docs, tally = read("pairs", with_members(tmp_path / "a.tar", link.tobuf(), folder.tobuf()))
    assert len(docs) == 2
    assert tally.counts("left out") == {"tar member that is no file": 1}


def test_headers_that_lead_nowhere_end_a_tar(tmp_path: Path) -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    back = tarfile.TarInfo("b.jpg")
    back.pax_headers = {"size": "-1024"}
    all_files = tarfile.TarInfo.create_pax_global_header
    many = [all_files({f"key{n}": "x" * 100}) for n in range(200)]
    chain = [tarfile.TarInfo.create_pax_global_header({"comment": "x"})] * 3000
    for headers in ([long_name.tobuf()], [back.tobuf(tarfile.PAX_FORMAT)], many, chain):
        path = with_members(tmp_path / "a.tar", *headers)
        with pytest.raises(DataError, match=r"a\.tar: expected a whole tar file, found"):
            read("pairs", path)
        _, tally = read("pairs", path, **KEEPING)
        assert tally.counts("bad") == {"file that is damaged or ends early": 1}
        write_rows(tmp_path / "a.jsonl", {"file": "nothing.png", "caption": "words"})
        with pytest.raises(DataError, match=r"a\.tar: expected a whole tar file, found"):
            read("coco", tmp_path / "a.jsonl")


@settings(max_examples=100, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=8)), max_size=4)
)
def test_a_tar_that_is_damaged_anywhere_is_read_or_is_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.tar"
    long = "x" * 120
    with_members(path, pax_sparse("b", map="0,1", size="5"), sparse_header("c", 9))
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(long))
    data = bytearray(path.read_bytes())
    for place, change in changes:
        start = place % len(data)
        data[start : start + len(change)] = change
    for start in range(0, len(data) - 511, 512):  # what is changed is not given away by a checksum
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b"        "
            data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
    path.write_bytes(data)
    tally = Tally()
    config = make_config("pairs", values=KEEPING)
    for _ in FORMATS["pairs"].read(path, config, tally):
        pass
    assert tally.num_documents + tally.num_bad > 0
