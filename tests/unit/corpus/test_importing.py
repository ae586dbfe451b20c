"""An import leaves two folders of shards and an account of every record, or nothing."""

import json
from pathlib import Path

import fsspec
import PIL.Image
import pytest
from click.testing import CliRunner

from kosmos.cli.data import command
from kosmos.corpus.formats.config import FolderConfig, ImportConfig
from kosmos.corpus.importing import import_corpus, is_heldout
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document, Text
from kosmos.errors import ConfigError, DataError
from kosmos.files import read_json, read_jsonl
from kosmos.image.codec import encode_png

CONFIG = ImportConfig()


def rows(path: Path, count: int, *, bad: int = 0) -> Path:
    lines = [json.dumps({"text": f"text {n}"}) for n in range(count)] + ["{"] * bad
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_record_is_kept_or_accounted_for(tmp_path: Path) -> None:
    source = rows(tmp_path / "a.jsonl", 100, bad=3)
    out = tmp_path / "out"
    report = import_corpus("jsonl", source, out, config=CONFIG, heldout_fraction=0.2)
    train, heldout = (ShardReader(out / name) for name in ("train", "heldout"))
    assert (len(train), len(heldout)) == (report.num_train, report.num_heldout)
    assert sorted(doc.text for doc in [*train, *heldout]) == sorted(f"text {n}" for n in range(100))
    assert 5 < len(heldout) < 40
    account = read_json(out / "report.json")
    assert isinstance(account, dict)
    assert account["bad"] == {"not JSON": 3}
    losses = list(read_jsonl(out / "dropped.jsonl"))
    assert losses[0] == {"fate": "bad", "reason": "not JSON", "where": "a.jsonl:101"}
    assert train.manifest["provenance"]["format"] == "jsonl"  # type: ignore[index,call-overload]


def test_the_side_follows_from_seed_and_source_alone(tmp_path: Path) -> None:
    one, two = (Document([Text(t)], id=t, meta={"source": "photo.jpg"}) for t in ("a", "b"))
    sides = [is_heldout(one, seed, 0.5) for seed in range(40)]
    assert sides == [is_heldout(two, seed, 0.5) for seed in range(40)]
    assert len(set(sides)) == 2


def test_too_many_bad_records_leave_nothing(tmp_path: Path) -> None:
    source = rows(tmp_path / "a.jsonl", 50, bad=10)
    with pytest.raises(DataError, match=r"expected at most 10% bad records, found 10 of 60: not J"):
        import_corpus("jsonl", source, tmp_path / "out", config=CONFIG)
    assert not (tmp_path / "out" / "train").exists()
    report = import_corpus("jsonl", source, tmp_path / "out", config=CONFIG, max_bad=0.2)
    assert report.num_train == 50


def test_an_empty_side_is_an_error(tmp_path: Path) -> None:
    source = rows(tmp_path / "a.jsonl", 2)
    with pytest.raises(DataError, match="for heldout/, found none among 2"):
        import_corpus("jsonl", source, tmp_path / "out", config=CONFIG, heldout_fraction=1e-9)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="for train/, found none among 0"):
        import_corpus("jsonl", tmp_path / "empty.jsonl", tmp_path / "out", config=CONFIG)


def test_documents_that_cannot_be_stored_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(
        '{"text": "good", "\\udc00": 1}\n{"text": "\\ud800 alone"}\n{"text": "good"}\n'
    )
    report = import_corpus("jsonl", source, tmp_path / "out", config=CONFIG)
    assert report.num_train == report.tally.num_documents == 1
    assert report.tally.counts("bad") == {"half a surrogate pair, no character": 2}


def test_a_test_set_is_all_held_out(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(encode_png(PIL.Image.new("RGB", (8, 6), "red")))
    row = {"file": "p.png", "expression": "it", "width": 8, "height": 6, "bbox_xyxy": [1, 1, 4, 4]}
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    report = import_corpus("refcoco", tmp_path / "r.jsonl", tmp_path / "out", config=FolderConfig())
    assert (report.num_train, report.num_heldout) == (0, 1)


def test_unknown_format_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of text, wikitext"):
        import_corpus("docx", tmp_path, tmp_path / "out", config=CONFIG)


def test_command_prints_the_account_and_keeps_an_earlier_import(tmp_path: Path) -> None:
    source = rows(tmp_path / "a.jsonl", 5)
    arguments = ["import", "jsonl", str(source), str(tmp_path / "out"), "--limit", "3", "--json"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert json.loads(result.stdout)["train"] == 3
    with pytest.raises(ConfigError, match="--force"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    result = CliRunner().invoke(command, [*arguments[:4], "--force"], catch_exceptions=False)
    assert "train 5  heldout 0" in result.stdout


def test_the_command_reads_what_lies_elsewhere(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/test-import/a.jsonl", b'{"text": "one"}\n{"text": "two"}\n')
    out = tmp_path / "out"
    result = CliRunner().invoke(command, ["import", "jsonl", "memory://test-import", str(out)])
    memory.rm("/test-import", recursive=True)
    assert result.exit_code == 0, result.output
    assert [doc.text for doc in ShardReader(out / "train")] == ["one", "two"]
