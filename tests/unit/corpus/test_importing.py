"""An import leaves two folders of shards and an account of every record, or nothing."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import PIL.Image
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.check.corpus import Expected
from kosmos.check.targets import check_source
from kosmos.cli.data import command
from kosmos.corpus.formats.config import FolderConfig, ImportConfig
from kosmos.corpus.formats.table import make_config
from kosmos.corpus.importing import import_corpus, is_heldout
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document, Text
from kosmos.errors import ConfigError, DataError
from kosmos.evaluate.runner import _dataset
from kosmos.evaluate.tasks.captioning import Captioning
from kosmos.files import read_json, read_jsonl
from kosmos.findings import Findings
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
    with pytest.raises(DataError, match="expected documents, found none in 0 records"):
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


# --- published as a whole


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_result_is_the_old_one_or_the_new_one_wherever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def run(name: str, count: int) -> None:
        source = rows(tmp_path / name, count)
        import_corpus("jsonl", source, out, config=CONFIG, heldout_fraction=0.3)

    run("new.jsonl", 60)
    new = contents(out)
    run("old.jsonl", 30)
    old = contents(out)
    calls = 0
    real = {name: getattr(os, name) for name in ("replace", "mkdir", "fsync", "open")}

    def counted(name: str, at: int) -> object:
        def call(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls >= at:
                raise KeyboardInterrupt
            return real[name](*args, **options)

        return call

    ends = []
    for at in range(1, 60):
        calls = 0
        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, counted(name, at))
            with contextlib.suppress(KeyboardInterrupt):
                run("new.jsonl", 60)
        found = contents(out)
        assert found in (old, new), at
        ends.append(found == new)
        if found == new:
            break
    assert ends[-1]
    assert len(ends) > 5


def test_two_imports_at_once_do_not_mix(tmp_path: Path) -> None:
    source = rows(tmp_path / "a.jsonl", 30)
    out = tmp_path / "out"
    code = (
        "import sys, pathlib; from kosmos.files import atomic_folder\n"
        f"with atomic_folder(pathlib.Path({str(out)!r})):\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="expected no other process at it"):
            import_corpus("jsonl", source, out, config=CONFIG)
        other.communicate("\n")
    assert import_corpus("jsonl", source, out, config=CONFIG).num_train == 30


@pytest.mark.parametrize("name", ["notes.txt", "train/mine.jpg", "train/notes.tar"])
def test_what_is_no_earlier_import_is_not_replaced(tmp_path: Path, name: str) -> None:
    source = rows(tmp_path / "a.jsonl", 5)
    out = tmp_path / "out"
    import_corpus("jsonl", source, out, config=CONFIG)
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(ConfigError, match=f"{name}.* in it"):
        import_corpus("jsonl", source, out, config=CONFIG)
    assert contents(out) == before


def test_a_failed_import_keeps_the_earlier_one_and_lists_its_losses(tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_corpus("jsonl", rows(tmp_path / "a.jsonl", 30), out, config=CONFIG)
    before = contents(out)
    with pytest.raises(DataError, match="found 10 of 40") as caught:
        import_corpus("jsonl", rows(tmp_path / "b.jsonl", 30, bad=10), out, config=CONFIG)
    after = contents(out)
    refused = after.pop("refused.jsonl")
    assert after == before
    assert len(refused.splitlines()) == 10
    assert str(out / "refused.jsonl") in str(caught.value.hint)
    import_corpus("jsonl", tmp_path / "a.jsonl", out, config=CONFIG)
    assert contents(out) == before


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_documents": 0},
        {"max_documents": -1},
        {"max_bad": float("nan")},
        {"max_bad": 5.0},
        {"max_bad": -0.1},
        {"heldout_fraction": float("nan")},
        {"heldout_fraction": 1.5},
    ],
)
def test_impossible_numbers_are_refused_with_their_range(
    tmp_path: Path, numbers: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"expected (\[0, 1\]|at least 1), found"):
        import_corpus(
            "jsonl", rows(tmp_path / "a.jsonl", 5), tmp_path / "out", config=CONFIG, **numbers
        )
    assert not (tmp_path / "out").exists()


# --- held-out data


def test_a_test_set_and_a_corpus_of_the_same_pictures_share_none(tmp_path: Path) -> None:
    lines = []
    for number in range(48):
        name = f"COCO_{number}.png"
        (tmp_path / name).write_bytes(encode_png(PIL.Image.new("RGB", (8, 6), (number, 9, 9))))
        lines.append(json.dumps({"file": name, "captions": [f"one {number}", f"two {number}"]}))
    source = tmp_path / "c.jsonl"
    source.write_text("\n".join(lines) + "\n")
    sides = {}
    for format_name in ("coco", "coco-references"):
        out = tmp_path / format_name
        config = make_config(format_name)
        import_corpus(format_name, source, out, config=config, heldout_fraction=0.2)
        for side in ("train", "heldout"):
            found = {str(doc.meta["source"]) for doc in ShardReader(out / side)}
            sides[format_name, side] = found
    assert sides["coco-references", "heldout"] == sides["coco", "heldout"]
    assert not sides["coco-references", "heldout"] & sides["coco", "train"]
    assert sides["coco-references", "train"] == set()
    assert 0 < len(sides["coco", "heldout"]) < 24
    report = import_corpus(
        "coco-references", source, tmp_path / "all", config=make_config("coco-references")
    )
    assert report.num_heldout == 48


# --- what is checked is what is imported


def captions(folder: Path, good: int, broken: int, lost: int, twice: int) -> Path:
    """Captions of pictures that are there, do not decode, or are not there; some come twice."""
    folder.mkdir()
    data = encode_png(PIL.Image.new("RGB", (8, 6), "red"))
    names = [f"g{n}.png" for n in range(good)] + [f"b{n}.png" for n in range(broken)]
    for name in names:
        (folder / name).write_bytes(data if name[0] == "g" else data[:20])
    names += [f"l{n}.png" for n in range(lost)]
    lines = [{"question_id": n, "file": n, "question": "?", "answer": "x"} for n in names]
    lines += [{"question_id": n, "file": n, "question": "!", "answer": "y"} for n in names[:twice]]
    (folder / "q.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder / "q.jsonl"


def agree(source: Path, out: Path) -> bool:
    """Whether the import succeeds; the check must say the same."""
    findings = Findings()
    config = make_config("questions")
    check_source("questions", source, findings, Expected(), config=config)
    try:
        import_corpus("questions", source, out, config=config)
    except DataError:
        assert findings.num("error") > 0
        return False
    assert [f.what for f in findings if f.severity == "error"] == []
    return True


def test_a_check_promises_nothing_that_the_import_refuses(tmp_path: Path) -> None:
    assert not agree(captions(tmp_path / "a", 100, 14, 200, 0), tmp_path / "out")
    assert agree(captions(tmp_path / "b", 100, 11, 200, 0), tmp_path / "out")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 40), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_a_source_has_no_errors_if_and_only_if_it_is_imported(
    tmp_path_factory: pytest.TempPathFactory, good: int, broken: int, lost: int, twice: int
) -> None:
    folder = tmp_path_factory.mktemp("agree")
    agree(captions(folder / "in", good, broken, lost, twice), folder / "out")


def test_what_an_import_of_a_test_set_leaves_can_be_evaluated(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(encode_png(PIL.Image.new("RGB", (8, 6), "red")))
    source = tmp_path / "c.jsonl"
    source.write_text('{"file": "p.png", "captions": ["one"]}\n')
    for name in ("coco", "coco-references"):
        config = make_config(name)
        fraction = 1.0
        import_corpus(name, source, tmp_path / name, config=config, heldout_fraction=fraction)
    assert len(_dataset(Captioning(), tmp_path / "coco-references")) == 1
    assert len(_dataset(Captioning(), tmp_path / "coco-references" / "heldout")) == 1
    with pytest.raises(DataError, match="expected a folder of shards for captioning"):
        _dataset(Captioning(), tmp_path / "coco")
