"""kosmos.check.targets, kosmos.check.corpus and kosmos.check.shardscan."""

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from kosmos.boxes import Box
from kosmos.check.corpus import Expected
from kosmos.check.rowcount import RowCount
from kosmos.check.targets import Checked, check_apart, check_shards, check_source
from kosmos.corpus.formats.table import make_config
from kosmos.data.config import LongLines, Packing, RowConfig
from kosmos.data.index import Index
from kosmos.data.indexing import open_index
from kosmos.data.usable import Usable, encode_usable
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError
from kosmos.findings import Finding, Findings
from kosmos.image.codec import encode_jpeg, encode_png
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from tests.tiny_run import caption_document, page_document, text_document, write_shards


def noise(seed: int, size: int = 40) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def pair(number: int, text: str = "", **fields: object) -> Document:
    words = text or f"picture number {number}"
    return Document([Image(encode_png(noise(number))), Text(words)], id=f"pair-{number}", **fields)  # type: ignore[arg-type]


def shards(folder: Path, docs: list[Document]) -> Path:
    return write_shards(folder / "shards", docs)


def check(folder: Path, **expected: object) -> tuple[Checked, list[Finding]]:
    findings = Findings()
    checked = check_shards(folder, findings, Expected(**expected), where="it")  # type: ignore[arg-type]
    return checked, list(findings)


def told(found: list[Finding]) -> dict[str, tuple[str, int]]:
    return {finding.what: (finding.severity, finding.count) for finding in found}


def test_good_shards_give_no_finding(tmp_path: Path) -> None:
    checked, found = check(shards(tmp_path, [pair(n) for n in range(40)]))
    assert found == []
    assert checked.is_whole
    assert (checked.facts.documents, checked.facts.usable, checked.facts.decoded) == (40, 40, 40)


def test_a_truncated_shard_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    folder = shards(tmp_path, [pair(n) for n in range(40)])
    whole = (folder / "00001.tar").read_bytes()
    (folder / "00001.tar").write_bytes(whole[: len(whole) // 2])
    checked, found = check(folder)
    assert told(found) == {"truncated shards": ("error", 1)}
    assert "documents can be read" in found[0].examples[0]
    assert found[0].examples[0].startswith("00001.tar: expected ")
    # 16 a shard: those of the first and last, and some of the second
    assert 24 < checked.facts.documents < 40


def test_a_changed_byte_a_missing_and_a_stray_file_are_named(tmp_path: Path) -> None:
    folder = shards(tmp_path, [pair(n) for n in range(40)])
    data = bytearray((folder / "00000.tar").read_bytes())
    data[data.index(b"picture number 3")] = ord("P")
    (folder / "00000.tar").write_bytes(data)
    (folder / "00002.tar").unlink()
    (folder / "notes.txt").write_text("mine")
    checked, found = check(folder)
    assert told(found) == {
        "files of another SHA-256 than in the manifest": ("error", 1),
        "files of the manifest that are missing": ("error", 1),
        "files that the manifest does not know": ("warning", 1),
    }
    assert checked.facts.documents == 32


def test_a_damaged_index_and_a_moved_document_are_named(tmp_path: Path) -> None:
    folder = shards(tmp_path, [pair(n) for n in range(5)])
    index = np.load(folder / "index.npy")
    index[2, 1] += 512
    np.save(folder / "index.npy", index)
    _, found = check(folder)
    assert set(told(found)) == {
        "files of another SHA-256 than in the manifest",
        "documents that the index has elsewhere",
    }
    (folder / "index.npy").write_bytes(b"nothing")
    checked, found = check(folder)
    assert "an index that cannot be read" in told(found)
    assert checked.facts.documents == 5


def test_a_shard_that_is_no_tar_is_named(tmp_path: Path) -> None:
    folder = shards(tmp_path, [pair(n) for n in range(3)])
    size = (folder / "00000.tar").stat().st_size
    (folder / "00000.tar").write_bytes(b"x" * size)
    _, found = check(folder)
    assert "files of another SHA-256 than in the manifest" in told(found)
    assert "shards that are no whole tar files" in told(found)


@pytest.mark.parametrize(
    ("name", "words"), [("none", "nothing there"), ("folder", "without manifest.json")]
)
def test_what_is_no_folder_of_shards_is_said(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    checked, found = check(tmp_path / name)
    assert [finding.severity for finding in found] == ["error"]
    assert words in found[0].what
    assert checked.facts.documents == 0


def test_an_empty_folder_of_shards_is_an_error(tmp_path: Path) -> None:
    _, found = check(shards(tmp_path, []))
    assert told(found) == {"expected documents, found none": ("error", 0)}


def test_pictures_that_do_not_decode_are_found_by_every_pixel(tmp_path: Path) -> None:
    whole = encode_jpeg(noise(0, 200))
    docs = [pair(n) for n in range(30)]
    docs[7] = Document([Image(whole[: len(whole) // 2]), Text("a half")], id="half")
    checked, found = check(shards(tmp_path, docs))
    kind = "unreadable image: expected a whole picture"
    # 1 of 30 is more than the hundredth that a stream allows
    assert told(found) == {kind: ("error", 1)}
    assert "'half'" in found[0].examples[0]
    assert checked.facts.unusable == {"unreadable image": 1}
    _, found = check(tmp_path / "shards", max_unusable=0.5)
    assert told(found) == {kind: ("warning", 1)}


def test_a_sample_decodes_as_many_documents_as_it_says_and_the_same_ones(tmp_path: Path) -> None:
    folder = shards(tmp_path, [pair(n) for n in range(30)])
    checked, _ = check(folder, sample=7)
    assert (checked.facts.documents, checked.facts.decoded) == (30, 7)
    docs = [
        Document([Image(encode_png(PIL.Image.new("RGB", (n + 1, 9)))), Text("a")])
        for n in range(30)
    ]
    grey = write_shards(tmp_path / "grey", docs)
    examples = [check(grey, sample=3, seed=seed)[1][0].examples for seed in (0, 0, 1)]
    assert examples[0] == examples[1] != examples[2]


def test_pictures_of_one_color_and_captions_with_tabs_are_counted(tmp_path: Path) -> None:
    docs = [pair(n) for n in range(25)]
    docs[3] = Document([Image(encode_png(PIL.Image.new("RGB", (9, 9)))), Text("black")], id="x")
    docs[4] = pair(4, "one\ttwo")
    docs[5] = pair(5, "one\ntwo")
    _, found = check(shards(tmp_path, docs))
    assert told(found) == {
        "pictures of a single color": ("warning", 1),
        "captions with tabs or line breaks": ("warning", 2),
    }
    assert found[0].total == 25


def test_boxes_that_training_refuses_have_its_message(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    docs = [caption_document(n) for n in range(5)]
    picture = Image(encode_png(noise(0)))
    docs += [
        Document([picture, Grounded("a dog", [Box(0.5, 0.5, 0.2, 0.9)])], id="reversed"),
        Document([picture, Grounded("a dog", [Box(10.0, 10.0, 90.0, 90.0)])], id="pixels"),
        Document([picture, Grounded(" ", [Box(0.0, 0.0, 1.0, 1.0)]), Text("words")], id="blank"),
        Document([Grounded("a dog", [Box(0.0, 0.0, 1.0, 1.0)])], id="no picture"),
        Document([picture], id="no words"),
    ]
    folder = shards(tmp_path, docs)
    rows = RowConfig(layout=run.data.layout, image=run.data.image)
    with_tokenizer = check(folder, tokenizer=tokenizer, rows=rows)[1]
    without = check(folder)[1]
    expected = {
        "cannot be encoded: expected x0 < x1 and y0 < y1",
        "cannot be encoded: expected box corners as fractions in [0, 1]",
        "cannot be encoded: expected the words that the boxes belong to",
        "cannot be encoded: expected an image before the boxes",
        "cannot be encoded: expected words to learn from",
    }
    assert expected <= set(told(with_tokenizer))
    assert expected <= set(told(without))


def test_check_and_index_find_the_same_documents_unusable(
    tmp_path: Path, run: Run, tokenizer: Tokenizer
) -> None:
    stream = run.data.streams[1]
    whole = encode_jpeg(noise(0, 200))
    docs = [caption_document(n) for n in range(20)]
    docs += [
        Document([Image(whole[:-300]), Text("a circle")], id="half"),
        Document([Text("a red circle. " * 200)], id="long"),
        Document([Text("a red circle.", loss=False)], id="silent"),
        Document([Image(whole), Grounded("a star", [Box(0.0, 0.0, 2.0, 1.0)])], id="outside"),
        Document([Image(whole[:-300]), Text("a red circle. " * 200)], id="half and long"),
    ]
    folder = shards(tmp_path, docs)
    checked, _ = check(
        folder,
        tokenizer=tokenizer,
        rows=run.data.rows(stream),
    )
    reader = ShardReader(folder)
    loose = replace(stream, max_unusable=1.0)
    index = open_index(loose, reader, tokenizer, run.data.rows(loose), tmp_path / "index")
    assert checked.facts.unusable == index.unusable
    assert checked.facts.rows == index.num_rows
    assert checked.facts.tokens_per_row == pytest.approx(index.num_positions / index.num_rows)


@pytest.mark.parametrize(
    ("packing", "max_tokens", "long_lines"),
    [
        ("single", 128, "cut"),
        ("isolated", 90, "cut"),
        ("isolated", 400, "cut"),
        ("full-sentence", 20, "cut"),
        ("full-sentence", 20, "carry"),
        ("full-sentence", 128, "cut"),
    ],
)
def test_rows_are_counted_as_packing_makes_them(
    packing: Packing,
    max_tokens: int,
    long_lines: LongLines,
    tmp_path: Path,
    run: Run,
    tokenizer: Tokenizer,
) -> None:
    docs = [text_document(n) for n in range(60)] + [page_document(n) for n in range(4)]
    stream = replace(
        run.data.streams[0],
        packing=packing,
        max_tokens=max_tokens,
        max_unusable=1.0,
        line_tokens=True,
        long_lines=long_lines,
    )
    cutting = (20, 90, 128) if packing != "full-sentence" else (20,) * (long_lines == "cut")
    reader = ShardReader(shards(tmp_path, docs))
    config = run.data.rows(stream)
    index: Index = open_index(stream, reader, tokenizer, config, tmp_path / "index")
    rows = RowCount(config)
    for doc in docs:
        found = encode_usable(doc, tokenizer, config)
        if isinstance(found, Usable):
            rows.add(found)
    assert rows.num_rows == index.num_rows
    assert rows.num_tokens == index.report["num_tokens"]
    dropped = index.report["dropped"]
    assert isinstance(dropped, dict)
    assert rows.num_cut_tokens == dropped["tokens"]
    assert (rows.num_cut_tokens > 0) == (max_tokens in cutting)


def test_repeated_documents_and_captions_are_told_apart(tmp_path: Path) -> None:
    same = [Document([Image(encode_png(noise(1))), Text("twice")]) for _ in range(4)]
    docs = [
        *same,
        *[pair(n, "a stock photo") for n in range(20)],
        *[pair(n) for n in range(20, 40)],
    ]
    checked, found = check(shards(tmp_path, docs))
    assert told(found) == {
        "documents that stood there before, 6.8% of all": ("warning", 0),
        "captions that stood there before, 50.0% of all": ("warning", 0),
    }
    assert checked.facts.repeated == pytest.approx(3 / 44)
    assert found[1].examples == ["'a stock photo': 20 times"]


def test_spans_that_cut_words_are_a_warning(tmp_path: Path) -> None:
    picture = Image(encode_png(noise(0)))
    docs = [
        Document(
            [
                picture,
                Text("a d"),
                Grounded("og ru", [Box(0.0, 0.0, 0.5, n / 20 + 0.1)]),
                Text("ns"),
            ]
        )
        for n in range(10)
    ]
    _, found = check(shards(tmp_path, docs))
    kind = "phrases that begin or end inside a word: spans that do not match the caption"
    assert told(found)[kind] == ("warning", 20)


def test_boxes_in_pixels_are_one_verdict_with_evidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    docs = []
    for n in range(30):
        x0, y0 = rng.uniform(0, 20, 2)
        box = Box(x0, y0, x0 + 10, y0 + 15)
        docs.append(Document([Image(encode_png(noise(n))), Grounded("a dog", [box])]))
    _, found = check(shards(tmp_path, docs))
    verdicts = [finding for finding in found if "found pixels, x0 y0 x1 y1" in finding.what]
    assert len(verdicts) == 1
    assert verdicts[0].severity == "error"
    assert len(verdicts[0].examples) == 3
    assert "Box.from_pixels" in verdicts[0].hint


def test_heldout_documents_that_are_trained_on_are_an_error(tmp_path: Path) -> None:
    findings = Findings()
    train = check_shards(
        write_shards(tmp_path / "train", [pair(n) for n in range(10)]), findings, Expected()
    )
    apart = check_shards(
        write_shards(tmp_path / "apart", [pair(n) for n in range(10, 14)]), findings, Expected()
    )
    leaking = check_shards(
        write_shards(tmp_path / "leaking", [pair(n) for n in range(8, 12)]), findings, Expected()
    )
    check_apart(train, apart, findings)
    assert list(findings) == []
    check_apart(train, leaking, findings)
    assert [(finding.severity, finding.what) for finding in findings] == [
        ("error", "documents that are trained on as well, 50.0% of all")
    ]


@pytest.mark.parametrize(("num_shared", "severity"), [(0, ""), (1, "warning"), (2, "error")])
def test_a_few_heldout_documents_that_are_trained_on_are_a_warning(
    tmp_path: Path, num_shared: int, severity: str
) -> None:
    # a twentieth of 40 is what makes it an error
    docs = [Document([Text(f"text number {n}")], id=str(n)) for n in range(50)]
    findings = Findings()
    train, heldout = (
        check_shards(write_shards(tmp_path / name, part), findings, Expected(), where=name)
        for name, part in (("train", docs[: 10 + num_shared]), ("heldout", docs[10:]))
    )
    check_apart(train, heldout, findings)
    found = [(finding.where, finding.severity) for finding in findings]
    assert found == ([("heldout", severity)] if severity else [])


def test_ctrl_c_tells_what_was_found_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shards(tmp_path, [pair(n, "a\tb") for n in range(40)])
    seen = 0

    def stop(self: object, count: int = 1, **fields: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 25:
            raise KeyboardInterrupt

    monkeypatch.setattr("kosmos.logs.Progress.advance", stop)
    checked, found = check(folder)
    assert not checked.is_whole
    assert checked.facts.documents == 25
    assert told(found)["captions with tabs or line breaks"] == ("warning", 25)
    assert any(finding.what.startswith("interrupted after 25") for finding in found)


# --- sources


def source_check(format_name: str, source: Path, **config: object) -> tuple[Checked, list[Finding]]:
    findings = Findings()
    checked = check_source(
        format_name,
        source,
        findings,
        Expected(),
        config=make_config(format_name, values=config),
    )
    return checked, list(findings)


def grit_rows(folder: Path, count: int = 30, **change: object) -> Path:
    noise(0).save(folder / "a.png")
    rng = np.random.default_rng(0)
    rows = []
    for n in range(count):
        x0, y0, w, h = rng.uniform(0.05, 0.5, 4)
        span = [0, 5, x0, y0, x0 + w, y0 + h, 0.9]
        row = {"file": "a.png", "caption": f"a dog {n}", "noun_chunks": [span], "ref_exps": [span]}
        rows.append({**row, **change})
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_a_source_is_read_without_writing(tmp_path: Path) -> None:
    rows = grit_rows(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    checked, found = source_check("grit", rows)
    assert sorted(tmp_path.rglob("*")) == before
    assert (checked.facts.documents, checked.facts.boxes) == (30, 30)
    assert all(finding.severity == "note" for finding in found)


def test_boxes_of_a_source_are_seen_before_they_are_cut(tmp_path: Path) -> None:
    rows = grit_rows(tmp_path)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for line in lines:
        for column in ("noun_chunks", "ref_exps"):
            line[column] = [[s, e, *(v * 40 for v in box), c] for s, e, *box, c in line[column]]
    rows.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    _, found = source_check("grit", rows)
    assert any(f.severity == "error" and "found pixels" in f.what for f in found)


def test_rows_that_are_not_as_the_format_says_are_counted_by_reason(tmp_path: Path) -> None:
    rows = grit_rows(tmp_path, noun_chunks=[[0, 500, 0, 0, 1, 1, 0.9]])
    checked, found = source_check("grit", rows, grit_mode="phrase")
    assert checked.facts.documents == 0
    kinds = {finding.what.partition(": ")[0]: finding.severity for finding in found}
    assert kinds["bad"] == "error"
    assert any("found none in 30 records" in finding.what for finding in found)


def test_a_truncated_tar_ends_the_reading_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tar"
    with tarfile.open(path, "w") as tar:
        for n in range(6):
            for suffix, data in (("png", encode_png(noise(n))), ("txt", f"picture {n}".encode())):
                file = tmp_path / "member"
                file.write_bytes(data)
                tar.add(file, f"{n:05d}.{suffix}")
    path.write_bytes(path.read_bytes()[:20_000])
    checked, found = source_check("pairs", path)
    errors = [finding for finding in found if finding.severity == "error"]
    assert len(errors) == 1
    assert "expected a whole tar file" in errors[0].what
    assert 0 < checked.facts.documents < 6


def test_an_unknown_format_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        source_check("gritty", tmp_path)


def test_real_sets_pass(shared_data: Path) -> None:
    checked, found = source_check(
        "grit",
        shared_data / "grounding/coco_grit_schema_dev.jsonl",
        images=str(shared_data / "coco"),
    )
    assert (checked.facts.documents, checked.facts.boxes, found) == (296, 550, [])
    checked, found = source_check("pairs", shared_data / "pairs")
    assert (checked.facts.documents, found) == (32, [])


def test_pages_without_their_pictures_are_an_error(shared_data: Path) -> None:
    checked, found = source_check("mmc4", shared_data / "web/mmc4_dev.jsonl")
    assert checked.facts.documents == 0
    assert found[0].what == "expected documents, found none in 55 records"
    assert found[0].hint == "--images may name the wrong folder"


def test_shards_that_lie_elsewhere_are_read_where_they_lie(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    folder = shards(tmp_path, [pair(n) for n in range(20)])
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/check/remote", recursive=True)
    findings = Findings()
    checked = check_shards("memory://check/remote", findings, Expected())
    assert (checked.facts.documents, list(findings)) == (20, [])
    memory.pipe("/check/remote/00001.tar", memory.cat("/check/remote/00001.tar")[:5000])
    check_shards("memory://check/remote", findings, Expected())
    assert [finding.what for finding in findings] == ["truncated shards"]


def test_a_copy_is_as_good(tmp_path: Path) -> None:
    folder = shards(tmp_path, [pair(n) for n in range(3)])
    shutil.copytree(folder, tmp_path / "copy")
    assert check(tmp_path / "copy")[1] == []
